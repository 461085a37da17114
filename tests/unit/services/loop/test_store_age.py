import pytest

from libs.blobs.folder import FolderBlobs
from libs.errors import InvalidInput
from libs.formats import canonical_json
from services.loop.store_age import BLOB, SCHEMA, Moment, StoreAge, now


class Machine:
    """A machine whose moment a test sets."""

    def __init__(self, boot_id, seconds=0.0):
        self.boot_id, self.seconds = boot_id, seconds

    def __call__(self):
        return Moment(self.boot_id, self.seconds)


@pytest.fixture
def blobs(tmp_path):
    return FolderBlobs(tmp_path)


def test_time_counts_between_two_processes_of_one_boot(blobs):
    machine = Machine("one", 100.0)
    assert StoreAge(blobs, moment=machine).look() == 0.0
    machine.seconds = 160.0
    assert StoreAge(blobs, moment=machine).look() == 60.0


def test_no_time_counts_that_nobody_saw(blobs):
    StoreAge(blobs, moment=Machine("one", 100.0)).look()
    assert StoreAge(blobs, moment=Machine("two", 9e9)).look() == 0.0


def test_a_machine_that_tells_no_boot_counts_what_its_process_saw(blobs):
    machine = Machine("", 5.0)
    age = StoreAge(blobs, moment=machine)
    age.look()
    machine.seconds = 12.0
    assert age.look() == 7.0
    assert StoreAge(blobs, moment=machine).look() == 7.0


def test_two_machines_that_look_in_turn_count_no_second_twice(blobs):
    one, two = Machine("one"), Machine("two", 1000.0)
    ages = [StoreAge(blobs, moment=one), StoreAge(blobs, moment=two)]
    for second in range(100):
        one.seconds, two.seconds = float(second), 1000.0 + second
        age = ages[second % 2].look(take_over=False)
    assert 90.0 < age <= 99.0


def test_a_machine_that_took_over_and_left_costs_what_it_did_not_count(blobs):
    one, two = Machine("one"), Machine("two")
    ages = [StoreAge(blobs, moment=one), StoreAge(blobs, moment=two)]
    ages[0].look()
    one.seconds = two.seconds = 50.0
    ages[1].look()
    assert ages[0].look(take_over=False) == 0.0
    one.seconds = 80.0
    assert ages[0].look(take_over=False) == 30.0


def test_a_clock_that_runs_backwards_takes_nothing_away(blobs):
    machine = Machine("one", 100.0)
    StoreAge(blobs, moment=machine).look()
    machine.seconds = 1.0
    assert StoreAge(blobs, moment=machine).look() == 0.0


def test_this_machine_tells_its_boot():
    first, second = now(), now()
    assert first.boot_id == second.boot_id
    assert second.seconds >= first.seconds


def test_a_newer_record_is_refused(blobs):
    blobs.create(BLOB, canonical_json({"schema_version": SCHEMA.version + 1}))
    with pytest.raises(InvalidInput, match="the store's age has schema 2, newer than 1"):
        StoreAge(blobs).look()
