"""The files of an exam, and of the frozen set that a round is decontaminated against.

Together here because the set is read from the exams' files, and both must agree on what an exam's
texts and held-out passages are.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from libs.artifacts import Artifact
from libs.blocks import write_blocks
from libs.formats import EXAM_TEXTS, HOLDOUT, read_json, read_rows, write_json, write_table
from services.evaluator.exams import DEFAULT_MAX_DECISIONS, Registered
from services.evaluator.items import (
    Half,
    Item,
    contents_sha256,
    halved,
    read_items,
    write_items,
)
from services.evaluator.report import exam_blocks


@dataclass(frozen=True, kw_only=True)
class Terms:
    """Under which name an exam is registered, and how often it may decide."""

    name: str
    max_decisions: int = DEFAULT_MAX_DECISIONS


def write_exam(
    out: Path, terms: Terms, items: Sequence[Item], holdout: Iterable[str], **source: str
) -> dict[str, float]:
    """Write the files of an exam and return its figures.

    Args:
        holdout: ids of the passages it was made from, sorted.
        source: what else `exam.json` says of where the items come from.
    """
    halves = halved(items)
    sizes = {
        "num_items": len(items),
        "num_topics": len({item.topic for item in items}),
        **{f"num_{half}_items": len(each) for half, each in halves.items()},
    }
    write_items(out / "items.parquet", items)
    _write_holdout(out, holdout)
    # Wear of the decision half is counted by what it asks: the same items under another name or
    # with a higher limit are as worn as before.
    decision = {"decision_sha256": contents_sha256(halves[Half.DECISION])}
    write_json(out / "exam.json", asdict(terms) | sizes | decision | source)
    write_blocks(out, exam_blocks(terms.name, halves))
    return dict(sizes)


def registration_of(exam: Artifact) -> Registered:
    """Return how an exam is registered; its sequence and revision are the registry's to give."""
    said = read_json(exam.path("exam.json"))
    return Registered(
        name=said["name"],
        exam_id=exam.id,
        num_items=said["num_items"],
        max_decisions=said["max_decisions"],
    )


def write_exam_set(out: Path, exams: Sequence[Artifact]) -> dict[str, float]:
    """Write the files of a frozen set and return its figures."""
    rows: list[Mapping[str, Any]] = []
    held: set[str] = set()
    for exam in exams:
        for items in read_items(exam.path("items.parquet")).values():
            rows += texts(items, exam.id)
        held |= {row["passage_id"] for row in read_rows(exam.path("holdout.parquet"), HOLDOUT)}
    rows.sort(key=lambda row: (row["item_id"], row["exam_id"], row["text"]))
    write_table(out / "exam_texts.parquet", EXAM_TEXTS, rows)
    _write_holdout(out, sorted(held))
    named = [{"exam_id": exam.id, "name": registration_of(exam).name} for exam in exams]
    write_json(out / "exam_set.json", {"exams": named})
    return {"num_exams": len(exams), "num_texts": len(rows), "num_held_out_passages": len(held)}


def texts(items: Iterable[Item], exam_id: str) -> Iterator[Mapping[str, Any]]:
    """Yield every stem and option of an exam, a row of the table `EXAM_TEXTS` each."""
    for item in items:
        for text in (item.stem, *item.options):
            yield {"item_id": item.item_id, "exam_id": exam_id, "text": text}


def _write_holdout(out: Path, passage_ids: Iterable[str]) -> None:
    write_table(out / "holdout.parquet", HOLDOUT, ({"passage_id": each} for each in passage_ids))
