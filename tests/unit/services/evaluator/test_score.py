"""How answers become responses, and which answers are refused."""

from dataclasses import replace

import pytest

from libs.errors import Corrupt, InvalidInput
from libs.lm.port import OptionScore
from services.evaluator.items import Item
from services.evaluator.score import batches, choose, read_responses, score, write_responses


def item(name):
    return Item(item_id=name, topic="t", document_id="d", stem="s", options=(" a", " b"), key=1)


def scores(*pairs):
    return [OptionScore(*pair) for pair in pairs]


def answering(*pairs):
    return lambda questions: [scores(*pairs) for _ in questions]


def test_the_likeliest_option_per_token_is_chosen_and_not_the_shortest():
    assert choose(scores((-4.0, 2), (-5.0, 5))) == 1


def test_the_lowest_index_of_equals_is_chosen():
    assert choose(scores((-3.0, 1), (-4.0, 2), (-2.0, 1))) == 1


def test_a_response_says_who_answered_what_and_how():
    (response,) = score([item("q")], answering((-4.0, 2), (-5.0, 5)), "digest")
    assert (response.chosen, response.key, response.correct) == (1, 1, True)
    assert (response.log_likelihoods, response.num_tokens) == ((-4.0, -5.0), (2, 5))
    assert (response.item_id, response.weights_digest) == ("q", "digest")


def test_a_response_tells_the_tokens_that_the_stem_was_cut_by():
    (response,) = score([item("q")], answering((-4.0, 2, 7), (-5.0, 5, 7)), "digest")
    assert response.num_stem_tokens_cut == 7


def test_the_model_is_asked_stem_and_options_in_item_order():
    asked = []

    def ask(questions):
        asked.extend(questions)
        return answering((-1.0, 1), (-2.0, 1))(questions)

    score([item("q"), replace(item("r"), stem="other")], ask, "digest")
    assert asked == [("s", (" a", " b")), ("other", (" a", " b"))]


def test_batches_are_by_item_id_and_the_last_is_smaller():
    cut = batches([item(name) for name in "ecdab"], 2)
    assert [[each.item_id for each in batch] for batch in cut] == [["a", "b"], ["c", "d"], ["e"]]


@pytest.mark.parametrize(
    "pairs",
    [
        [(-1.0, 1)],
        [(-1.0, 1)] * 3,
        [(-1.0, 1), (float("nan"), 1)],
        [(float("-inf"), 1), (-1.0, 1)],
        [(-1.0, 1), (0.0, 0)],
    ],
)
def test_a_broken_answer_is_corrupt_and_never_a_wrong_one(pairs):
    with pytest.raises(Corrupt, match="item q: expected"):
        score([item("q")], answering(*pairs), "digest")


def test_an_answer_too_few_is_corrupt():
    with pytest.raises(Corrupt, match="scores of 1 items, got 0"):
        score([item("q")], lambda questions: [], "digest")


def test_responses_are_written_and_read_by_item_id(tmp_path):
    made = score([item("b"), item("a")], answering((-4.0, 2), (-5.0, 5)), "digest")
    write_responses(tmp_path / "responses.parquet", made)
    assert read_responses(tmp_path / "responses.parquet") == made[::-1]


def test_no_responses_at_all_are_refused(tmp_path):
    write_responses(tmp_path / "responses.parquet", [])
    with pytest.raises(InvalidInput, match="at least one response"):
        read_responses(tmp_path / "responses.parquet")
