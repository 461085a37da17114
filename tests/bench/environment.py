"""The environment of the peers, and the machine that both sides run on.

The peers live in `.venv-bench`, which sees all of `.venv`: torch is installed once, and nothing
that only a benchmark needs reaches the services.
"""

import os
import platform
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
_HOME = ROOT / ".venv-bench"
_REQUIREMENTS = Path(__file__).with_name("requirements.txt")
# Set on some machines against faults of old OpenBLAS builds; they hide the processor's own kernels
# from both sides.
_UNSET = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class Machine(NamedTuple):
    """What a figure depends on beside the code."""

    cpu: str
    cores: int


def machine() -> Machine:
    """Return the processor's name and the cores that this process may use."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return Machine(cpu=(names or [platform.processor()])[0], cores=len(os.sched_getaffinity(0)))


def python() -> Path:
    """Return the interpreter that has the peers; installs them when they are missing or others."""
    done = _HOME / ".done"
    interpreter = _HOME / "bin" / "python"
    if done.exists() and done.read_text() == _REQUIREMENTS.read_text():
        return interpreter
    venv.create(_HOME, clear=True, with_pip=False)
    (site,) = _HOME.glob("lib/python*/site-packages")
    # `addsitedir`, since a bare path would not honour the `.pth` files in that folder.
    mine = sysconfig.get_path("purelib")
    (site / "athanor.pth").write_text(f"import site; site.addsitedir({mine!r})\n")
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "--python", str(interpreter), "install", "-q"),
            *("--disable-pip-version-check", "-c", str(ROOT / "constraints.txt")),
            *("-r", str(_REQUIREMENTS)),
        ],
        check=True,
    )
    done.write_text(_REQUIREMENTS.read_text())
    return interpreter


def variables(given: Mapping[str, str], threads: int) -> dict[str, str]:
    """Return the variables of a benchmark's process: the same threads for every library."""
    kept = {name: value for name, value in given.items() if name not in _UNSET}
    return kept | dict.fromkeys(_THREADS, str(threads)) | {"GRPC_VERBOSITY": "ERROR"}


def num_threads() -> int:
    """Return the threads that this benchmark's arithmetic may use, on both sides."""
    return int(os.environ["OMP_NUM_THREADS"])


def commit() -> str:
    """Return the commit that is measured, with `-dirty` when more than the results has changed."""
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!*/RESULTS.*")
    return (_git("rev-parse", "--short", "HEAD") or "unknown") + ("-dirty" if changed else "")


def _git(*arguments: str) -> str:
    """Return what git prints, nothing where there is no repository."""
    command = ["git", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip()
