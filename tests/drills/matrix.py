"""Which drills there are, and which of them a sample takes.

Pure: the matrix follows from the recipe's steps, so a new step or a new service is drilled without
anybody thinking of it.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations, zip_longest


class Kind(StrEnum):
    """What is done to the round."""

    KILL = "kill"
    KILL_TWO = "kill-two"
    KILL_LAUNCHER = "kill-launcher"
    FULL_DISK = "full-disk"
    READ_ONLY = "read-only"
    CLOCK_AHEAD = "clock-ahead"
    TWO_WORKERS = "two-workers"
    NEW_EXAM = "new-exam"
    INTERRUPT = "interrupt"
    KILL_COMMAND = "kill-command"
    TERMINATE = "terminate"


class Recipe(StrEnum):
    """Which round is drilled."""

    FOLDER = "drill"
    SITE = "drill-site"


@dataclass(frozen=True, kw_only=True)
class Drill:
    """One drill."""

    kind: Kind
    step: str
    """While this step of the round runs."""
    victims: tuple[str, ...] = ()
    """Services that it is done to; empty: not to a service."""
    recipe: Recipe = Recipe.FOLDER

    @property
    def name(self) -> str:
        """The name on the command line: `kill-corpus-in-passages`."""
        site = "site-" if self.recipe is Recipe.SITE else ""
        verb = "kill" if self.kind is Kind.KILL_TWO else self.kind
        return f"{site}{'-'.join((verb, '-and-'.join(self.victims))).rstrip('-')}-in-{self.step}"

    @property
    def done_to(self) -> str:
        """Who is killed, or what is done instead."""
        launcher = self.kind is Kind.KILL_LAUNCHER
        return "launcher" if launcher else " and ".join(self.victims) or self.kind

    @property
    def stratum(self) -> int:
        """Drills of one stratum show alike things; a sample takes from each."""
        return {Kind.KILL: 0, Kind.KILL_LAUNCHER: 1, Kind.KILL_TWO: 2}.get(self.kind, 3)


def matrix(
    rpc_by_step: Mapping[str, str], services: Sequence[str], *, seed: int
) -> tuple[Drill, ...]:
    """Return every drill, for a round of these steps and a launcher of these services.

    Args:
        rpc_by_step: step to `<service>.<Method>`, in running order.
        services: all of them; those that own no step are killed too.
        seed: chooses the steps of the pairs.
    """
    steps = tuple(rpc_by_step)
    owners = {step: rpc.partition(".")[0] for step, rpc in rpc_by_step.items()}
    drills = [
        *(Drill(kind=Kind.KILL, step=s, victims=(each,)) for s in steps for each in services),
        *(Drill(kind=Kind.KILL_LAUNCHER, step=step) for step in steps),
        *(_pair(pair, owners, seed) for pair in combinations(services, 2)),
        *_site(),
        *_further(services),
    ]
    return tuple(drill for drill in drills if drill.step in rpc_by_step)


def _pair(pair: tuple[str, str], owners: Mapping[str, str], seed: int) -> Drill:
    """Kill two at once in a step of one of them, if one of them has steps."""
    own = [step for step, owner in owners.items() if owner in pair]
    step = random.Random(f"{seed} {pair}").choice(own or list(owners))
    return Drill(kind=Kind.KILL_TWO, step=step, victims=pair)


def _site() -> list[Drill]:
    """What only a crawl shows: a frontier taken up again."""
    site = Recipe.SITE
    return [
        Drill(kind=Kind.KILL, step="documents", victims=("corpus",), recipe=site),
        Drill(kind=Kind.KILL, step="documents", victims=("loop",), recipe=site),
        Drill(kind=Kind.KILL, step="exam", victims=("evaluator",), recipe=site),
        Drill(kind=Kind.KILL_LAUNCHER, step="documents", recipe=site),
    ]


def _further(services: Sequence[str]) -> list[Drill]:
    worked = {
        "corpus": "collect",
        "sampler": "index_tokens",
        "trainer": "train",
        "evaluator": "examine",
        "loop": "collect",
    }
    return [
        Drill(kind=Kind.FULL_DISK, step="base"),
        Drill(kind=Kind.FULL_DISK, step="train"),
        Drill(kind=Kind.READ_ONLY, step="base"),
        Drill(kind=Kind.READ_ONLY, step="examine_candidate"),
        *(Drill(kind=Kind.CLOCK_AHEAD, step="index_tokens", victims=(each,)) for each in services),
        *(
            Drill(kind=Kind.TWO_WORKERS, step=step, victims=(each,))
            for each, step in worked.items()
            if each in services
        ),
        Drill(kind=Kind.NEW_EXAM, step="collect"),
        Drill(kind=Kind.INTERRUPT, step="base"),
        Drill(kind=Kind.KILL_COMMAND, step="train"),
        Drill(kind=Kind.TERMINATE, step="base"),
    ]


def sample(drills: Sequence[Drill], size: int, *, seed: int) -> list[Drill]:
    """Return `size` drills, as evenly from the strata as they allow; the same seed, the same."""
    draw = random.Random(seed)
    strata: dict[int, list[Drill]] = {}
    for drill in drills:
        strata.setdefault(drill.stratum, []).append(drill)
    shuffled = [draw.sample(strata[key], len(strata[key])) for key in sorted(strata)]
    dealt = [drill for row in zip_longest(*shuffled) for drill in row if drill is not None]
    return dealt[:size]
