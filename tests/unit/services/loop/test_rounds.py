"""Records of rounds survive the store, and only the last reader may write."""

from dataclasses import replace

import pytest

from libs.errors import Corrupt, ErrorRecord, InvalidInput, NotFound
from services.loop.outcome import Outcome
from services.loop.rounds import Order, Rounds, Stale, new_round, resumed_id
from services.loop.schedule import StepState


def record(bound, place=0):
    id_ = f"{place:032x}"
    order = Order(id=id_, as_of="t", who="w", operation=f"operations/loop/{id_}", create_time=place)
    return new_round(order, bound)


def test_a_record_is_read_back_as_it_was_stored(blobs, bound):
    new = record(bound)
    failed = replace(
        new.step("old"), state=StepState.FAILED, error=ErrorRecord(kind="Busy", message="m")
    )
    done = replace(new.step("base"), state=StepState.SUCCEEDED, figures={"a": 1.5})
    full = replace(new.with_steps(failed, done), outcome=Outcome.FAILED, error=failed.error)
    assert type(full).from_json(full.to_json()) == full
    assert Rounds(blobs).create(full) == Rounds(blobs).get(full.id) == full


def test_creating_a_round_again_returns_the_one_that_stands(blobs, bound):
    rounds = Rounds(blobs)
    saved = rounds.save(rounds.create(record(bound)))
    assert rounds.create(record(bound)) == saved


def test_a_stale_writer_is_refused(blobs, bound):
    rounds = Rounds(blobs)
    old = rounds.create(record(bound))
    rounds.save(old)
    with pytest.raises(Stale, match="expected revision 0, got 1"):
        rounds.save(old)


def test_rounds_are_found_by_name_prefix_or_as_the_newest(blobs, bound):
    rounds = Rounds(blobs)
    with pytest.raises(NotFound, match="no round yet"):
        rounds.resolve("")
    records = [rounds.create(record(bound, place)) for place in (1, 2)]
    assert rounds.resolve("") == records[1]
    assert rounds.resolve(records[0].name) == records[0]
    assert rounds.resolve(records[0].id) == records[0]
    with pytest.raises(InvalidInput, match="2 rounds"):
        rounds.resolve("0000")
    with pytest.raises(NotFound):
        rounds.resolve("ff")


def test_a_resumed_round_keeps_what_is_done_and_raises_attempts(bound):
    new = record(bound)
    done = replace(new.step("base"), state=StepState.SUCCEEDED, artifact_id="a")
    failed = replace(new.step("exam"), state=StepState.FAILED, operation="o", message="m")
    skipped = replace(new.step("serve"), state=StepState.SKIPPED)
    again = replace(new.with_steps(done, failed, skipped), outcome=Outcome.FAILED).again("op")
    assert again.outcome is None
    assert again.num_drives == 2
    assert again.step("base") == done
    assert (again.step("exam").attempt, again.step("exam").operation) == (2, "")
    assert (again.step("serve").attempt, again.step("serve").state) == (1, StepState.WAITING)


def test_request_ids_of_resumed_rounds_name_them():
    assert resumed_id("ab" * 16 + ".2") == "ab" * 16
    assert resumed_id("my-round.2") is None


def test_what_is_no_record_is_corrupt_and_a_newer_one_is_refused(bound):
    kind = type(record(bound))
    with pytest.raises(Corrupt):
        kind.from_json(b"{}")
    newer = record(bound).to_json().replace(b'"schema_version":1', b'"schema_version":2')
    with pytest.raises(InvalidInput, match="newer"):
        kind.from_json(newer)
