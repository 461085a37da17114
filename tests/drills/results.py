"""What drills showed: kept one a line, so that a stopped run goes on, and shown as a table.

A result counts for the code that it was found with: the digest of everything that runs in a drill.
"""

import hashlib
import json
import os
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

COVERED = ("services", "libs", "protos", "deploy")
_COLUMNS = (
    *("drill", "result", "done to", "in step", "at", "take-over shown by", "stall, s", "seconds"),
)


class Verdict(StrEnum):
    """What became of a drill."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, kw_only=True)
class Result:
    """One drill, done."""

    drill: str
    verdict: Verdict
    done_to: str
    """Who was killed, or what was done instead."""
    step: str
    fraction: float
    """Of the step's undisturbed duration, when it was done."""
    shown_by: str
    """What shows that somebody took over; for `SKIPPED` what is missing, for `FAILED` the fault."""
    seconds: float
    code: str
    """Digest of the code that was drilled."""
    commit: str
    date: str
    machine: str
    stall_s: float = 0.0
    """How much longer than undisturbed the round took, seconds."""


def code_digest(root: Path) -> str:
    """Return a digest of the tracked files that a drill runs, as they lie in the tree."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--", *COVERED], cwd=root, capture_output=True, check=True
    ).stdout.decode()
    digest = hashlib.sha256()
    for name in sorted(filter(None, listed.split("\0"))):
        path = root / name
        if path.suffix != ".md" and path.is_file():
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            digest.update(f"{name}\0{content}\n".encode())
    return digest.hexdigest()[:16]


def append(path: Path, result: Result) -> None:
    """Keep one result."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 1))
        # A kill may have cut the last line off; this one must not become part of it.
        begin = b"" if file.read() in (b"", b"\n") else b"\n"
        file.write(begin + json.dumps(asdict(result)).encode() + b"\n")


def read(path: Path) -> list[Result]:
    """Return every result kept, oldest first; a line cut off by a kill is none."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [_result(line) for line in lines if line.endswith("}")]


def _result(line: str) -> Result:
    fields = json.loads(line)
    return Result(**fields | {"verdict": Verdict(fields["verdict"])})


def latest(results: Iterable[Result], code: str) -> Mapping[str, Result]:
    """Return the last result of each drill that was found with this code."""
    return {result.drill: result for result in results if result.code == code}


def table(results: Sequence[Result]) -> str:
    """Return the page that is committed: when, where, and a row for each drill."""
    counts = {verdict: sum(each.verdict is verdict for each in results) for verdict in Verdict}
    last = max(results, key=lambda each: each.date)
    rows = [
        (
            each.drill,
            str(each.verdict),
            each.done_to,
            each.step,
            f"{each.fraction:.0%}",
            each.shown_by.splitlines()[0] if each.shown_by else "",
            f"{each.stall_s:.0f}",
            f"{each.seconds:.0f}",
        )
        for each in results
    ]
    lines = [_COLUMNS, ("---",) * len(_COLUMNS), *rows]
    shown = "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in lines)
    return (
        "# Kill drills\n\nWritten by `make drills`. Each drill disturbs one round and compares all "
        "that it left with an\nundisturbed one: every artifact's bytes, the outcome, the "
        "registry; and no process may be left. A stall is how much longer than undisturbed\nthe "
        "round took.\n\n"
        f"Commit {last.commit}, {last.date[:10]}, {last.machine}: {counts[Verdict.PASSED]} passed, "
        f"{counts[Verdict.FAILED]} failed, {counts[Verdict.SKIPPED]} skipped.\n\n{shown}\n"
    )
