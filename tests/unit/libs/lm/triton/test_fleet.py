import threading

import pytest

from libs.errors import Corrupt, NotFound, Unavailable
from libs.lm.triton import metrics
from libs.lm.triton.fleet import Fleet
from libs.lm.triton.replica import digest_of
from libs.lm.triton.repository import model_name

ASKING = {"call": ["describe"]}


@pytest.fixture
def tritons(make_triton):
    return make_triton(), make_triton()


@pytest.fixture
def fleet(world, tritons):
    with world.publisher(*tritons, timeout_s=2.0) as publisher:
        yield Fleet(publisher, timeout_s=2.0)


def down(triton):
    triton.server.stop(None).wait()


def ask(fleet, digest):
    return digest_of(fleet.answer(digest, ASKING))


def test_the_first_question_loads_the_weights(world, fleet, tritons):
    assert ask(fleet, world.first) == world.first
    assert sum(len(each.loads) for each in tritons) == 1


def test_a_replica_that_is_behind_is_not_used_but_told_to_load(world, fleet, tritons):
    name, loaded = model_name(world.first), threading.Event()
    ask(fleet, world.first)
    behind = next(each for each in tritons if not each.held)
    behind.on_loaded = lambda _: loaded.set()
    assert {ask(fleet, world.first) for _ in range(2)} == {world.first}
    assert loaded.wait(10)
    assert all(name in dict(each.loads) for each in tritons)


def test_a_replica_with_other_weights_under_the_name_is_behind(world, fleet, tritons):
    fleet.hold(world.first)
    tritons[0].held[model_name(world.first)] = world.second
    assert {ask(fleet, world.first) for _ in range(4)} == {world.first}


def test_being_behind_is_visible(world, fleet, tritons):
    fleet.hold(world.first)
    tritons[0].held.clear()
    tritons[0].on_load = lambda _: (_ for _ in ()).throw(RuntimeError("cannot load"))
    address = fleet._replicas[0].address
    passed = metrics.PASSED_OVER.labels(address, "behind")
    before = passed._value.get()
    for _ in range(2):
        ask(fleet, world.first)
    assert passed._value.get() == before + 1
    assert metrics.BEHIND.labels(address)._value.get() == 1


def test_a_replica_that_is_down_is_passed_over(world, fleet, tritons):
    fleet.hold(world.first)
    down(tritons[0])
    assert {ask(fleet, world.first) for _ in range(3)} == {world.first}


def test_holding_needs_one_replica_that_answers(world, fleet, tritons):
    down(tritons[0])
    fleet.hold(world.first)
    down(tritons[1])
    with pytest.raises(Unavailable, match="Triton at"):
        fleet.hold(world.second)


def test_with_none_left_the_dependency_is_named(world, fleet, tritons):
    for each in tritons:
        down(each)
    with pytest.raises(Unavailable, match="Triton at 127"):
        ask(fleet, world.first)


def test_wrong_weights_are_corrupt_and_both_digests_are_told(world, fleet):
    world.register("d" * 64, stored="e" * 64)
    with pytest.raises(Corrupt, match=f"{'d' * 64}.*{'e' * 64}"):
        ask(fleet, "d" * 64)


def test_weights_nobody_registered_are_not_found(fleet):
    with pytest.raises(NotFound, match="0000"):
        ask(fleet, "0" * 64)
