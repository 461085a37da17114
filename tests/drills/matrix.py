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
    KILL_SERVER = "kill-server"
    STOP = "stop"
    CLOSED_STORE = "closed-store"
    SKEW = "skew"


class Recipe(StrEnum):
    """Which round is drilled."""

    FOLDER = "drill"
    SITE = "drill-site"
    CLUSTER = "cluster"
    """The same round as `FOLDER`, on the real servers."""


SERVERS = ("kafka", "minio", "elasticsearch", "triton")
_WORKED = {
    "corpus": "collect",
    "sampler": "index_tokens",
    "trainer": "train",
    "evaluator": "examine",
    "loop": "collect",
}
"""Service to a step in which it works for long enough to be hit."""
_BUSY = {
    **_WORKED,
    "kafka": "train",
    "minio": "base",
    "elasticsearch": "collect",
    "triton": "examine_candidate",
}
"""Service or server to a step that cannot go on without it."""


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
        where = {Recipe.SITE: "site-", Recipe.CLUSTER: "cluster-"}.get(self.recipe, "")
        verb = "kill" if self.kind in (Kind.KILL_TWO, Kind.KILL_SERVER) else self.kind
        return f"{where}{'-'.join((verb, '-and-'.join(self.victims))).rstrip('-')}-in-{self.step}"

    @property
    def done_to(self) -> str:
        """Who is killed, or what is done instead."""
        launcher = self.kind is Kind.KILL_LAUNCHER
        return "launcher" if launcher else " and ".join(self.victims) or self.kind

    @property
    def stratum(self) -> int:
        """Drills of one stratum show alike things; a sample takes from each."""
        if self.recipe is Recipe.CLUSTER:
            return 4 if self.kind in (Kind.KILL_SERVER, Kind.KILL) else 5
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
        *_cluster([each for each in services if each != "lm"], steps, seed),
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
    return [
        Drill(kind=Kind.FULL_DISK, step="base"),
        Drill(kind=Kind.FULL_DISK, step="train"),
        Drill(kind=Kind.READ_ONLY, step="base"),
        Drill(kind=Kind.READ_ONLY, step="examine_candidate"),
        *(Drill(kind=Kind.CLOCK_AHEAD, step="index_tokens", victims=(each,)) for each in services),
        *(
            Drill(kind=Kind.TWO_WORKERS, step=step, victims=(each,))
            for each, step in _WORKED.items()
            if each in services
        ),
        Drill(kind=Kind.NEW_EXAM, step="collect"),
        Drill(kind=Kind.INTERRUPT, step="base"),
        Drill(kind=Kind.KILL_COMMAND, step="train"),
        Drill(kind=Kind.TERMINATE, step="base"),
    ]


def _cluster(services: Sequence[str], steps: Sequence[str], seed: int) -> list[Drill]:
    """Each server and service killed and stopped, the store closed, clocks skewed."""
    on = Recipe.CLUSTER
    kinds = {**dict.fromkeys(SERVERS, Kind.KILL_SERVER), **dict.fromkeys(services, Kind.KILL)}
    return [
        *(
            Drill(kind=kind, step=step, victims=(each,), recipe=on)
            for each, kind in kinds.items()
            for step in (_BUSY[each], *_others(each, steps, seed))
        ),
        *(Drill(kind=Kind.STOP, step=_BUSY[each], victims=(each,), recipe=on) for each in kinds),
        Drill(kind=Kind.CLOSED_STORE, step="base", recipe=on),
        *(
            Drill(kind=Kind.TWO_WORKERS, step=_WORKED[each], victims=(each,), recipe=on)
            for each in services
        ),
        *(Drill(kind=Kind.SKEW, step=_BUSY[each], victims=(each,), recipe=on) for each in services),
    ]


def _others(victim: str, steps: Sequence[str], seed: int) -> list[str]:
    """Return two steps by chance that are not the one in which the victim is busy."""
    rest = [step for step in steps if step != _BUSY[victim]]
    return random.Random(f"{seed} {victim}").sample(rest, min(2, len(rest)))


def sample(drills: Sequence[Drill], size: int, *, seed: int) -> list[Drill]:
    """Return `size` drills, as evenly from the strata as they allow; the same seed, the same."""
    draw = random.Random(seed)
    strata: dict[int, list[Drill]] = {}
    for drill in drills:
        strata.setdefault(drill.stratum, []).append(drill)
    shuffled = [draw.sample(strata[key], len(strata[key])) for key in sorted(strata)]
    dealt = [drill for row in zip_longest(*shuffled) for drill in row if drill is not None]
    return dealt[:size]
