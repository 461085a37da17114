"""MinIO, built from its last public Go module; tagged releases cannot be had this way."""

import io
import os
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path

from deploy.local.stack import look, obtain
from deploy.local.stack.guard import Command, Guard
from deploy.local.stack.server import Server, Start
from libs.errors import Unavailable

_VERSION = "0.0.0-20260212201848-7aac2a2c5b7c"
MODELS, REPOSITORY = "models", "repository"
"""Bucket and prefix of Triton's model repository."""


def _fill(folder: Path, guard: Guard, log: Path) -> None:
    obtain.go_install(f"github.com/minio/minio@v{_VERSION}", folder, guard, log)


def _command(start: Start, _: Guard) -> Command:
    data = start.folder / "data"
    data.mkdir(exist_ok=True)
    program = start.run.cache / "minio" / "minio"
    secrets = start.run.secrets()
    return Command(
        argv=(
            *bound_by_permissions(),
            str(program),
            "server",
            str(data),
            "--address",
            url(start)[7:],
        ),
        folder=start.folder,
        env={
            "MINIO_ROOT_USER": secrets["minio_access_key"],
            "MINIO_ROOT_PASSWORD": secrets["minio_secret_key"],
            "MINIO_CI_CD": "1",  # accepts the disk of the operating system
            "MINIO_BROWSER": "off",
            "MINIO_UPDATE": "off",
            "MINIO_PROMETHEUS_AUTH_TYPE": "public",
        },
    )


def bound_by_permissions() -> tuple[str, ...]:
    """Take from root the right to pass over permissions, or a disk could not be made read-only."""
    if os.geteuid() != 0:
        return ()
    setpriv = obtain.tool("setpriv", "apt-get install util-linux")
    return (setpriv, "--bounding-set", "-dac_override,-dac_read_search")


def url(start: Start) -> str:
    """Return where MinIO answers."""
    return f"http://127.0.0.1:{start.run.ports()['minio']['client']}"


def _is_ready(start: Start) -> bool:
    """True if it serves: for a moment after its health says so, it asks to come back in a minute.

    Who brings no credentials is refused by a server that serves.
    """
    with suppress(OSError):
        health = look.get(f"{url(start)}/minio/health/ready")
        return (
            health.status == HTTPStatus.OK and look.get(url(start)).status == HTTPStatus.FORBIDDEN
        )
    return False


def _make_repository(start: Start) -> None:
    """Make Triton's repository; it takes a prefix without any object for a missing folder."""
    from minio import Minio
    from minio.error import S3Error
    from urllib3 import PoolManager
    from urllib3.exceptions import HTTPError

    secrets = start.run.secrets()
    client = Minio(
        url(start)[7:],
        access_key=secrets["minio_access_key"],
        secret_key=secrets["minio_secret_key"],
        secure=False,
        # By default it would heed that minute.
        http_client=PoolManager(retries=False, timeout=look.LOOK_S),
    )
    try:
        if not client.bucket_exists(MODELS):
            client.make_bucket(MODELS)
        client.put_object(MODELS, f"{REPOSITORY}/.athanor", io.BytesIO(), 0)
    except (S3Error, HTTPError) as error:
        raise Unavailable(f"MinIO does not take the model repository: {error}") from error


def _settings(start: Start) -> dict[str, str]:
    secrets = start.run.secrets()
    return {
        "ATHANOR_MINIO": url(start),
        "ATHANOR_MINIO_ACCESS_KEY": secrets["minio_access_key"],
        "ATHANOR_MINIO_SECRET_KEY": secrets["minio_secret_key"],
    }


MINIO = Server(
    name="minio",
    version=_VERSION,
    ports=("client",),
    parts={"minio": _fill},
    command=_command,
    is_ready=_is_ready,
    settings=_settings,
    once_ready=_make_repository,
    scrape={"job": "minio", "port": "client", "__metrics_path__": "/minio/v2/metrics/cluster"},
)
