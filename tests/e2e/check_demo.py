"""Do what README says, as a newcomer would, and look at what comes out.

The demonstration in an empty home folder, then again, then every command that README shows;
lineage down to exam items; one flipped byte found; no process left.
Run: `python -m tests.e2e.check_demo`.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

ROOT = Path(__file__).parents[2]
HONEST = {"PROMOTED", "REJECTED", "UNDECIDED", "NOTHING_WEAK", "STARVED", "UNDERPOWERED"}
CLUSTER = "demo --profile cluster"
ROUND_LIMIT_S = 300
"""From the first fetch to the outcome, base training included, on two quiet cores."""
SLACK = 2.0 if os.environ.get("CI") else 1.0
"""How much slower a busy machine may be before the time counts as a fault."""


def athanor(home: Path, *arguments: str, fails: bool = False, more: Mapping[str, str] = {}) -> str:
    """Run the command line in a home folder and return what it prints."""
    done = subprocess.run(
        [ROOT / "athanor", *arguments],
        cwd=home,
        env={**os.environ, "ATHANOR_HOME": str(home / "state"), **more},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert (done.returncode != 0) == fails, (arguments, done.returncode, done.stdout, done.stderr)
    return done.stdout


def check_first(home: Path) -> None:
    """The first run ends with an honest outcome, a report and at most 15 closing lines."""
    lines = athanor(home, "demo").splitlines()
    closing = lines[lines.index("") + 1 :]
    print("\n".join(closing))
    assert len(closing) <= 15
    seen = shown(home)
    outcome = seen["outcome"].removeprefix("OUTCOME_")
    assert outcome in HONEST, seen
    assert seen["duration_s"] < ROUND_LIMIT_S * SLACK, seen["duration_s"]
    report = next(line.split()[1] for line in closing if line.startswith("report"))
    page = Path(report).read_text(encoding="utf-8")
    assert page.lower().startswith("<!doctype html>")
    markup = re.sub(r"(?s)(<script[^>]*>).*?</script>", r"\1", page)
    outside = re.findall(r'<(?:script|link|img|iframe)[^>]+(?:src|href)="(?!data:)[^"]*', markup)
    assert not outside, f"the page must be self-contained, got {outside}"


def check_again(home: Path) -> None:
    """A second run is answered from the artifacts in under ten seconds and says so."""
    began = time.monotonic()
    printed = athanor(home, "demo")
    assert "from the artifacts" in printed
    assert time.monotonic() - began < 10 * SLACK


def check_lineage(home: Path) -> None:
    """A checkpoint leads back to plan, passages, queries, seeds, items and the base."""
    steps = {step["name"]: step.get("artifact_id", "") for step in shown(home)["steps"]}
    start = steps["train"] or steps["base"]
    nodes = json.loads(athanor(home, "lineage", start, "--json"))["nodes"]
    kinds = {node["kind"] for node in nodes}
    assert kinds >= {"checkpoint", "plan", "tokens", "passages", "exam_set", "documents"}, kinds
    if steps["train"]:
        notes = " ".join(note for node in nodes for note in node.get("notes", []))
        assert {"diagnosis", "responses", "exam"} <= kinds
        assert steps["base"] in {node["artifact_id"] for node in nodes}
        assert "quer" in notes


def check_verify(home: Path) -> None:
    """One flipped byte is found and its file named; mended, nothing is wrong."""
    base = next(s["artifact_id"] for s in shown(home)["steps"] if s["name"] == "base")
    assert "0 with a problem" in athanor(home, "artifacts", "verify", base)
    weights = home / "state" / "blobs" / "artifacts" / base / "model.safetensors"
    with flipped(weights.resolve(), 5000):
        found = json.loads(athanor(home, "artifacts", "verify", base, "--json", fails=True))
        assert [problem["file"] for problem in found["problems"]] == ["model.safetensors"], found


def check_readme(home: Path) -> None:
    """Every command that README shows for after a round works; `check_cluster` does the rest."""
    commands = re.findall(r"^    \./athanor (.+)$", (ROOT / "README.md").read_text(), re.M)
    assert commands
    for command in commands:
        assert command == CLUSTER or athanor(home, *command.split()), command


def check_cluster(home: Path) -> None:
    """On the real servers, each service with its own rights, a round gives the same artifacts."""
    cluster = {
        "ATHANOR_HOME": str(home / "cluster"),
        "ATHANOR_NAMESPACE": f"check-{uuid4().hex[:8]}-",
    }
    apply = [sys.executable, "-m", "deploy.minio", "apply"]
    subprocess.run(apply, cwd=ROOT, env={**os.environ, **cluster}, timeout=60, check=True)
    found = json.loads(athanor(home, *CLUSTER.split(), "--json", more=cluster).splitlines()[-1])
    expected = shown(home)
    assert found["outcome"] == expected["outcome"], found["outcome"]
    ids = [{s["name"]: s.get("artifact_id") for s in each["steps"]} for each in (expected, found)]
    assert ids[0] == ids[1], [name for name in ids[0] if ids[0][name] != ids[1][name]]


def check_nothing_left(home: Path) -> None:
    """No process of this home folder is left."""
    marks = {f"ATHANOR_HOME={home / name}".encode() for name in ("state", "cluster")}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environment = (process / "environ").read_bytes()
        except OSError:
            continue
        assert not marks & {*environment.split(b"\0")}, (process / "cmdline").read_bytes()


def shown(home: Path) -> dict[str, Any]:
    """Return the newest round."""
    found: dict[str, Any] = json.loads(athanor(home, "round", "show", "--json"))
    return found


@contextmanager
def flipped(path: Path, offset: int) -> Iterator[None]:
    """Flip one byte of a file during the block."""
    whole = path.read_bytes()
    path.write_bytes(whole[:offset] + bytes([whole[offset] ^ 1]) + whole[offset + 1 :])
    try:
        yield
    finally:
        path.write_bytes(whole)


CHECKS = (
    check_first,
    check_again,
    check_lineage,
    check_verify,
    check_readme,
    check_cluster,
    check_nothing_left,
)


def main() -> int:
    """Run the checks in order; return the exit code."""
    with tempfile.TemporaryDirectory() as name:
        for check in CHECKS:
            print(f"{check.__name__}: {check.__doc__}", flush=True)
            check(Path(name))
    print(f"{len(CHECKS)} passed, 0 failed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
