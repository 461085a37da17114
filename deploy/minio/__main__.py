"""Plan or apply the buckets, rules, users and policies: `python -m deploy.minio plan|apply`.

Reads `ATHANOR_MINIO`, `ATHANOR_MINIO_ACCESS_KEY`, `ATHANOR_MINIO_SECRET_KEY` (an administrator's)
and `ATHANOR_NAMESPACE`; without them it takes what `make stack` wrote. A service that starts on the
home folder afterwards is the user whose secret `apply` left there, and may no more than its row.
"""

import argparse
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from deploy.local.cluster import enter
from deploy.local.home import home_folder
from deploy.minio.rights import secrets_folder
from deploy.minio.server import Server, secret_keys
from libs.errors import InvalidInput, ServiceError, kind_of
from libs.profile import Profile

_READY_S = 30.0


def main() -> int:
    """Run; a plan that is not empty ends with 1, so that a script sees drift."""
    given = _arguments()
    try:
        enter(Profile.CLUSTER)
        folder = given.secrets or secrets_folder(home_folder())
        keys = secret_keys(folder, make=given.verb == "apply")
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
    parser.add_argument(
        "--secrets",
        type=Path,
        help="folder of one file a service, its secret key; default: where services look",
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
