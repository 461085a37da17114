import dataclasses

import pytest

from libs.errors import Conflict
from libs.formats import Certificate, ids_sha256
from services.trainer.certificate import Source, check_draws, check_source

PASSAGES = ["p1", "p2", "p3"]
GOOD = Source(
    name="target",
    passage_ids=PASSAGES,
    tokenizer_sha256="t" * 64,
    certificate=Certificate(
        exam_set_id="e" * 64,
        passages_sha256=ids_sha256(PASSAGES),
        texts_sha256="x" * 64,
        num_passages=3,
        num_items=1,
        num_dropped=0,
    ),
)


def check(source, exam_set_id="e" * 64, tokenizer_sha256="t" * 64):
    check_source(source, exam_set_id=exam_set_id, tokenizer_sha256=tokenizer_sha256)


def test_a_certificate_of_exactly_these_passages_and_exams_is_accepted():
    check(GOOD)


def test_the_order_of_passages_does_not_matter():
    check(dataclasses.replace(GOOD, passage_ids=PASSAGES[::-1]))


def test_a_plan_without_certificate_is_refused():
    with pytest.raises(Conflict, match="no certificate"):
        check(dataclasses.replace(GOOD, certificate=None))


@pytest.mark.parametrize("passages", [["p1", "p2"], [*PASSAGES, "p4"], []])
def test_one_passage_more_or_less_is_refused(passages):
    with pytest.raises(Conflict, match="passages"):
        check(dataclasses.replace(GOOD, passage_ids=passages))


def test_another_exam_set_is_refused():
    with pytest.raises(Conflict, match="exam set"):
        check(GOOD, exam_set_id="f" * 64)


def test_tokens_of_another_tokenizer_are_refused():
    with pytest.raises(Conflict, match="tokenizer"):
        check(GOOD, tokenizer_sha256="u" * 64)


@pytest.mark.parametrize(("first", "last"), [(0, 3), (-1, 2)])
def test_a_draw_outside_the_certified_passages_is_refused(first, last):
    check_draws(0, 2, 3)
    with pytest.raises(Conflict, match="3 certified"):
        check_draws(first, last, 3)
