"""No exam item in training."""

import random

import pytest

from libs.formats import ids_sha256
from libs.words import words
from services.corpus.decontaminate import Exams

LONG = " ".join(f"exam{number}" for number in range(30))


def exams(*texts: str) -> Exams:
    return Exams(
        [{"item_id": f"i{n}", "exam_id": "e", "text": text} for n, text in enumerate(texts)]
    )


def item_in(found: Exams, text: str) -> str | None:
    return found.overlap(words(text))


def run(start: int, count: int) -> str:
    return " ".join(LONG.split()[start : start + count])


def test_thirteen_words_in_a_row_overlap_and_twelve_do_not():
    found = exams(LONG)
    assert item_in(found, f"before {run(5, 13)} after") == "i0"
    assert item_in(found, f"before {run(5, 12)} after") is None
    assert item_in(found, f"{run(0, 12)} gap {run(12, 12)}") is None


def test_case_width_and_punctuation_hide_nothing():
    disguised = run(3, 13).upper().replace(" ", ",\n\t— ")
    assert item_in(exams(LONG), disguised) == "i0"


def test_a_short_text_overlaps_where_the_whole_of_it_stands():
    found = exams("the cat sat", "alone")
    assert item_in(found, "Then: the CAT sat down") == "i0"
    assert item_in(found, "the cat, it sat") is None
    assert item_in(found, "left alone there") == "i1"
    assert item_in(found, "the cat") is None


def test_a_text_of_twelve_words_is_short_and_one_of_thirteen_is_not():
    assert item_in(exams(run(0, 12)), f"x {run(0, 12)} y") == "i0"
    assert item_in(exams(run(0, 13)), f"x {run(0, 12)} y") is None


def test_a_language_without_spaces_is_seen():
    assert (
        item_in(
            exams("深度学习模型需要大量的训练数据才能工作"), "他说深度学习模型需要大量的训练数据"
        )
        == "i0"
    )


def test_a_text_without_words_overlaps_nothing():
    assert item_in(exams("...", ""), "any text at all") is None


@pytest.mark.parametrize("seed", range(5))
def test_every_planted_run_is_found_and_no_other(seed):
    rng = random.Random(seed)
    texts = [" ".join(rng.choices("abcdefghij", k=rng.choice([5, 14, 40]))) for _ in range(30)]
    found = exams(*texts)
    for _ in range(60):
        tokens = words(" ".join(rng.choices("abcdefghij", k=20)))
        padded = f" {' '.join(tokens)} "
        expected = any(
            f" {' '.join(part)} " in padded
            for text in texts
            for size in [min(13, len(words(text)))]
            for start in range(len(words(text)) - size + 1)
            for part in [words(text)[start : start + size]]
        )
        assert (found.overlap(tokens) is not None) == expected


def test_a_certificate_covers_exactly_the_passages_and_the_texts():
    found = exams(LONG, "short", "short")
    certificate = found.certificate("set", ["b", "a"], num_dropped=3)
    assert certificate.passages_sha256 == ids_sha256(["a", "b"])
    assert (certificate.num_passages, certificate.num_items, certificate.num_dropped) == (2, 3, 3)
    assert certificate.texts_sha256 == exams("short", LONG).texts_sha256
    assert certificate.texts_sha256 != exams(LONG).texts_sha256
