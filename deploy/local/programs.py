"""What runs on one machine: each service as a process, told where the others are.

A new service is one row in `SERVICES`; the addresses that it needs stand beside it.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from deploy.demo.site import LOGICAL_PREFIX
from deploy.minio.rights import secrets_folder, user
from deploy.tls.folder import OPERATOR, PEOPLE, identity, is_secured, tls_folder
from libs.launcher import Ports, Program
from libs.profile import Profile, chosen
from libs.tls import Tls

ROOT = Path(__file__).parents[2]
SERVICES: Mapping[str, tuple[str, ...]] = {
    "lm": (),
    "corpus": (),
    "sampler": (),
    "trainer": ("sampler",),
    "evaluator": ("lm",),
    "loop": ("corpus", "sampler", "trainer", "evaluator", "lm"),
}
"""Service to the services that it calls, in the order in which they start."""
_MODULES = {"lm": "libs.lm"}
ABSENT = Ports(1, 1)
"""Stands for a service that is not started: nothing listens there."""
THREADS = "2"
"""Threads of matrix products in every service: other numbers give other last bits."""


def names_of(profile: Profile) -> tuple[str, ...]:
    """Return the services that run on a profile: on a cluster Triton stands for the lm host."""
    return tuple(each for each in SERVICES if profile is Profile.EMBEDDED or each != "lm")


def services(
    home: Path,
    *,
    names: Sequence[str] = tuple(SERVICES),
    settings: Mapping[str, str] = {},
) -> list[Program]:
    """Return the programs of `names`; `settings` are `<SERVICE>_<FIELD>` beyond the defaults."""
    return [
        Program(
            name=name,
            argv=(sys.executable, "-m", _MODULES.get(name, f"services.{name}")),
            env=partial(_environment, name, home.resolve(), dict(settings)),
            tls=operator(home),
        )
        for name in names
    ]


def site(folder: Path) -> Program:
    """Return the demonstration's web site, serving `folder`."""
    return Program(
        name="site",
        argv=(sys.executable, "-m", "deploy.demo.site", str(folder.resolve()), "{port}"),
        env=lambda _: {"PYTHONPATH": str(ROOT)},
        health=False,
    )


def operator(home: Path) -> Tls | None:
    """Return who the command line is on this home folder; None where connections are plain."""
    return identity(tls_folder(home), OPERATOR) if is_secured(home) else None


def secure(home: Path) -> None:
    """Give everybody on a home folder a certificate that lasts; see `deploy.tls.authority.make`.

    Raises:
        Unavailable: the folder cannot be written.
        Corrupt: a file there is no certificate.
    """
    from deploy.tls.authority import (
        make,  # not for the many verbs that make none: cryptography costs 20 ms
    )

    make(tls_folder(home), (*SERVICES, *PEOPLE))


def _tls(name: str, home: Path) -> Mapping[str, str]:
    if not is_secured(home):
        return {}
    files = identity(tls_folder(home), name)
    prefix = f"{name.upper()}_TLS"
    return {
        f"{prefix}_CERT": str(files.cert),
        f"{prefix}_PRIVATE": str(files.private),
        f"{prefix}_CA": str(files.ca),
    }


def _store_user(name: str, home: Path, env: Mapping[str, str]) -> Mapping[str, str]:
    """Return the service's own credentials, where `python -m deploy.minio apply` made some."""
    secret = secrets_folder(home) / name
    if chosen(env) is Profile.EMBEDDED or not secret.exists():
        return {}
    return {
        "ATHANOR_MINIO_ACCESS_KEY": user(env.get("ATHANOR_NAMESPACE", ""), name),
        "ATHANOR_MINIO_SECRET_KEY": secret.read_text("utf-8").strip(),
    }


def _environment(
    name: str, home: Path, settings: Mapping[str, str], ports: Mapping[str, Ports]
) -> dict[str, str]:
    prefix = name.upper()
    addresses = {
        f"{prefix}_{other.upper()}_ADDRESS": f"127.0.0.1:{ports.get(other, ABSENT).port}"
        for other in SERVICES[name]
    }
    if name == "corpus" and "site" in ports:
        host = LOGICAL_PREFIX.split("/")[2]
        settings = {"CORPUS_HOSTS": f"{host}=127.0.0.1:{ports['site'].port}", **settings}
    own = {key: value for key, value in settings.items() if key.startswith(f"{prefix}_")}
    return {
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": THREADS,
        "ATHANOR_HOME": str(home),
        f"{prefix}_PORT": str(ports[name].port),
        f"{prefix}_METRICS_PORT": str(ports[name].metrics_port),
        **_tls(name, home),
        **_store_user(name, home, os.environ),
        **addresses,
        **own,
    }
