"""Runs one benchmark and writes its rows: `python -m tests.bench.one NAME FILE [--quick]`.

Each has a process of its own, so that no library's threads outlive it into the next.
"""

import argparse
import importlib
from datetime import date
from pathlib import Path

from tests.bench import environment, table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("file", type=Path)
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    rows = importlib.import_module(f"tests.bench.{given.name}").run(given.quick)
    cpu, cores = environment.machine()
    commit, today = environment.commit(), date.today().isoformat()
    given.file.write_text(
        table.dumps(
            table.Record(row=row, commit=commit, date=today, cpu=cpu, cores=cores) for row in rows
        )
    )


if __name__ == "__main__":
    main()
