"""Performance beside a peer: `python -m tests.bench [NAME ...] [--quick] [--json]`.

Both sides do the same work, warmed up and in turns. What was measured replaces the rows of the same
name in `RESULTS.json`, and `RESULTS.md` is made from that; `--quick` proves only that everything
runs and agrees, so it writes neither.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.bench import environment, table

NAMES = (
    "bus",
    "kafka",
    "blobs",
    "search",
    "rpc",
    "tracing",
    "sampler",
    "kmeans",
    "scoring",
    "triton",
    "training",
)
_RESULTS = Path(__file__).with_name("RESULTS.md")
_HEADING = """# Benchmarks

Written by `make bench`. Figures are medians of repeats, minimum and maximum in brackets; the ratio
is that of speeds, above 1 ours is faster.

"""


def main() -> None:
    given = _arguments()
    python = environment.python()
    records = [record for name in given.names for record in _measured(python, name, given.quick)]
    if not given.quick:
        _write(records)
    print(table.dumps(records) if given.json else table.rendered(records), end="")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}")
    parser.add_argument("--quick", action="store_true", help="small sizes; writes no results")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    given = parser.parse_args()
    if unknown := sorted(set(given.names) - set(NAMES)):
        parser.error(f"expected names of {', '.join(NAMES)}, got {', '.join(unknown)}")
    given.names = given.names or list(NAMES)
    return given


def _measured(python: Path, name: str, quick: bool) -> list[table.Record]:
    print(f"{name} ...", file=sys.stderr, flush=True)
    variables = environment.variables(os.environ, environment.machine().cores)
    if name == "triton":
        # As Triton and every service do: threads that spin take the cores from the other side.
        variables |= {"OMP_WAIT_POLICY": "PASSIVE"}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.json"
        command = [str(python), "-m", "tests.bench.one", name, str(file)]
        command += ["--quick"] if quick else []
        # What libraries print there is not our table.
        subprocess.run(command, cwd=environment.ROOT, env=variables, stdout=sys.stderr, check=True)
        return table.loads(file.read_text())


def _write(records: list[table.Record]) -> None:
    stored = _RESULTS.with_suffix(".json")
    old = table.loads(stored.read_text()) if stored.exists() else []
    everything = table.merged(old, records)
    stored.write_text(table.dumps(everything))
    _RESULTS.write_text(_HEADING + table.rendered(everything))


if __name__ == "__main__":
    main()
