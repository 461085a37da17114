"""Tables that one service writes and another reads: column names, types and schema version.

Parquet with zstd, readable by `datasets.load_dataset("parquet", ...)`. Rows are sorted by their
first column unless said otherwise, so that equal content gives equal bytes.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from libs.errors import Corrupt, InvalidInput
from libs.schema import Schema, unchanged

SCHEMA = Schema(name="a table", version=1, migrations={0: unchanged})
"""Of all tables; 0 stands for tables that others made, which carry none."""
CERTIFICATE = Schema(name="a certificate", version=1)
VERSION_KEY = b"athanor_schema"
"""Where a table's metadata carries its schema version."""


def table_schema(**columns: pa.DataType) -> pa.Schema:
    """Return the columns of a table, with the schema version that is written."""
    return pa.schema(list(columns.items()), metadata={VERSION_KEY: str(SCHEMA.version)})


DOCUMENTS = table_schema(
    document_id=pa.string(),  # sha256 of url and text
    url=pa.string(),
    title=pa.string(),
    topic=pa.string(),  # empty if unknown
    source=pa.string(),  # crawl or folder
    text_sha256=pa.string(),
    num_words=pa.int32(),
    num_passages=pa.int32(),
)
PASSAGES = table_schema(
    passage_id=pa.string(),  # sha256 of the passage's normalised words joined by a space
    document_id=pa.string(),
    url=pa.string(),
    topic=pa.string(),
    position=pa.int32(),  # of the passage in its document, from 0
    num_words=pa.int32(),
    text=pa.string(),
)
REFUSALS = table_schema(id=pa.string(), reason=pa.string(), detail=pa.string())
"""What was refused: address or passage id, the reason's name, one sentence."""
QUERIES = table_schema(
    query_id=pa.string(),
    text=pa.string(),
    kind=pa.string(),  # seed, template or feedback
    parent_id=pa.string(),  # query it was made from; empty for seeds
    topic=pa.string(),
    item_id=pa.string(),  # exam item whose stem is the seed
    depth=pa.int32(),
)
HITS = table_schema(
    passage_id=pa.string(), query_id=pa.string(), rank=pa.int32(), score=pa.float64()
)
ITEMS = table_schema(
    item_id=pa.string(),
    topic=pa.string(),
    document_id=pa.string(),  # items of one document are clustered; the item's id if there is none
    stem=pa.string(),
    options=pa.list_(pa.string()),
    key=pa.int32(),  # index of the right option
    half=pa.string(),  # diagnosis or decision
)
HOLDOUT = table_schema(passage_id=pa.string())
"""Passages that an exam was made from: never indexed."""
EXAM_TEXTS = table_schema(item_id=pa.string(), exam_id=pa.string(), text=pa.string())
"""Every stem, option and key of a frozen set, one row a text, sorted by all columns."""
RESPONSES = table_schema(
    item_id=pa.string(),
    weights_digest=pa.string(),
    topic=pa.string(),
    document_id=pa.string(),
    key=pa.int32(),
    chosen=pa.int32(),
    correct=pa.bool_(),
    log_likelihoods=pa.list_(pa.float64()),  # nats, summed over the option's tokens
    num_tokens=pa.list_(pa.int32()),
    num_stem_tokens_cut=pa.int32(),  # off the stem's left, to fit the model's context
)
TOKEN_COUNTS = table_schema(passage_id=pa.string(), num_tokens=pa.int32())
LOSSES = table_schema(step=pa.int32(), loss=pa.float64(), learning_rate=pa.float64())
"""Loss in nats per token, one row a step, from 0."""


def write_table(path: Path, schema: pa.Schema, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows in the order given; a row that does not fit the schema raises `InvalidInput`."""
    try:
        table = pa.Table.from_pylist(list(rows), schema=schema)
    except (pa.ArrowInvalid, pa.ArrowTypeError, UnicodeEncodeError) as error:
        raise InvalidInput(f"{path.name}: rows must fit {schema.names}, got {error}") from error
    pq.write_table(table, path, compression="zstd")


def read_table(path: Path, schema: pa.Schema) -> pa.Table:
    """Read a table and check that it has the schema's columns.

    Raises:
        Corrupt: not Parquet, or cut.
        InvalidInput: other columns, or a newer schema version than this code reads.
    """
    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise Corrupt(f"{path.name}: expected Parquet, got {error}") from error
    _check_version(path, table.schema)
    missing = set(schema.names) - set(table.schema.names)
    if missing:
        raise InvalidInput(f"{path.name}: expected columns {schema.names}, without {missing}")
    return table.select(schema.names)


def _check_version(path: Path, schema: pa.Schema) -> None:
    found = (schema.metadata or {}).get(VERSION_KEY, b"0")
    named = replace(SCHEMA, name=f"{path.name}, {SCHEMA.name},")
    named.check(int(found) if found.isdigit() else found)


def read_rows(path: Path, schema: pa.Schema) -> list[dict[str, Any]]:
    """Read a table as one dict a row. Raises as `read_table`."""
    rows: list[dict[str, Any]] = read_table(path, schema).to_pylist()
    return rows


def write_json(path: Path, value: object) -> None:
    """Write canonical JSON: sorted keys, no white space, UTF-8."""
    path.write_bytes(canonical_json(value))


def canonical_json(value: object) -> bytes:
    """Return the one spelling of `value` that digests are taken over."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def read_json(path: Path) -> Any:
    """Read a JSON file. Raises `Corrupt` when it is none."""
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise Corrupt(f"{path.name}: expected JSON, got {error}") from error


def ids_sha256(ids: Iterable[str]) -> str:
    """Digest of a set of ids: sha256 over the sorted ids, a line each."""
    return hashlib.sha256("\n".join(sorted(set(ids))).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """Says that no passage of a set overlaps an exam of a frozen set. File `certificate.json`."""

    exam_set_id: str
    passages_sha256: str
    """`ids_sha256` of the passages that were kept."""
    texts_sha256: str
    """`ids_sha256` of the sha256 of every exam text that was checked against."""
    num_passages: int
    num_items: int
    num_dropped: int
    """Passages that overlapped and were left out."""
    ngram_words: int = 13
    segmenter_version: int = 1

    def write(self, folder: Path) -> None:
        """Write `certificate.json`."""
        write_json(folder / "certificate.json", CERTIFICATE.stamped(asdict(self)))

    @classmethod
    def read(cls, path: Path) -> "Certificate":
        """Read a certificate.

        Raises:
            Corrupt: the file is none.
            InvalidInput: a newer version of Athanor wrote it.
        """
        fields = CERTIFICATE.read(path.read_bytes())
        try:
            return cls(**fields)
        except TypeError as error:
            raise Corrupt(f"{path}: expected a certificate, got {error}") from error
