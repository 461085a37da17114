"""Plan or apply the buckets, rules, users and policies: `python -m deploy.minio plan|apply`.

Reads `ATHANOR_MINIO`, `ATHANOR_MINIO_ACCESS_KEY`, `ATHANOR_MINIO_SECRET_KEY` (an administrator's)
and `ATHANOR_NAMESPACE`. A service takes its secret from the file that `apply` leaves for it.
"""

import argparse
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from deploy.local.home import home_folder
from deploy.minio.server import Server, secret_keys
from libs.errors import InvalidInput, ServiceError, kind_of

_READY_S = 30.0


def main() -> int:
    """Run; a plan that is not empty ends with 1, so that a script sees drift."""
    given = _arguments()
    try:
        keys = secret_keys(given.secrets, make=given.verb == "apply")
        server = _server(os.environ)
        server.await_ready(_READY_S)
        changes = server.changes(keys)
        for change in changes:
            if given.verb == "apply":
                server.make(change)
            print(change.text)  # noqa: T201 - the command's output
    except ServiceError as error:
        sys.exit(f"{kind_of(error).__name__}: {error}")
    return 1 if changes and given.verb == "plan" else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m deploy.minio", description=__doc__)
    parser.add_argument("verb", choices=("plan", "apply"))
    folder = home_folder() / "secrets" / "minio"
    parser.add_argument(
        "--secrets", type=Path, default=folder, help="folder of one file a service, its secret key"
    )
    return parser.parse_args()


def _server(env: Mapping[str, str]) -> Server:
    return Server(
        _set(env, "ATHANOR_MINIO"),
        access_key=_set(env, "ATHANOR_MINIO_ACCESS_KEY"),
        secret_key=_set(env, "ATHANOR_MINIO_SECRET_KEY"),
        namespace=env.get("ATHANOR_NAMESPACE", ""),
    )


def _set(env: Mapping[str, str], name: str) -> str:
    if not env.get(name):
        raise InvalidInput(f"{name} must be set: source the stack's stack.env")
    return env[name]


if __name__ == "__main__":
    sys.exit(main())
