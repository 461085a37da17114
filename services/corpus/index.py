"""Decide which passages may be searched at all: each once, none held out, none of an exam.

Everything that is trained on later comes through here, also the general sample and the control,
so this is where the promise "no exam item in training" is first kept.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from libs.words import words
from services.corpus.addresses import precedence
from services.corpus.decontaminate import Exams
from services.corpus.records import Row
from services.corpus.refusals import Reason, Refusal

_REPORT_EVERY = 200


@dataclass(frozen=True, kw_only=True)
class Kept:
    """Passages that passed, by id ascending, and those that did not."""

    rows: Sequence[Row]
    refusals: Sequence[Refusal]

    @property
    def num_words(self) -> int:
        """Words of all passages kept."""
        return sum(int(row["num_words"]) for row in self.rows)

    def num_refused(self, *reasons: Reason) -> int:
        """Return how many were refused for one of these reasons."""
        return sum(refusal.reason in reasons for refusal in self.refusals)


def index(
    rows: Sequence[Row],
    held_out: Collection[str],
    exams: Exams,
    report: Callable[[int, int], None],
) -> Kept:
    """Return the passages that may be searched; `report` is told passages done and in all.

    A passage that stands on several pages is kept as the one that `addresses.precedence` puts
    first, then the first on its page.
    """
    kept: dict[str, Row] = {}
    refusals: dict[str, Refusal] = {}
    repeats: list[Refusal] = []
    ordered = sorted(rows, key=lambda r: (precedence(r["url"], r["topic"]), r["position"]))
    for number, row in enumerate(ordered):
        if number % _REPORT_EVERY == 0:
            report(number, len(ordered))
        id_ = row["passage_id"]
        if id_ in refusals:
            continue
        if id_ in kept:
            detail = f"{row['url']} repeats a passage of {kept[id_]['url']}"
            repeats.append(Refusal(id_, Reason.DUPLICATE, detail))
            continue
        refusal = _refusal(row, held_out, exams)
        if refusal is None:
            kept[id_] = row
        else:
            refusals[id_] = refusal
    return Kept(
        rows=[kept[id_] for id_ in sorted(kept)],
        refusals=sorted({*refusals.values(), *repeats}),
    )


def _refusal(row: Row, held_out: Collection[str], exams: Exams) -> Refusal | None:
    id_ = row["passage_id"]
    if id_ in held_out:
        return Refusal(id_, Reason.HELD_OUT, "an exam was made from it")
    item = exams.overlap(words(row["text"]))
    if item is not None:
        return Refusal(id_, Reason.CONTAMINATED, f"it shares words with item {item}")
    return None
