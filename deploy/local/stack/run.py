"""The folders of a stack: a cache of what was obtained, and one run with its state.

<cache>/<part>/          what a server is made of; complete if it is there
<run>/stack.env          where the servers answer, with credentials: mode 0600
<run>/secrets.json       the credentials, made once: mode 0600
<run>/ports.json         kept between starts, so that clients find a server again
<run>/<server>/          its configuration and data
<run>/logs/<server>.log
<run>/targets/*.json     what Prometheus scrapes; others may add files
"""

import fcntl
import json
import os
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from libs.errors import DeadlineExceeded
from libs.launcher.home import still_free, unused_port

_LOCK_S = 900.0
"""Somebody else may be obtaining a server: MinIO takes minutes to build."""
_LOOK_S = 0.05


@dataclass(frozen=True, kw_only=True)
class Run:
    """One stack's folders; `cache` may be shared by several."""

    cache: Path
    folder: Path

    @classmethod
    def of(cls, env: Mapping[str, str]) -> "Run":
        """Return the folders that the environment names: `ATHANOR_STACK`, `ATHANOR_STACK_RUN`."""
        default = Path.home() / ".cache" / "athanor" / "stack"
        cache = Path(env.get("ATHANOR_STACK") or default).resolve()
        return cls(
            cache=cache, folder=Path(env.get("ATHANOR_STACK_RUN") or cache / "run").resolve()
        )

    @property
    def env_file(self) -> Path:
        """Where the settings of the running servers stand."""
        return self.folder / "stack.env"

    @property
    def is_foreign(self) -> bool:
        """True if somebody else wrote `stack.env`, say for servers on other machines."""
        return self.env_file.exists() and not (self.folder / "ports.json").exists()

    def log(self, name: str) -> Path:
        """Return a server's log."""
        return self.folder / "logs" / f"{name}.log"

    def settings(self) -> dict[str, str]:
        """Return what `stack.env` says; empty when it is absent."""
        with suppress(FileNotFoundError):
            lines = self.env_file.read_text().splitlines()
            return dict(line.split("=", 1) for line in lines)
        return {}

    def write_settings(self, settings: Mapping[str, str]) -> None:
        """Replace `stack.env` at once."""
        lines = [f"{name}={value}\n" for name, value in settings.items()]
        _replace(self.env_file, "".join(lines))

    def secrets(self) -> Mapping[str, str]:
        """Return `minio_access_key`, `minio_secret_key`, `triton_key`; made when first asked."""
        path = self.folder / "secrets.json"
        if not path.exists():
            made = {
                "minio_access_key": f"athanor-{secrets.token_hex(4)}",
                "minio_secret_key": secrets.token_urlsafe(24),
                "triton_key": secrets.token_urlsafe(24),
            }
            _replace(path, json.dumps(made))
        found: dict[str, str] = json.loads(path.read_text())
        return found

    def ports(self) -> dict[str, dict[str, int]]:
        """Return the ports of every server that was ever started here, by their names."""
        with suppress(FileNotFoundError):
            found: dict[str, dict[str, int]] = json.loads((self.folder / "ports.json").read_text())
            return found
        return {}

    def keep_ports(self, server: str, names: tuple[str, ...]) -> None:
        """Give a server its ports, those of its last start unless a stranger listens there."""
        before = self.ports()
        taken = {port for ports in before.values() for port in ports.values()}
        kept = {
            name: still_free(server, port)
            for name, port in before.get(server, dict.fromkeys(names, 0)).items()
        }
        chosen = {name: port or unused_port(taken) for name, port in kept.items()}
        _replace(self.folder / "ports.json", json.dumps({**before, server: chosen}))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Be the only one who starts or ends servers of this run; see `locked`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with locked(self.folder / "lock", what=f"another command on the stack in {self.folder}"):
            yield


@contextmanager
def locked(path: Path, *, what: str) -> Iterator[None]:
    """Hold a lock that the kernel lets go of when this process ends, however it does.

    Raises:
        DeadlineExceeded: `what` holds it for a quarter of an hour.
    """
    give_up = time.monotonic() + _LOCK_S
    with path.open("a") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > give_up:
                    raise DeadlineExceeded(f"waited {_LOCK_S:g} s for {what}") from None
                time.sleep(_LOOK_S)
        yield


def _replace(path: Path, text: str) -> None:
    part = path.with_suffix(".part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    part.replace(path)
