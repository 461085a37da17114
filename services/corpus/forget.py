"""Take a document out of the tables of an artifact: the same artifact, had it never been read.

What is derived from its text goes too: its passages, the queries that were fed back from them, and
what the report shows of either.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from libs.artifacts import Artifact
from libs.blocks import Block, write_blocks
from libs.formats import (
    DOCUMENTS,
    HITS,
    PASSAGES,
    QUERIES,
    REFUSALS,
    Certificate,
    ids_sha256,
    read_json,
    read_rows,
    write_json,
    write_table,
)
from services.corpus.queries import Kind

KINDS = ("documents", "passages")
"""Artifacts of the corpus that hold text of documents."""
Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Traces:
    """What is to be forgotten."""

    document_ids: frozenset[str] = frozenset()
    urls: frozenset[str] = frozenset()
    passage_ids: frozenset[str] = frozenset()

    def __or__(self, other: "Traces") -> "Traces":
        return Traces(
            document_ids=self.document_ids | other.document_ids,
            urls=self.urls | other.urls,
            passage_ids=self.passage_ids | other.passage_ids,
        )


def traces(artifact: Artifact, document: str) -> Traces:
    """Return what an artifact has of the documents with this id or this address."""
    passages, documents = _rows(artifact, "passages"), _rows(artifact, "documents")
    found = [row for row in (*documents, *passages) if document in (row["document_id"], row["url"])]
    return Traces(
        document_ids=frozenset(row["document_id"] for row in found),
        urls=frozenset(row["url"] for row in found),
        passage_ids=frozenset(row["passage_id"] for row in found if "passage_id" in row),
    )


def holds(artifact: Artifact, gone: Traces) -> bool:
    """Whether text of the documents stands in the artifact, or queries fed back from it may."""
    rows = (*_rows(artifact, "documents"), *_rows(artifact, "passages"))
    own = any(row["document_id"] in gone.document_ids for row in rows)
    return own or any(row["passage_id"] in gone.passage_ids for row in _rows(artifact, "hits"))


def write_without(artifact: Artifact, gone: Traces, out: Path) -> None:
    """Write every file of the artifact into `out`, without the documents."""
    rows = {name: _rows(artifact, name) for name in _SCHEMAS if _has(artifact, f"{name}.parquet")}
    tainted = _tainted(rows.get("queries", ()), rows.get("hits", ()), gone)
    # One text may stand in two documents: then it stays, and what names it.
    left = {
        row["passage_id"] for row in rows["passages"] if row["document_id"] not in gone.document_ids
    }
    names = (gone.passage_ids - left) | gone.document_ids | gone.urls | tainted
    kept = {name: [row for row in each if _stays(row, names)] for name, each in rows.items()}
    for name, each in kept.items():
        write_table(out / f"{name}.parquet", _SCHEMAS[name], each)
    _write_certificate(artifact, kept["passages"], out)
    _write_result(artifact, kept, out)
    if _has(artifact, "blocks.json"):
        text = "Some documents of these were forgotten, and with them what was shown here."
        write_blocks(out, [Block(kind="text", title="Forgotten", text=text)])


_SCHEMAS: Mapping[str, pa.Schema] = {
    "documents": DOCUMENTS,
    "passages": PASSAGES,
    "refusals": REFUSALS,
    "queries": QUERIES,
    "hits": HITS,
}


def _stays(row: Row, names: Collection[str]) -> bool:
    """Whether a row is of no document, passage, address or query of these names."""
    columns = ("document_id",) if "document_id" in row else ("id", "passage_id", "query_id", "url")
    if any(row.get(column) in names for column in columns):
        return False
    return not any(word.rstrip(".,:;") in names for word in str(row.get("detail", "")).split())


def _tainted(queries: Iterable[Row], hits: Iterable[Row], gone: Traces) -> set[str]:
    """Return the queries whose words may be the documents': those fed back from their passages."""
    found_them = {row["query_id"] for row in hits if row["passage_id"] in gone.passage_ids}
    tainted: set[str] = set()
    for row in sorted(queries, key=lambda row: int(row["depth"])):
        fed_back = row["kind"] == Kind.FEEDBACK and row["parent_id"] in found_them
        if fed_back or row["parent_id"] in tainted:
            tainted.add(row["query_id"])
    return tainted


def _write_certificate(artifact: Artifact, passages: Sequence[Row], out: Path) -> None:
    if not _has(artifact, "certificate.json"):
        return
    ids = [row["passage_id"] for row in passages]
    certificate = Certificate.read(artifact.path("certificate.json"))
    replace(certificate, passages_sha256=ids_sha256(ids), num_passages=len(ids)).write(out)


def _write_result(artifact: Artifact, rows: Mapping[str, Sequence[Row]], out: Path) -> None:
    said = read_json(artifact.path("result.json"))
    counts = {
        "num_documents": len(rows.get("documents", ())),
        "num_passages": len(rows.get("passages", ())),
        "num_words": sum(int(row["num_words"]) for row in rows.get("passages", ())),
        "num_queries": len(rows.get("queries", ())),
    }
    figures = {name: float(counts.get(name, value)) for name, value in said["figures"].items()}
    write_json(out / "result.json", said | {"figures": figures})


def _rows(artifact: Artifact, name: str) -> list[dict[str, Any]]:
    file = f"{name}.parquet"
    return read_rows(artifact.path(file), _SCHEMAS[name]) if _has(artifact, file) else []


def _has(artifact: Artifact, name: str) -> bool:
    return any(file.name == name for file in artifact.manifest.files)
