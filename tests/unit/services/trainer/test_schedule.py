import math

import pytest

from libs.errors import InvalidInput
from services.trainer.schedule import Schedule, learning_rate, num_steps

GIVEN = {"batch_size": 4, "sequence_length": 8, "learning_rate": 1.0}


def rates(steps, **fields):
    schedule = Schedule(**GIVEN | fields)
    return [learning_rate(schedule, step, steps) for step in range(steps)]


def test_the_rate_rises_linearly_and_falls_by_a_cosine_to_a_tenth():
    by_hand = [0.5, 1.0, 1.0, 0.55, 0.1]
    assert rates(5, warmup_steps=2) == pytest.approx(by_hand)


def test_the_rate_never_leaves_its_bounds():
    for warmup in (0, 1, 7, 30):
        assert all(0 < rate <= 1.0 for rate in rates(20, warmup_steps=warmup))


def test_one_step_has_the_peak_rate():
    assert rates(1) == [1.0]


@pytest.mark.parametrize(("positions", "steps"), [(0, 0), (1, 1), (4, 1), (5, 2)])
def test_a_last_batch_in_part_is_a_step(positions, steps):
    assert num_steps(positions, 4) == steps


@pytest.mark.parametrize(
    "field",
    [
        {"batch_size": 0},
        {"sequence_length": 1},
        {"learning_rate": 0.0},
        {"learning_rate": math.nan},
        {"learning_rate": math.inf},
        {"weight_decay": -0.1},
        {"max_grad_norm": -1.0},
        {"num_threads": 0},
        {"seed": 1 << 63},
    ],
    ids=str,
)
def test_numbers_without_sense_are_refused_by_name(field):
    with pytest.raises(InvalidInput, match=next(iter(field))):
        Schedule(**GIVEN | field)
