"""What is stored of an entry, and how Elasticsearch is told to index it.

Terms are made here and only split there, at white space; BM25 has the constants of
`libs.search.rank`. Whatever scoring needs can be asked for, so nothing is kept beside the index.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from libs.schema import KEY, Schema
from libs.search.port import Entry
from libs.search.rank import K1, B
from libs.words import TERMS_VERSION, terms

SCHEMA = Schema(name="a search index", version=1)
"""Of what is stored; rises with `document` and `mappings`."""
TERMS = Schema(name="a search index of terms", version=TERMS_VERSION)
_MAX_UNITS = 255
"""UTF-16 units of a token: the white space analyser cuts a longer one into several."""


def meta() -> dict[str, int]:
    """Return what an index says of itself."""
    return {KEY: SCHEMA.version, "terms_version": TERMS.version}


def check(meta: Mapping[str, int]) -> None:
    """Raise unless an index that says this of itself can be read.

    Raises:
        Corrupt: an older Athanor wrote it, or none.
        InvalidInput: a newer one.
    """
    SCHEMA.check(meta.get(KEY))
    TERMS.check(meta.get("terms_version"))


def settings(num_shards: int) -> dict[str, Any]:
    """Return the settings of an index; what is written is seen at the next refresh only."""
    return {
        "number_of_shards": num_shards,
        "auto_expand_replicas": "0-1",
        "refresh_interval": "-1",
        # Removed entries, in percent, that a merge may leave: they loosen the bound of `exact`.
        "merge.policy.deletes_pct_allowed": 5,
        "similarity": {"bm25": {"type": "BM25", "k1": K1, "b": B}},
    }


def mappings() -> dict[str, Any]:
    """Return the fields of an index."""
    return {
        "dynamic": "strict",
        "_meta": meta(),
        "properties": {
            "id": {"type": "keyword", "index": False, "doc_values": False},
            "terms": {
                "type": "text",
                "analyzer": "whitespace",
                "similarity": "bm25",
                "index_options": "freqs",
            },
            "length": {"type": "integer", "index": False},
        },
    }


def key(id_: str) -> str:
    """Return the `_id` of an entry: an id may be longer than the 512 bytes allowed there."""
    return hashlib.sha256(id_.encode()).hexdigest()


def document(entry: Entry) -> dict[str, Any]:
    """Return what is stored of an entry; one without terms has no field of terms."""
    found = split(entry.text)
    stored = {"id": entry.id, "length": len(found)}
    return stored | {"terms": " ".join(found)} if found else stored


def frequencies(stored: Mapping[str, Any]) -> Mapping[str, int]:
    """Return the terms of a stored document with the times that it has each."""
    return _counted(stored["terms"])


@lru_cache(1 << 12)
def _counted(joined: str) -> Mapping[str, int]:
    return Counter(joined.split(" "))


def split(text: str) -> list[str]:
    """Return the terms of a text as they stand in the index."""
    return [_short(term) for term in terms(text)]


def _short(term: str) -> str:
    """Return the term, or a digest in its place when the analyser would cut it."""
    # Two units is the most that a character has.
    if 2 * len(term) <= _MAX_UNITS or len(term.encode("utf-16-le")) <= 2 * _MAX_UNITS:
        return term
    return hashlib.sha256(term.encode()).hexdigest()
