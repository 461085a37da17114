"""Documents and their passages as the tables that other services read.

Which documents are kept does not depend on the order in which they came: one text is one document,
under the address that `addresses.precedence` puts first.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from libs.formats import DOCUMENTS, PASSAGES, REFUSALS, write_table
from libs.words import words
from services.corpus.addresses import precedence, sha256
from services.corpus.passages import Lengths, passages
from services.corpus.refusals import Reason, Refusal

Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Document:
    """One text and where it is from."""

    url: str
    title: str
    text: str
    source: str
    """`crawl` or `folder`."""
    topic: str = ""

    @cached_property
    def id(self) -> str:
        """sha256 of url and text, a line feed between them."""
        return sha256(f"{self.url}\n{self.text}")


class Reading(NamedTuple):
    """What became of a source: rows of the three tables, each sorted by its first column."""

    documents: Sequence[Row]
    passages: Sequence[Row]
    refusals: Sequence[Refusal]

    def write(self, folder: Path) -> None:
        """Write the tables of an artifact of kind `documents`."""
        write_table(folder / "documents.parquet", DOCUMENTS, self.documents)
        write_table(folder / "passages.parquet", PASSAGES, self.passages)
        write_refusals(folder, self.refusals)


def write_refusals(folder: Path, refusals: Iterable[Refusal]) -> None:
    """Write `refusals.parquet`, sorted."""
    rows = [refusal.row() for refusal in sorted(set(refusals))]
    write_table(folder / "refusals.parquet", REFUSALS, rows)


def passage_id(tokens: Iterable[str]) -> str:
    """sha256 of normalised words, a space between them."""
    return hashlib.sha256(" ".join(tokens).encode()).hexdigest()


def reading(
    documents: Iterable[Document], refusals: Iterable[Refusal], lengths: Lengths
) -> Reading:
    """Keep each text once, cut it into passages, and say what was refused."""
    refused = list(refusals)
    document_rows: list[Row] = []
    passage_rows: list[Row] = []
    url_by_text: dict[str, str] = {}
    urls: set[str] = set()
    for document in sorted(documents, key=_order):
        digest = sha256(document.text)
        if digest in url_by_text or document.url in urls:
            detail = f"its text is that of {url_by_text.get(digest, 'another of this address')}"
            refused.append(Refusal(document.url, Reason.DUPLICATE, detail))
            continue
        rows = _passage_rows(document, lengths)
        if not rows:
            refused.append(_too_little(document, lengths))
            continue
        url_by_text[digest] = document.url
        urls.add(document.url)
        passage_rows += rows
        document_rows.append(_document_row(document, digest, rows))
    return Reading(
        sorted(document_rows, key=lambda row: str(row["document_id"])),
        sorted(passage_rows, key=lambda row: (row["passage_id"], row["url"], row["position"])),
        sorted(set(refused)),
    )


def _order(document: Document) -> tuple[tuple[bool, int, str], str]:
    return precedence(document.url, document.topic), document.id


def _too_little(document: Document, lengths: Lengths) -> Refusal:
    if not document.text.strip():
        return Refusal(document.url, Reason.EMPTY, "no text was found on it")
    return Refusal(document.url, Reason.TOO_SHORT, f"fewer than {lengths.min_words} words")


def _document_row(document: Document, digest: str, rows: Sequence[Row]) -> Row:
    return {
        "document_id": document.id,
        "url": document.url,
        "title": document.title,
        "topic": document.topic,
        "source": document.source,
        "text_sha256": digest,
        "num_words": sum(int(row["num_words"]) for row in rows),
        "num_passages": len(rows),
    }


def _passage_rows(document: Document, lengths: Lengths) -> list[Row]:
    rows: list[Row] = []
    for position, text in enumerate(passages(document.text, lengths)):
        tokens = words(text)
        rows.append(
            {
                "passage_id": passage_id(tokens),
                "document_id": document.id,
                "url": document.url,
                "topic": document.topic,
                "position": position,
                "num_words": len(tokens),
                "text": text,
            }
        )
    return rows
