"""A decision half serves so many distinct decisions and no more."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from libs.errors import Conflict
from services.loop.wear import spend


def test_the_sixth_decision_is_refused_with_what_to_do(blobs):
    assert [spend(blobs, "e" * 64, f"d{i}", limit=5) for i in range(5)] == [1, 2, 3, 4, 5]
    with pytest.raises(Conflict, match=r"has served 5 decisions.*new items"):
        spend(blobs, "e" * 64, "d5", limit=5)


def test_the_same_decision_is_not_counted_again(blobs):
    for _ in range(3):
        assert spend(blobs, "e" * 64, "d", limit=1) == 1


def test_exams_wear_apart(blobs):
    assert spend(blobs, "e" * 64, "d1", limit=1) == spend(blobs, "f" * 64, "d2", limit=1) == 1


def test_of_concurrent_decisions_no_more_than_the_limit_pass(blobs):
    def ask(place):
        try:
            return spend(blobs, "e" * 64, f"d{place}", limit=5)
        except Conflict:
            return 0

    with ThreadPoolExecutor(4) as pool:
        counts = list(pool.map(ask, range(10)))
    assert sorted(counts) == [0, 0, 0, 0, 0, 1, 2, 3, 4, 5]
