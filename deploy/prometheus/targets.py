"""The running services as Prometheus finds them: one file of its `file_sd_configs`.

Prometheus reads the file again by itself when it is replaced. `program` is the process, so that it
cannot hide the label `service` that the metrics carry themselves.
"""

import json
from collections.abc import Iterable
from pathlib import Path

from libs.errors import Unavailable
from libs.launcher import Report

JOB = "athanor"


def rendered(reports: Iterable[Report], *, home: Path) -> str:
    """Return the targets of what a launcher runs on a home folder, JSON."""
    groups = [
        {
            "targets": [f"127.0.0.1:{report.metrics_port}"],
            "labels": {"job": JOB, "program": report.name, "home": str(home)},
        }
        for report in sorted(reports)
    ]
    return json.dumps(groups, indent=1)


def write(folder: Path, reports: Iterable[Report], *, home: Path) -> Path:
    """Replace the home folder's file among the targets in `folder`; return its path.

    Raises:
        Unavailable: the folder cannot be written.
    """
    path = _file(folder, home)
    part = path.with_suffix(".part")  # Prometheus reads `*.json` alone
    try:
        folder.mkdir(parents=True, exist_ok=True)
        part.write_text(rendered(reports, home=home))
        part.replace(path)
    except OSError as error:
        raise Unavailable(f"Prometheus' targets cannot be kept in {folder}: {error}") from error
    return path


def remove(folder: Path, *, home: Path) -> None:
    """Let Prometheus forget the home folder's processes; harmless where it knows none."""
    _file(folder, home).unlink(missing_ok=True)


def _file(folder: Path, home: Path) -> Path:
    # One file a home folder: several may run beside each other.
    return folder / f"athanor{str(home.resolve()).replace('/', '-')}.json"
