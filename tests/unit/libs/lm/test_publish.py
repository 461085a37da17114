"""Publishing to fake replicas; against the real server: `tests/integration/test_publish.py`."""

import pytest

from libs.errors import Conflict, Corrupt, NotFound, Unavailable
from libs.lm.publish import Published
from libs.lm.triton.repository import LIVE, Repository, model_name


def always(digest):
    return lambda: digest


def rot(world, version):
    """Change the weights of a stored version of `live`."""
    name = f"models/repository/live/{version}/checkpoint/model.safetensors"
    world.models.delete(name)
    world.models.create(name, b"c" * 64)


def test_every_replica_answers_with_what_is_wanted(world, make_triton):
    tritons = make_triton(), make_triton()
    with world.publisher(*tritons) as publisher:
        for digest in (world.first, world.second):
            publisher.converge(always(digest))
            assert [each.held for each in tritons] == 2 * [{LIVE: digest}]
            assert Repository(world.models).weights_digest(LIVE) == digest


def test_a_second_time_nothing_is_loaded_or_written(world, make_triton):
    triton = make_triton()
    with world.publisher(triton) as publisher:
        publisher.converge(always(world.first))
        before = [blob.name for blob in world.models.list("models/")]
        publisher.converge(always(world.first))
    assert triton.loads == [(LIVE, 1)]
    assert [blob.name for blob in world.models.list("models/")] == before


def test_a_replica_that_was_restarted_is_loaded_again(world, make_triton):
    tritons = make_triton(), make_triton()
    with world.publisher(*tritons) as publisher:
        publisher.converge(always(world.first))
        tritons[1].held.clear()
        publisher.converge(always(world.first))
    assert [len(each.loads) for each in tritons] == [1, 2]
    assert tritons[1].held == {LIVE: world.first}


def test_what_is_wanted_meanwhile_wins(world, make_triton):
    triton, wanted = make_triton(), [world.first]
    triton.on_load = lambda name: wanted.__setitem__(0, world.second)
    with world.publisher(triton) as publisher:
        publisher.converge(lambda: wanted[0])
    assert triton.held == {LIVE: world.second}


def test_a_publisher_that_woke_up_late_takes_nothing_back(world, make_triton):
    triton, registry = make_triton(), [world.first]
    with world.publisher(triton) as early, world.publisher(triton) as late:

        def overtake(name):
            triton.on_load = lambda name: None
            registry[0] = world.second
            early.converge(lambda: registry[0])

        triton.on_load = overtake  # while the late one loads the first weights
        late.converge(lambda: registry[0])
    assert triton.held == {LIVE: world.second}
    assert Repository(world.models).weights_digest(LIVE) == world.second


def test_without_end_others_moving_live_is_a_conflict(world, make_triton):
    moves = iter(100 * [world.first, world.second])
    with world.publisher(make_triton()) as publisher, pytest.raises(Conflict, match="5 times"):
        publisher.converge(lambda: next(moves))


def test_other_weights_than_promised_never_serve_and_both_digests_are_told(world, make_triton):
    triton = make_triton()
    wrong = world.register("d" * 64, stored="e" * 64)
    with world.publisher(triton) as publisher:
        publisher.converge(always(world.first))
        with pytest.raises(Corrupt, match=f"{'d' * 64}.*{'e' * 64}"):
            publisher.converge(always(wrong))
    assert triton.held == {LIVE: world.first}
    assert Repository(world.models).weights_digest(LIVE) == world.first


def test_weights_that_rot_in_the_store_are_published_again(world, make_triton):
    triton = make_triton()

    def rot_once(name):
        triton.on_load = lambda name: None
        rot(world, 1)

    triton.on_load = rot_once
    with world.publisher(triton) as publisher:
        publisher.converge(always(world.first))
    assert triton.loads == [(LIVE, 2)]


def test_a_replica_that_is_down_is_named_and_the_others_have_the_weights(world, make_triton):
    tritons = make_triton(), make_triton()
    with world.publisher(*tritons, timeout_s=1.0) as publisher:
        tritons[0].server.stop(None).wait()
        with pytest.raises(Unavailable, match=publisher.replicas[0].address):
            publisher.converge(always(world.first))
    assert tritons[1].held == {LIVE: world.first}
    assert Repository(world.models).weights_digest(LIVE) == world.first


def test_killed_between_loading_and_entering_it_is_entered_the_next_time(
    world, make_triton, monkeypatch
):
    triton = make_triton()
    with world.publisher(triton) as publisher:
        publisher.converge(always(world.first))
        with monkeypatch.context() as patch:
            patch.setattr(Repository, "serve", lambda *_: None)
            publisher._show(world.second)
        assert Repository(world.models).weights_digest(LIVE) == world.first
        publisher.converge(always(world.second))
    assert triton.loads == [(LIVE, 1), (LIVE, 2)]
    assert Repository(world.models).weights_digest(LIVE) == world.second


def test_old_versions_go(world, make_triton):
    with world.publisher(make_triton()) as publisher:
        for digest in 3 * (world.first, world.second):
            publisher.converge(always(digest))
    versions = {blob.name.split("/")[3] for blob in world.models.list("models/repository/live/")}
    assert versions == {"6", "config.pbtxt"}


def test_weights_nobody_registered_are_not_found(world, make_triton):
    with world.publisher(make_triton()) as publisher, pytest.raises(NotFound):
        publisher.converge(always("0" * 64))


def test_each_version_is_told_before_it_is_loaded(world, make_triton):
    triton, told = make_triton(), []
    triton.on_load = lambda name: told.append(f"{name} loads")
    with world.publisher(triton, tell=told.append) as publisher:
        publisher.converge(always(world.first))
    assert told[:2] == [Published(LIVE, 1, world.first), "live loads"]


def test_a_replica_lets_go_of_the_candidate_asked_longest_ago(world, make_triton):
    triton = make_triton()
    digests = [world.first, world.second, world.register("d" * 64)]
    with world.publisher(triton, max_models=2) as publisher:
        publisher.converge(always(world.first))
        for digest in digests:
            publisher.hold(publisher.replicas[0], digest)
    assert [*triton.held] == [LIVE, *map(model_name, digests[1:])]
