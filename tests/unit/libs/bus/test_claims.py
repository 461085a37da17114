"""Which claims may be deleted, and when."""

from pathlib import Path

import pytest

from libs.blobs.folder import FolderBlobs
from libs.bus import claims
from libs.bus.port import Topic
from libs.clock import Clock

HOUR_S = 3600.0
LARGE = bytes(claims.INLINE_BYTES + 1)


class Wall(Clock):
    def __init__(self) -> None:
        super().__init__()
        self.wall_s = 1_700_000_000.0

    def now(self) -> float:
        return self.wall_s


@pytest.fixture
def blobs(tmp_path: Path) -> FolderBlobs:
    return FolderBlobs(tmp_path / "blobs")


def test_a_claim_may_go_after_its_message_and_its_dead_letter(blobs: FolderBlobs) -> None:
    clock = Wall()
    topic = Topic(name="test.things-happened.v1", key="thing", retention_hours=24)
    checked = claims.check_in(blobs, topic, LARGE, {}, clock)
    for hours, gone in ((0, False), (2 * 24, False), (4 * 24, False), (6 * 24, True)):
        clock.wall_s = 1_700_000_000.0 + hours * HOUR_S
        assert list(claims.expired(blobs, clock)) == [checked.headers["claim-name"]] * gone


def test_an_equal_value_published_later_has_a_claim_that_lives_longer(blobs: FolderBlobs) -> None:
    clock = Wall()
    topic = Topic(name="test.things-happened.v1", key="thing")
    first = claims.check_in(blobs, topic, LARGE, {}, clock)
    clock.wall_s += 24 * HOUR_S
    second = claims.check_in(blobs, topic, LARGE, {}, clock)
    assert first.headers["claim-name"] < second.headers["claim-name"]
    assert first.headers["claim-sha256"] == second.headers["claim-sha256"]


@pytest.mark.parametrize("size_bytes", [0, claims.INLINE_BYTES])
def test_a_small_value_stays_in_its_message(blobs: FolderBlobs, size_bytes: int) -> None:
    topic = Topic(name="test.things-happened.v1", key="thing")
    checked = claims.check_in(blobs, topic, bytes(size_bytes), {"a": "b"}, Wall())
    assert checked == (bytes(size_bytes), {"a": "b"})
