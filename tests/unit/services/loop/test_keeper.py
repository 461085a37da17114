import threading

import pytest

from libs.errors import Unavailable
from services.loop.keeper import Keeper
from services.loop.registry import Model, Models, Signature, promote, register

DIGEST = "5e" * 32
BY = Signature(when="now", who="ada", why="why")


class Front:
    """Shows what is wanted, or raises."""

    def __init__(self):
        self.shown = []
        self.refuses = None
        self.has_shown = threading.Event()

    def converge(self, wanted):
        digest = wanted()
        if self.refuses:
            raise self.refuses
        self.shown.append(digest)
        self.has_shown.set()


@pytest.fixture
def models(blobs):
    return Models(blobs)


@pytest.fixture
def front():
    return Front()


@pytest.fixture
def live(models):
    model = Model(weights_digest=DIGEST, checkpoint_id="c", status="promoted", round="rounds/r")
    models.change(lambda registry: promote(register(registry, model, BY), DIGEST, BY))


def test_what_the_registry_says_is_shown(models, front, live):
    Keeper(front, models).look()
    assert front.shown == [DIGEST]


def test_before_the_first_promotion_nothing_is(models, front):
    Keeper(front, models).look()
    assert front.shown == []


def test_a_server_that_stays_down_is_told_of_once_and_tried_again(models, front, live, caplog):
    keeper = Keeper(front, models)
    front.refuses = Unavailable("Triton at x is down")
    keeper.look()
    keeper.look()
    assert [record.getMessage() for record in caplog.records].count(
        "not every server answers with the live weights: Triton at x is down"
    ) == 1
    front.refuses = None
    keeper.look()
    assert front.shown == [DIGEST]


def test_it_looks_by_itself_until_its_block_ends(models, front, live):
    with Keeper(front, models, period_s=0.01) as keeper:
        assert front.has_shown.wait(10)
    keeper._thread.join(10)
    assert not keeper._thread.is_alive()
