"""Halves, ids and the table of items."""

from collections import Counter
from dataclasses import replace

from services.evaluator.items import (
    Half,
    Item,
    content_id,
    contents_sha256,
    read_items,
    split_halves,
    write_items,
)


def item(name, topic="text"):
    return Item(item_id=name, topic=topic, document_id="d", stem="s", options=(" a", " b"), key=1)


ITEMS = [item(f"{topic}-{number}", topic) for topic in ("a", "b", "c") for number in range(31)]


def test_every_topic_has_its_share_in_both_halves():
    halves = split_halves(ITEMS)
    counts = Counter((each.topic, halves[each.item_id]) for each in ITEMS)
    assert {counts[topic, half] for topic in "abc" for half in Half} == {15, 16}


def test_odd_topics_leave_the_halves_equal_up_to_one_item():
    counts = Counter(split_halves(ITEMS).values())
    assert abs(counts[Half.DIAGNOSIS] - counts[Half.DECISION]) == 1


def test_the_split_depends_on_ids_and_not_on_order():
    assert split_halves(ITEMS) == split_halves(ITEMS[::-1])


def test_a_renamed_item_of_another_topic_moves_no_item():
    changed = [*ITEMS[:-2], item("new-1", "c"), item("new-2", "c")]
    before, after = split_halves(ITEMS), split_halves(changed)
    assert all(before[each.item_id] == after[each.item_id] for each in ITEMS if each.topic != "c")


def test_items_are_written_and_read_by_half_and_id(tmp_path):
    write_items(tmp_path / "items.parquet", ITEMS[::-1])
    read = read_items(tmp_path / "items.parquet")
    halves = split_halves(ITEMS)
    expected = sorted(ITEMS, key=lambda each: each.item_id)
    assert read == {
        half: [each for each in expected if halves[each.item_id] is half] for half in Half
    }


def test_the_content_id_ignores_the_order_of_distractors_but_not_which_is_the_key():
    assert content_id("s", "k", ["a", "b"]) == content_id("s", "k", ["b", "a"])
    assert content_id("s", "k", ["a", "b"]) != content_id("s", "a", ["k", "b"])


def test_the_contents_digest_ignores_names_and_order_but_no_word_and_no_key():
    one = [item("a"), replace(item("b"), stem="t")]
    renamed = [replace(item("d"), stem="t"), item("c", "other topic")]
    assert contents_sha256(one) == contents_sha256(renamed)
    assert contents_sha256(one) != contents_sha256([one[0], replace(one[1], key=0)])
    assert contents_sha256(one) != contents_sha256([one[0], replace(one[1], stem="u")])
