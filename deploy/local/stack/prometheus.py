"""Prometheus: the one on the PATH, else Debian's package, unpacked and not installed."""

import json
import shutil
from pathlib import Path

from deploy.local.stack import look, obtain
from deploy.local.stack.guard import Command, Guard
from deploy.local.stack.server import Server, Start

_PART = "prometheus"
_RULES = Path(__file__).parents[2] / "prometheus"


def program(cache: Path, name: str = "prometheus") -> Path:
    """Return the path of `prometheus` or `promtool`, whether it is there yet or not."""
    found = shutil.which(name)
    return Path(found) if found else cache / _PART / "usr" / "bin" / name


def _fill(folder: Path, guard: Guard, log: Path) -> None:
    obtain.debian("prometheus", folder, guard, log)


def _command(start: Start, _: Guard) -> Command:
    config = start.folder / "prometheus.json"
    config.write_text(json.dumps(_config(start), indent=2))
    argv = (
        str(program(start.run.cache)),
        f"--config.file={config}",
        f"--storage.tsdb.path={start.folder / 'data'}",
        f"--web.listen-address={_address(start)}",
    )
    return Command(argv=argv, folder=start.folder)


def _config(start: Start) -> dict[str, object]:
    """Return the configuration; JSON is YAML. Files of targets are found while it runs."""
    targets = str(_targets(start) / "*.json")
    return {
        "global": {"scrape_interval": "5s", "evaluation_interval": "5s"},
        "rule_files": rules(_RULES),
        "scrape_configs": [
            {
                "job_name": "athanor",
                "file_sd_configs": [{"files": [targets], "refresh_interval": "5s"}],
            }
        ],
    }


def _targets(start: Start) -> Path:
    return start.run.folder / "targets"


def rules(folder: Path) -> list[str]:
    """Return the files of rules; tests of rules lie beside them and are none."""
    return [str(path) for path in sorted(folder.glob("*.yaml")) if "test" not in path.stem]


def _address(start: Start) -> str:
    return f"127.0.0.1:{start.ports['client']}"


PROMETHEUS = Server(
    name="prometheus",
    version="Debian's",
    ports=("client",),
    parts={} if shutil.which("prometheus") else {_PART: _fill},
    command=_command,
    is_ready=lambda start: look.says_ok(f"http://{_address(start)}/-/ready"),
    settings=lambda start: {
        "ATHANOR_PROMETHEUS": f"http://{_address(start)}",
        "ATHANOR_PROMETHEUS_TARGETS": str(_targets(start)),
    },
)
