"""MinIO, or another S3 store: whether our credentials may do what services do."""

import json
import secrets
from functools import partial
from io import BytesIO
from typing import Any

from deploy.local.finding import Finding
from deploy.local.sights.sight import (
    CALL_S,
    Settings,
    Sight,
    denials,
    has,
    secret,
    skew_s,
    unreachable,
    untried,
    with_rights,
)
from deploy.local.stack import look
from libs.clock import Clock

_STRANGE = ("InvalidAccessKeyId", "SignatureDoesNotMatch")


def look_at(settings: Settings, clock: Clock) -> Sight:
    """Look at the store, and try our rights in the bucket for scratch."""
    url = settings["ATHANOR_MINIO"]
    try:
        answer = look.get(f"{url}/minio/health/live")
    except OSError as error:
        return unreachable("minio", url, error)
    skew = skew_s(answer, clock)
    if not has("minio"):
        return untried("minio", url, skew)
    return Sight([_rights(url, settings)], skew)


def _rights(url: str, settings: Settings) -> Finding:
    from minio.error import MinioException
    from urllib3.exceptions import HTTPError

    from libs.blobs.buckets import bucket_name

    client = _client(url, settings)
    scratch = bucket_name(settings.get("ATHANOR_NAMESPACE", ""), "tmp")
    refusals = (MinioException, HTTPError)
    denied = denials({"look for buckets": partial(client.bucket_exists, scratch)}, refusals)
    if not denied:
        denied = denials(_acts(client, scratch), refusals)
    is_strange = any(code in why for why in denied.values() for code in _STRANGE)
    remedy = (
        "these credentials are another server's: source its stack.env"
        if is_strange
        else "as an administrator: python -m deploy.minio apply"
    )
    return with_rights("minio", f"{url}, {_version(url, settings)}", denied, remedy)


def _acts(client: Any, scratch: str) -> dict[str, Any]:
    """Return what to try, in the bucket for scratch, or in one made for it where that is absent."""
    there = client.bucket_exists(scratch)
    bucket = scratch if there else f"doctor-{secrets.token_hex(6)}"
    name = f"doctor-{secrets.token_hex(6)}"
    acts = {
        "put": lambda: client.put_object(bucket, name, BytesIO(b"1"), 1),
        "get": lambda: client.stat_object(bucket, name),
        "list": lambda: list(client.list_objects(bucket, prefix=name)),
        "delete": partial(client.remove_object, bucket, name),
    }
    if there:
        return acts
    make, remove = partial(client.make_bucket, bucket), partial(client.remove_bucket, bucket)
    return {"create buckets": make, **acts, "remove buckets": remove}


def _client(url: str, settings: Settings) -> Any:
    from minio import Minio

    return Minio(
        url.partition("://")[2],
        access_key=secret(settings, "ATHANOR_MINIO_ACCESS_KEY"),
        secret_key=secret(settings, "ATHANOR_MINIO_SECRET_KEY"),
        secure=url.startswith("https:"),
        http_client=_pool(),
    )


def _pool() -> Any:
    from urllib3 import PoolManager, Retry, Timeout

    return PoolManager(timeout=Timeout(CALL_S), retries=Retry(total=0))


def _version(url: str, settings: Settings) -> str:
    """Return the server's version; only an administrator is told."""
    from minio import MinioAdmin
    from minio.credentials.providers import StaticProvider
    from minio.error import MinioAdminException
    from urllib3.exceptions import HTTPError

    keys = (secret(settings, f"ATHANOR_MINIO_{kind}_KEY") for kind in ("ACCESS", "SECRET"))
    admin = MinioAdmin(
        endpoint=url.partition("://")[2],
        credentials=StaticProvider(*keys),
        secure=url.startswith("https:"),
        http_client=_pool(),
    )
    try:
        return str(json.loads(admin.info())["servers"][0]["version"])
    except (MinioAdminException, HTTPError, LookupError, ValueError):
        return "version told to administrators only"
