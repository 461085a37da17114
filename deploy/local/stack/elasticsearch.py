"""Elasticsearch: the server without optional modules, from Maven Central.

It refuses to run as root. Root starts it as `nobody`, who owns what it writes and may read what
root may: a cache below a home that is closed to others needs no copy.
"""

import os
import shutil
import zipfile
from pathlib import Path

from deploy.local.stack import look, obtain
from deploy.local.stack.guard import Command, Guard
from deploy.local.stack.server import Server, Start

_VERSION = "8.19.3"
_PART = f"elasticsearch-{_VERSION}"
_ARTIFACT = f"org.elasticsearch.distribution.integ-test-zip:elasticsearch:{_VERSION}:zip"
_SETTINGS = """discovery.type: single-node
xpack.security.enabled: false
http.host: 127.0.0.1
http.port: {client}
transport.port: {transport}
cluster.routing.allocation.disk.threshold_enabled: false
path.data: {folder}/data
path.logs: {folder}/logs
"""


def _fill(folder: Path, guard: Guard, log: Path) -> None:
    goal = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy"
    obtain.maven(folder, guard, log, goal, f"-Dartifact={_ARTIFACT}", f"-DoutputDirectory={folder}")
    file = next(folder.glob("*.zip"))
    with zipfile.ZipFile(file) as packed:
        for entry in packed.infolist():
            place = Path(packed.extract(entry, folder))
            if mode := entry.external_attr >> 16:  # `extract` forgets who may execute
                place.chmod(mode & 0o777)
    file.unlink()
    for path in (folder / _PART).iterdir():
        path.rename(folder / path.name)
    (folder / _PART).rmdir()


def _command(start: Start, _: Guard) -> Command:
    home = start.run.cache / _PART
    config = start.folder / "config"
    config.mkdir(exist_ok=True)
    for name in ("jvm.options", "log4j2.properties"):
        shutil.copyfile(home / "config" / name, config / name)
    (config / "elasticsearch.yml").write_text(_SETTINGS.format(folder=start.folder, **start.ports))
    for name in ("data", "logs", "tmp"):
        (start.folder / name).mkdir(exist_ok=True)
    return Command(
        argv=(*_as_nobody(start.folder), str(home / "bin" / "elasticsearch")),
        folder=start.folder,
        env={
            "ES_JAVA_HOME": str(Path(obtain.java()).resolve().parents[1]),
            "ES_JAVA_OPTS": "-Xms512m -Xmx512m",
            "ES_PATH_CONF": str(config),
            "ES_TMPDIR": str(start.folder / "tmp"),
        },
    )


def _as_nobody(folder: Path) -> tuple[str, ...]:
    if os.geteuid() != 0:
        return ()
    for path in (folder, *folder.rglob("*")):
        shutil.chown(path, "nobody")
    setpriv = obtain.tool("setpriv", "apt-get install util-linux")
    right = "-all,+dac_read_search"
    # `access(2)` asks what the real user may, with no capability, unless the last option is set.
    return (
        *(setpriv, "--reuid=nobody", "--clear-groups"),
        *(f"--inh-caps={right}", f"--ambient-caps={right}", "--securebits=+no_setuid_fixup"),
    )


def _url(start: Start) -> str:
    return f"http://127.0.0.1:{start.ports['client']}"


ELASTICSEARCH = Server(
    name="elasticsearch",
    version=_VERSION,
    ports=("client", "transport"),
    parts={_PART: _fill},
    command=_command,
    is_ready=lambda start: look.says_ok(f"{_url(start)}/_cluster/health?wait_for_status=yellow"),
    settings=lambda start: {"ATHANOR_ELASTICSEARCH": _url(start)},
)
