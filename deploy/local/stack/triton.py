"""Triton with its python backend, on CPU: the server binary inside a wheel from PyPI.

It reads its model repository straight from MinIO. Loading models and shared memory ask for a key,
`ATHANOR_TRITON_KEY`, in the header `triton-grpc-protocol-athanor` (HTTP: `athanor`). The key stands
on the command line, since Triton takes it nowhere else: other users of the machine can read it.
"""

import re
import shutil
import sys
import sysconfig
from collections.abc import Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from deploy.local.stack import look, minio, obtain
from deploy.local.stack.guard import Command, Guard
from deploy.local.stack.server import Server, Start
from libs.errors import Unavailable

_WHEEL = "0.7.0"
_VERSION = "2.51.0"
_NUMPY = "1.26.4"
"""The stub of this release garbles tensors under numpy 2."""
_NUMPY_PART = f"triton-numpy-{_NUMPY}"
_PYTHON = f"python{sys.version_info[0]}.{sys.version_info[1]}"
_SHARED = Path("/dev/shm")
_MODELS = re.compile(r" (/tmp/(?:folder)\w{6})/")
"""Where this release puts a model; each has a process with the path on its command line."""


def _fill_wheel(folder: Path, guard: Guard, log: Path) -> None:
    target = folder / "lib" / _PYTHON / "site-packages"
    target.mkdir(parents=True)
    obtain.pip_install(f"nvidia-pytriton=={_WHEEL}", target, guard, log)


def _fill_numpy(folder: Path, guard: Guard, log: Path) -> None:
    obtain.pip_install(f"numpy=={_NUMPY}", folder, guard, log)


def _command(start: Start, _: Guard) -> Command:
    packages = next((start.run.cache / "triton").glob("lib/python3*/site-packages"))
    backends = _backends(start, packages)
    python = _python(start)
    return Command(
        argv=(
            str(packages / "pytriton/tritonserver/bin/tritonserver"),
            *_arguments(start, backends),
        ),
        folder=start.folder,
        env=_environment(start, packages, python),
    )


def _backends(start: Start, packages: Path) -> Path:
    """Put the python backend beside the stub for this interpreter."""
    folder = start.folder / "backends"
    server = packages / "pytriton" / "tritonserver"
    stub = server / "python_backend_stubs" / _PYTHON.removeprefix("python")
    if not stub.exists():
        raise Unavailable(f"Triton's python backend has no stub for {_PYTHON}: use Python 3.11")
    shutil.rmtree(folder, ignore_errors=True)  # what still runs keeps its file; it is busy
    shutil.copytree(server / "backends" / "python", folder / "python")
    shutil.copy(stub / "triton_python_backend_stub", folder / "python")
    return folder


def _python(start: Start) -> Path:
    """Make the environment of models: numpy for the stub, everything else from this one."""
    folder = start.folder / "python"
    packages = folder / "lib" / _PYTHON / "site-packages"
    packages.mkdir(parents=True, exist_ok=True)
    (folder / "bin").mkdir(exist_ok=True)
    for name in ("python3", "python"):
        (folder / "bin" / name).unlink(missing_ok=True)
        (folder / "bin" / name).symlink_to(Path(sys.executable).resolve())
    home = Path(sys.executable).resolve().parent
    (folder / "pyvenv.cfg").write_text(f"home = {home}\ninclude-system-site-packages = false\n")
    own = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    lines = [str(start.run.cache / _NUMPY_PART), *own]
    (packages / "athanor.pth").write_text("\n".join(lines) + "\n")
    return folder


def _arguments(start: Start, backends: Path) -> list[str]:
    ports = start.ports
    key = f"model-repository,shared-memory:athanor={start.run.secrets()['triton_key']}"
    return [
        f"--model-repository=s3://{minio.url(start)}/{minio.MODELS}/{minio.REPOSITORY}",
        f"--backend-directory={backends}",
        f"--backend-config=python,shm-region-prefix-name={_shared_prefix(start)}",
        "--model-control-mode=explicit",
        # Our configurations are whole; to ask the program for one is to start it twice.
        "--disable-auto-complete-config",
        "--exit-timeout-secs=5",
        # A candidate whose weights are refused must not make the others look dead.
        "--strict-readiness=false",
        *("--http-address=127.0.0.1", f"--http-port={ports['http']}"),
        *("--grpc-address=127.0.0.1", f"--grpc-port={ports['client']}"),
        *("--metrics-address=127.0.0.1", f"--metrics-port={ports['metrics']}"),
        *(f"--http-restricted-api={key}", f"--grpc-restricted-protocol={key}"),
    ]


def _environment(start: Start, packages: Path, python: Path) -> dict[str, str]:
    from deploy.local.programs import THREADS

    libraries = (
        library_folder(),
        packages / "nvidia_pytriton.libs",
        packages / "pytriton/tritonserver/external_libs",
    )
    return {
        "PATH": f"{python}/bin:/usr/local/bin:/usr/bin:/bin",
        "LD_LIBRARY_PATH": ":".join(map(str, libraries)),
        "AWS_ACCESS_KEY_ID": start.run.secrets()["minio_access_key"],
        "AWS_SECRET_ACCESS_KEY": start.run.secrets()["minio_secret_key"],
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        # As in the services: other thread counts give other last bits.
        "OMP_NUM_THREADS": THREADS,
        "OMP_WAIT_POLICY": "PASSIVE",
    }


def library_folder() -> Path:
    """Return where the shared library of this Python lies: the stub of models is linked with it.

    Raises:
        Unavailable: this Python was built without, or it is another package.
    """
    name = f"lib{_PYTHON}.so.1.0"
    folder = Path(sysconfig.get_config_var("LIBDIR"))
    places = (folder, folder / (sysconfig.get_config_var("MULTIARCH") or ""))
    for place in places:
        if (place / name).exists():
            return place
    raise Unavailable(
        f"Triton's models need {name}, found none in {folder}: apt-get install lib{_PYTHON}, "
        "or build Python with --enable-shared"
    )


def _shared_prefix(start: Start) -> str:
    return f"athanor-{sha256(str(start.folder).encode()).hexdigest()[:12]}-"


def _strays(start: Start, pids: Sequence[int]) -> list[Path]:
    """Return its shared memory, and the folders where it put models that it read from MinIO."""
    shared = _SHARED.glob(f"{_shared_prefix(start)}*")
    models = {found for pid in pids for found in _MODELS.findall(_command_line(pid))}
    return [*shared, *map(Path, sorted(models))]


def _command_line(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    return ""


def _settings(start: Start) -> dict[str, str]:
    return {
        "ATHANOR_TRITON": f"127.0.0.1:{start.ports['client']}",
        "ATHANOR_TRITON_METRICS": f"http://127.0.0.1:{start.ports['metrics']}/metrics",
        "ATHANOR_TRITON_KEY": start.run.secrets()["triton_key"],
    }


def replica(number: int) -> Server:
    """Return the first Triton, `triton`, or another on the same repository, `triton-<number>`."""
    return Server(
        name="triton" if number == 1 else f"triton-{number}",
        version=_VERSION,
        ports=("client", "http", "metrics"),
        parts={"triton": _fill_wheel, _NUMPY_PART: _fill_numpy},
        command=_command,
        is_ready=lambda start: look.says_ok(
            f"http://127.0.0.1:{start.ports['http']}/v2/health/ready"
        ),
        settings=_settings,
        strays=_strays,
        needs=("minio",),
        scrape={"job": "triton", "port": "metrics"},
    )
