"""Measures sides in turns, so that what drifts on a machine hits all of them alike."""

import time
from collections.abc import Callable, Mapping

from tests.bench.table import Spread


def interleaved(
    sides: Mapping[str, Callable[[], float]], *, repeats: int, warm_ups: int = 1
) -> dict[str, Spread]:
    """Call every side `warm_ups` times for nothing, then `repeats` times, in alternating order.

    A side does its whole work and returns its figure, a rate or a time.
    """
    for side in sides.values():
        for _ in range(warm_ups):
            side()
    figures: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(repeats):
        for name in list(sides)[:: -1 if turn % 2 else 1]:
            figures[name].append(sides[name]())
    return {name: Spread.of(values) for name, values in figures.items()}


def seconds(work: Callable[[], object]) -> float:
    """Return how long it took."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def rate(work: Callable[[], object], amount: float) -> Callable[[], float]:
    """Return a side whose figure is `amount` a second of `work`."""
    return lambda: amount / seconds(work)
