"""An Elasticsearch of a test's own, to be killed and stopped."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from elasticsearch import ApiError, Elasticsearch, TransportError

from tests import stack
from tests.own_minio import free_port

_PATIENCE_S = 120.0
_MEGABYTES = 256


class OwnElasticsearch:
    """One server over a folder of its own; its port stays the same through restarts.

    As root it is started as nobody, since it refuses to run as root.
    """

    def __init__(self) -> None:
        program = _program()
        # Not below pytest's folder, which nobody else may enter.
        self._folder = Path(tempfile.mkdtemp(prefix="athanor-elasticsearch-"))
        self._folder.chmod(0o755)
        self._port = free_port()
        self._program = program / "bin" / "elasticsearch"
        self._process: subprocess.Popen[bytes] | None = None
        self._configure(program)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Start it and wait until all that it holds can be searched."""
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*_as_nobody(), str(self._program)],
                env={
                    "PATH": os.environ["PATH"],
                    "ES_JAVA_HOME": str(_java_home()),
                    "ES_JAVA_OPTS": f"-Xms{_MEGABYTES}m -Xmx{_MEGABYTES}m",
                    "ES_PATH_CONF": str(self._folder / "config"),
                    "ES_TMPDIR": str(self._folder / "tmp"),
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # the launcher's child is the server: a signal is for both
            )
        self._await_ready()

    def kill(self) -> None:
        """End it as a power cut would."""
        if self._process is not None:
            self._signal(signal.SIGKILL)
            self._process.wait(timeout=_PATIENCE_S)
            self._process = None

    def remove(self) -> None:
        """Kill it and delete what it held."""
        self.kill()
        shutil.rmtree(self._folder)

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """Let it hang: it accepts connections and answers nothing."""
        self._signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        os.killpg(self._process.pid, number)

    def _configure(self, program: Path) -> None:
        config = self._folder / "config"
        config.mkdir()
        for name in ("jvm.options", "log4j2.properties"):
            shutil.copyfile(program / "config" / name, config / name)
        lines = [
            "discovery.type: single-node",
            "xpack.security.enabled: false",
            "cluster.routing.allocation.disk.threshold_enabled: false",
            "http.host: 127.0.0.1",
            f"http.port: {self._port}",
            f"path.data: {self._folder / 'data'}",
            f"path.logs: {self._folder / 'logs'}",
        ]
        (config / "elasticsearch.yml").write_text("\n".join(lines) + "\n")
        for name in ("data", "logs", "tmp"):
            (self._folder / name).mkdir()
        if os.geteuid() == 0:
            for path in (self._folder, *self._folder.rglob("*")):
                shutil.chown(path, "nobody")

    def _await_ready(self) -> None:
        give_up = time.monotonic() + _PATIENCE_S
        with Elasticsearch(self.url, request_timeout=5, max_retries=0) as client:
            while True:
                assert self._process is not None
                assert self._process.poll() is None, (self._folder / "server.log").read_text()
                with contextlib.suppress(ApiError, TransportError):
                    if client.cluster.health()["status"] == "green":
                        return
                assert time.monotonic() < give_up, f"not ready within {_PATIENCE_S} s"
                time.sleep(0.1)


def _program() -> Path:
    found = sorted(stack.folder().glob("elasticsearch-*/bin/elasticsearch"))
    if not found:
        refuse = pytest.fail if os.environ.get("ATHANOR_REQUIRE_STACK") else pytest.skip
        refuse(f"no Elasticsearch is there ({stack.folder()}): make stack")
    return found[-1].parents[1]


def _java_home() -> Path:
    java = shutil.which("java")
    assert java is not None, "no java on the path"
    return Path(java).resolve().parents[1]


def _as_nobody() -> list[str]:
    return ["setpriv", "--reuid", "nobody", "--clear-groups"] if os.geteuid() == 0 else []
