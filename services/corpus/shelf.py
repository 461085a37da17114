"""Keeps the passages that were searched last open, each with a search index built on demand.

An index is a copy of an artifact and may be lost at any time, to another process too where several
share an engine: it is built again, at once, when its number of entries is not the artifact's or a
search finds it gone. So a search sees all passages of its artifact, and it does not matter who
built the index, nor how often.
"""

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from libs.artifacts import Artifact
from libs.errors import Busy, NotFound
from libs.formats import PASSAGES, read_rows
from libs.search.port import Entry, Hit, Search, Searchable
from services.corpus import metrics
from services.corpus.records import Row

_TRIES = 3
"""How often an index may be gone when it is searched, in one call."""


@dataclass(frozen=True, kw_only=True)
class Opened:
    """The passages of one artifact, by id, and the index over exactly those."""

    passages: Mapping[str, Row]
    index: Searchable


class Shelf:
    """Opened passages by artifact id; threads may share it."""

    def __init__(self, search: Search, *, max_indexes: int) -> None:
        self._search, self._max_indexes = search, max_indexes
        self._opened: OrderedDict[str, Opened] = OrderedDict()
        self._lock = threading.Lock()

    def open(self, artifact: Artifact) -> Opened:
        """Return the passages of an artifact of kind `passages`, ready to be searched.

        Raises:
            Corrupt: bytes do not match their digests.
            NotFound: a document of it was forgotten; another artifact stands in its place.
        """
        artifact.path("passages.parquet")  # what is open here may be forgotten elsewhere
        with self._lock:
            if artifact.id not in self._opened:
                self._opened[artifact.id] = self._load(artifact)
            self._opened.move_to_end(artifact.id)
            while len(self._opened) > self._max_indexes:
                # Whoever still searches it goes on, or builds it again.
                oldest = next(iter(self._opened))
                self._search.drop(oldest)
                del self._opened[oldest]
            return self._opened[artifact.id]

    def drop(self, artifact_id: str) -> None:
        """Close the passages of an artifact and remove their index, open or not."""
        with self._lock:
            self._opened.pop(artifact_id, None)
            self._search.drop(artifact_id)

    def _load(self, artifact: Artifact) -> Opened:
        rows = read_rows(artifact.path("passages.parquet"), PASSAGES)
        passages = {row["passage_id"]: row for row in rows}
        return Opened(passages=passages, index=_Copy(self._search, artifact.id, passages))


class _Copy:
    """The index over the passages of one artifact."""

    def __init__(self, search: Search, name: str, passages: Mapping[str, Row]) -> None:
        self._search, self._name, self._passages = search, name, passages
        self._index = search.index(name)
        if not self._is_whole():
            self._build()

    def search(self, queries: Sequence[str], *, top_k: int) -> list[list[Hit]]:
        """See `Searchable.search`."""
        for _ in range(_TRIES):
            try:
                return self._index.search(queries, top_k=top_k)
            except NotFound:
                self._build()
        raise Busy(f"index {self._name} was dropped {_TRIES} times while it was searched")

    def _is_whole(self) -> bool:
        try:
            return len(self._index) == len(self._passages)
        except NotFound:
            return False

    def _build(self) -> None:
        entries = (Entry(id_, row["text"]) for id_, row in self._passages.items())
        self._search.rebuild(self._name, entries)
        self._index = self._search.index(self._name)
        metrics.PASSAGES_INDEXED.inc(len(self._passages))
