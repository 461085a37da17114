import pytest

from libs.clock import Clock
from libs.errors import InvalidInput


def test_the_file_shifts_wall_time_while_the_process_runs(tmp_path):
    clock, unshifted = Clock(tmp_path / "shift"), Clock()
    assert abs(clock.now() - unshifted.now()) < 5
    (tmp_path / "shift").write_text("-3600\n")
    assert abs(clock.now() + 3600 - unshifted.now()) < 5


def test_the_file_does_not_shift_monotonic_time(tmp_path):
    before = Clock().monotonic()
    (tmp_path / "shift").write_text("-3600")
    assert before <= Clock(tmp_path / "shift").monotonic() < before + 5


def test_a_file_that_is_being_written_shifts_nothing(tmp_path):
    (tmp_path / "shift").write_text("")
    assert abs(Clock(tmp_path / "shift").now() - Clock().now()) < 5


def test_a_shift_that_is_no_number_is_refused(tmp_path):
    (tmp_path / "shift").write_text("tomorrow")
    with pytest.raises(InvalidInput, match="shift must hold a number of seconds, got 'tomorrow'"):
        Clock(tmp_path / "shift").now()
