"""Kill drills: `python -m tests.drills [--all | --sample N | NAME...] [--seed S] [--list]`.

Each disturbs one round and compares what it leaves with an undisturbed one. Results are kept in
`.drills/results.jsonl`; `--all` leaves out what passed with the same code, and writes `RESULTS.md`.
"""

import argparse
import fcntl
import os
import signal
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from deploy.local import stack
from deploy.local.programs import ROOT, SERVICES
from libs.errors import ServiceError
from tests.bench import environment
from tests.drills import results
from tests.drills.matrix import Drill, Recipe, matrix, sample
from tests.drills.results import Result, Verdict
from tests.drills.run import Ground, Outcome
from tests.drills.servers import Servers
from tests.drills.stack import Failed

_FOLDER = ROOT / ".drills"
_KEPT = _FOLDER / "results.jsonl"
_TABLE = Path(__file__).with_name("RESULTS.md")


def main() -> int:
    """Return 1 when a drill fails, 0 else."""
    given = _arguments()
    _FOLDER.mkdir(exist_ok=True)
    with (_FOLDER / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.exit(f"drills are being done in {_FOLDER} already: wait for their end")
        code = results.code_digest(ROOT)
        cache = stack.Run.of(os.environ).cache
        servers = Servers(stack.Run(cache=cache, folder=_FOLDER / "servers"))
        ground = Ground(
            folder=_FOLDER, code=code, seed=given.seed, servers=servers, keep=given.keep
        )
        drills = matrix(ground.setting(Recipe.FOLDER).rpc_by_step, tuple(SERVICES), seed=given.seed)
        if given.list:
            print("\n".join(drill.name for drill in drills))
            return 0
        try:
            return _run(ground, drills, given)
        finally:
            servers.down()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.drills", description=__doc__)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--all", action="store_true", help="every drill that has not passed yet")
    what.add_argument("--sample", type=int, default=0, metavar="N", help="N of all kinds")
    parser.add_argument("--seed", type=int, default=1, metavar="S", help="of sample and moments")
    parser.add_argument("--keep", action="store_true", help="keep the folders of those that pass")
    parser.add_argument("--list", action="store_true", help="print the names and do nothing")
    parser.add_argument("names", nargs="*", metavar="NAME")
    return parser.parse_args()


def _chosen(ground: Ground, drills: Sequence[Drill], given: argparse.Namespace) -> list[Drill]:
    if given.sample:
        return sample(drills, given.sample, seed=given.seed)
    if given.names:
        by_name = {drill.name: drill for drill in drills}
        if unknown := sorted(set(given.names) - set(by_name)):
            sys.exit(f"unknown drills: {', '.join(unknown)}; --list prints the names")
        return [by_name[name] for name in given.names]
    if not given.all:
        sys.exit("say --all, --sample N or a drill's name; --list prints the names")
    done = results.latest(results.read(_KEPT), ground.code)
    passed = {name for name, each in done.items() if each.verdict is Verdict.PASSED}
    print(f"{len(passed)} of {len(drills)} drills have passed with this code already", flush=True)
    return [drill for drill in drills if drill.name not in passed]


def _run(ground: Ground, drills: Sequence[Drill], given: argparse.Namespace) -> int:
    # So that a SIGTERM ends the processes of a drill as a Ctrl-C does, and that commands started
    # here hear a Ctrl-C though a shell started this one with `&`.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.default_int_handler)
    chosen = _chosen(ground, drills, given)
    for recipe in sorted({drill.recipe for drill in chosen}):
        try:
            reference = ground.reference(recipe)
        except (Failed, ServiceError) as fault:
            print(f"the undisturbed round of {recipe} fails:\n{fault}")
            return 1
        print(
            f"undisturbed {recipe}: services up in {reference.up_s:.1f} s, round "
            f"{reference.left.outcome} in {reference.round_s:.1f} s",
            flush=True,
        )
    verdicts = [
        _report(ground, drill, f"[{number}/{len(chosen)}]")
        for number, drill in enumerate(chosen, 1)
    ]
    if given.all:
        _write_table(ground, drills)
    failed = verdicts.count(Verdict.FAILED)
    skipped = verdicts.count(Verdict.SKIPPED)
    print(
        f"drills: {len(verdicts) - failed - skipped} passed, {failed} failed"
        + (f", {skipped} skipped" if skipped else "")
    )
    return int(failed > 0)


def _report(ground: Ground, drill: Drill, where: str) -> Verdict:
    print(f"{where} {drill.name} ...", flush=True)
    began = time.monotonic()
    outcome = ground.do(drill)
    seconds = time.monotonic() - began
    results.append(_KEPT, _result(ground, drill, outcome, seconds))
    tries = f", hit at try {outcome.tries}" if outcome.tries > 1 else ""
    print(
        f"{where} {drill.name} {outcome.verdict} in {seconds:.1f} s, at {outcome.fraction:.0%}"
        f"{tries}: {outcome.shown_by}",
        flush=True,
    )
    return outcome.verdict


def _result(ground: Ground, drill: Drill, outcome: Outcome, seconds: float) -> Result:
    machine = environment.machine()
    return Result(
        drill=drill.name,
        verdict=outcome.verdict,
        done_to=drill.done_to,
        step=drill.step,
        fraction=outcome.fraction,
        shown_by=outcome.shown_by,
        seconds=seconds,
        code=ground.code,
        commit=environment.commit(),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=f"{machine.cpu}, {machine.cores} cores",
        stall_s=outcome.stall_s,
    )


def _write_table(ground: Ground, drills: Sequence[Drill]) -> None:
    done = results.latest(results.read(_KEPT), ground.code)
    rows = [done[drill.name] for drill in drills if drill.name in done]
    if rows:
        _TABLE.write_text(results.table(rows))


if __name__ == "__main__":
    sys.exit(main())
