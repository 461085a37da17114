"""Items from passages: cut, draw, distractors and what is held out."""

from bisect import bisect_left, bisect_right
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from libs.errors import InvalidInput
from libs.words import words
from services.evaluator.build_items import (
    KEY_CHARACTERS,
    MIN_WORDS,
    NEIGHBOURS,
    Passage,
    TooFewPassages,
    build_items,
    halves,
    qualifying,
    shares,
)


def passages(number, topics=("net", "text", "text"), seed=0):
    rng = np.random.default_rng(seed)
    return [
        Passage(
            passage_id=f"p{index:04}",
            document_id=f"d{index // 4}",
            topic=topics[index % len(topics)],
            text=" ".join(f"w{word}" for word in rng.integers(0, 5000, size=rng.integers(30, 60))),
        )
        for index in range(number)
    ]


SITE = passages(90)


def test_the_key_continues_the_stem():
    built = build_items(SITE, max_items=60, seed=1)
    texts = [passage.text for passage in SITE]
    assert all(any(i.stem + i.options[i.key] in text for text in texts) for i in built.items)


def test_the_stem_is_the_first_half_up_to_a_word():
    cut = halves("aaa bbb ccc ddd eee")
    assert (cut.stem, cut.lead, cut.key) == ("aaa bbb", " ", "ccc ddd eee")


def test_the_key_is_cut_at_a_word_within_a_hundred_characters():
    cut = halves("x" * 300 + " " + "word " * 60)
    assert cut.key == "word " * 19 + "word"
    assert len(cut.key) == 99


def test_a_word_that_ends_at_a_hundred_characters_stays_whole():
    assert halves("x" * 100 + " " + "y" * 100 + " zz").key == "y" * KEY_CHARACTERS


def test_text_without_white_space_is_cut_in_the_middle_without_a_space():
    assert halves("天地玄黃宇宙") == ("天地玄", "", "黃宇宙")


def test_white_space_at_the_cut_becomes_the_one_leading_space():
    assert halves("aa bb\n\n    cc dd") == ("aa bb", " ", "cc dd")


def test_every_item_has_four_distinct_options_with_a_leading_space():
    for item in build_items(SITE, max_items=60, seed=1).items:
        assert len(item.options) == len(set(item.options)) == 4
        assert all(option[0] == " " and option[1] != " " for option in item.options)


def test_distractors_are_keys_of_other_held_out_passages():
    built = build_items(SITE, max_items=60, seed=1)
    held = [each.text for each in SITE if each.passage_id in built.holdout]
    options = [option for item in built.items for option in item.options]
    assert all(any(option in text for text in held) for option in options)
    assert len(built.holdout) == len(built.items) == 60


def test_distractors_are_among_the_nearest_by_length():
    built = build_items(passages(400), max_items=400, seed=1)
    lengths = sorted(len(item.options[item.key]) for item in built.items)
    for item in built.items:
        for option in item.options:
            low, high = sorted((len(option), len(item.options[item.key])))
            between = bisect_left(lengths, high) - bisect_right(lengths, low)
            assert between <= NEIGHBOURS


def test_the_key_stands_at_every_place_equally():
    counts = Counter(item.key for item in build_items(passages(400), max_items=400, seed=1).items)
    assert all(70 <= counts[place] <= 130 for place in range(4))


def test_each_topic_has_its_share_of_the_items():
    built = build_items(SITE, max_items=60, seed=1)
    assert Counter(item.topic for item in built.items) == {"net": 20, "text": 40}


def test_the_size_of_the_exam_is_what_the_site_holds():
    assert len(build_items(SITE, max_items=2000, seed=1).items) == 90


def test_same_seed_same_exam_whatever_the_order_of_passages():
    one = build_items(SITE, max_items=60, seed=1)
    assert one == build_items(SITE[::-1], max_items=60, seed=1)
    assert one != build_items(SITE, max_items=60, seed=2)


def test_repeated_and_short_passages_do_not_qualify():
    short = replace(SITE[0], text=" ".join(words(SITE[0].text)[: MIN_WORDS - 1]))
    copy = replace(SITE[1], passage_id="copy", document_id="other")
    assert qualifying([short, *SITE[1:], copy]) == SITE[2:]


def test_passages_without_topic_are_left_out_only_if_others_have_one():
    bare = [replace(passage, topic="") for passage in SITE]
    assert qualifying([*bare[:50], *SITE[50:]]) == SITE[50:]
    assert qualifying(bare) == bare


def test_too_few_passages_are_refused_with_numbers():
    with pytest.raises(TooFewPassages, match=r"at least 8 .* got 7 of 7 passages"):
        build_items(SITE[:7], max_items=2000, seed=1)


def test_keys_that_do_not_differ_are_refused():
    # Eleven words that all keys share and a stem of its own: no run of 13 is shared.
    def text(name):
        own = [f"{name}{number:08}" for number in range(16)]
        return " ".join([*own[:13], *["commonwordss"] * 11, *own[13:]])

    same = [replace(each, text=text(each.passage_id)) for each in SITE[:9]]
    with pytest.raises(InvalidInput, match="got 0 from 8"):
        build_items(same, max_items=9, seed=1)


@pytest.mark.parametrize(
    ("sizes", "total", "expected"),
    [
        ({"a": 3, "b": 5}, 8, {"a": 3, "b": 5}),
        ({"a": 3, "b": 5}, 100, {"a": 3, "b": 5}),
        ({"a": 10, "b": 10, "c": 10}, 10, {"a": 4, "b": 3, "c": 3}),
        ({"a": 90, "b": 10}, 10, {"a": 9, "b": 1}),
    ],
)
def test_shares_are_in_proportion_and_add_up(sizes, total, expected):
    assert shares(sizes, total) == expected
