"""Queries from seeds."""

import pytest

from libs.words import terms
from services.corpus.queries import (
    Found,
    Kind,
    Query,
    Vocabulary,
    feedback,
    seeds,
    templates,
    worth_asking,
)

TEXTS = [
    "a socket binds an address and listens",
    "a socket accepts a connection from a client",
    "the list is sorted by key",
    "the list is reversed in place",
    "the dictionary maps a key to a value",
    "the file is opened and read",
] * 3
PADDING = ["the other thing to say"] * 40
VOCABULARY = Vocabulary(map(terms, [*TEXTS, *PADDING, "zebra"]))
SEED = Query(
    text="Bind the socket to an address before the 3 clients connect.",
    kind=Kind.SEED,
    topic="networking",
    item_id="i1",
)


def test_seeds_keep_topic_and_item():
    row = {"text": "a b c", "topic": "t", "item_id": "i", "kind": "seed", "depth": 0}
    (seed,) = seeds([row])
    assert seed.row() == {
        "query_id": seed.id,
        "text": "a b c",
        "kind": "seed",
        "parent_id": "",
        "topic": "t",
        "item_id": "i",
        "depth": 0,
    }


def test_templates_hold_the_topic_and_the_terms_that_tell():
    first, second = templates(SEED, VOCABULARY)
    assert terms(first.text)[0] == "networking"
    assert {"bind", "address"} & set(terms(first.text))
    assert not {"the", "3", "to", "connect"} & set(terms(first.text + " " + second.text))
    assert (first.kind, first.parent_id, first.depth) == (Kind.TEMPLATE, SEED.id, 1)
    assert (first.item_id, first.topic) == ("i1", "networking")


def test_feedback_by_hand():
    vocabulary = Vocabulary([["q"], ["far"], ["near"], ["far", "near"], *[["pad"]] * 40])
    found = [Found(["near", "near", "far"], 3.0), Found(["far"], 1.0)]
    query = Query(text="qq near", kind=Kind.SEED, topic="t")
    made = feedback(query, found, vocabulary)
    # near: (1/2 * 1/2 + 1/2 * 3/4 * 2/3) = 0.5; far: 1/2 * (3/4 * 1/3 + 1/4) = 0.25; qq is unknown.
    assert made is not None
    assert made.text == "near far"
    assert (made.kind, made.parent_id, made.depth) == (Kind.FEEDBACK, query.id, 1)


def test_feedback_on_nothing_is_none():
    assert feedback(SEED, [], VOCABULARY) is None


def test_a_term_of_most_passages_or_of_none_does_not_tell():
    assert not VOCABULARY.tells("the")
    assert not VOCABULARY.tells("absent")
    assert VOCABULARY.tells("zebra")


@pytest.mark.parametrize("text", ["one two", "one one one two"])
def test_a_query_of_few_terms_is_not_asked(text):
    assert worth_asking([Query(text=text, kind=Kind.SEED, topic="t")], set()) == []


def test_the_same_words_are_asked_once_over_all_rounds():
    asked: set[frozenset[str]] = set()
    one = Query(text="alpha beta gamma", kind=Kind.SEED, topic="t")
    other = Query(text="gamma Alphas, beta", kind=Kind.FEEDBACK, topic="u")
    assert worth_asking([one], asked) == [one]
    assert worth_asking([other], asked) == []


def test_an_id_follows_from_kind_topic_and_text():
    same = Query(text=SEED.text, kind=Kind.SEED, topic="networking", depth=5)
    assert same.id == SEED.id
    assert Query(text=SEED.text, kind=Kind.SEED, topic="other").id != SEED.id
