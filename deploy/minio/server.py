"""What a MinIO lacks of buckets, rules, policies and users, and how each is put right.

`changes` compares the server with `rights`, so applying twice changes nothing, and a change that
somebody made by hand shows up as drift. Users' secrets are files, one a service, made here.
"""

import json
import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from minio import Minio, MinioAdmin
from minio.commonconfig import ENABLED, Filter
from minio.credentials.providers import StaticProvider
from minio.error import MinioAdminException, S3Error
from minio.lifecycleconfig import Expiration, LifecycleConfig, Rule
from urllib3 import PoolManager, Timeout
from urllib3.exceptions import HTTPError

from deploy.minio.rights import BUCKETS, RIGHTS, SCRATCH, SCRATCH_DAYS, place, policy, user
from libs.blobs.s3_errors import code_of
from libs.errors import Forbidden, InvalidInput, Unavailable

_REGION = "us-east-1"
_TIMEOUT_S = 30.0
_LOOK_S = 0.2
_MIN_SECRET = 8  # MinIO takes no shorter one
_STALE = "stale_uploads_expiry"
_STALE_AFTER = "24h"
"""MinIO refuses S3's lifecycle rule for unfinished uploads and has this setting in its place."""


class Change(NamedTuple):
    """One thing that is not as it should be."""

    text: str
    make: Callable[[], object]


class Server:
    """One MinIO, seen with an administrator's credentials."""

    def __init__(self, endpoint: str, *, access_key: str, secret_key: str, namespace: str) -> None:
        """Connect to nothing yet."""
        url = urlsplit(endpoint)
        secure = url.scheme == "https"
        self._pool = pool = PoolManager(
            timeout=Timeout(connect=_TIMEOUT_S, read=_TIMEOUT_S), retries=False
        )
        self._s3 = Minio(
            url.netloc, access_key, secret_key, secure=secure, region=_REGION, http_client=pool
        )
        self._admin = MinioAdmin(
            endpoint=url.netloc,
            credentials=StaticProvider(access_key, secret_key),
            region=_REGION,
            secure=secure,
            http_client=pool,
        )
        self._endpoint = endpoint
        self._namespace = namespace

    def await_ready(self, timeout_s: float) -> None:
        """Wait until the server knows its users: later than it says to be ready.

        Raises:
            Unavailable: it does not within `timeout_s`.
            Forbidden: as `changes`.
        """
        give_up = time.monotonic() + timeout_s
        while True:
            try:
                with self._failures():
                    self._s3.list_buckets()
                    self._admin.policy_list()
                    return
            except Unavailable:
                if time.monotonic() > give_up:
                    raise
            time.sleep(_LOOK_S)

    def changes(self, keys: Mapping[str, str]) -> list[Change]:
        """Return what is to be done, in order; `keys` are the secret keys by service.

        Raises:
            Forbidden: these are no administrator's credentials.
            Unavailable: the server does not answer.
        """
        with self._failures():
            return [
                *self._bucket_changes(),
                *self._scratch_changes(),
                *(each for name in RIGHTS for each in self._user_changes(name, keys)),
                *self._stale_changes(),
            ]

    def make(self, change: Change) -> None:
        """Make one change; raises as `changes`."""
        with self._failures():
            change.make()

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except (S3Error, MinioAdminException) as error:
            if _status(error) >= 500:
                raise Unavailable(f"MinIO at {self._endpoint} is not ready: {error}") from error
            raise Forbidden(
                f"MinIO at {self._endpoint} refuses what only an administrator may: {error}"
            ) from error
        except HTTPError as error:
            raise Unavailable(f"MinIO at {self._endpoint} failed: {error}") from error

    def _bucket_changes(self) -> Iterator[Change]:
        there = {bucket.name for bucket in self._s3.list_buckets()}
        for bucket in (place(self._namespace, each) for each in BUCKETS):
            if bucket not in there:
                yield Change(f"create bucket {bucket}", partial(self._s3.make_bucket, bucket))

    def _scratch_changes(self) -> Iterator[Change]:
        bucket = place(self._namespace, SCRATCH)
        if self._scratch_days(bucket) != SCRATCH_DAYS:
            rule = Rule(
                status=ENABLED,
                rule_filter=Filter(prefix=""),
                rule_id="scratch",
                expiration=Expiration(days=SCRATCH_DAYS),
            )
            yield Change(
                f"delete what is older than {SCRATCH_DAYS} days in bucket {bucket}",
                lambda: self._s3.set_bucket_lifecycle(bucket, LifecycleConfig([rule])),
            )

    def _scratch_days(self, bucket: str) -> int | None:
        with suppress(S3Error):  # the bucket is absent
            found = self._s3.get_bucket_lifecycle(bucket)
            if found is not None and len(found.rules) == 1 and found.rules[0].expiration:
                return found.rules[0].expiration.days
        return None

    def _stale_changes(self) -> Iterator[Change]:
        if f"{_STALE}={_STALE_AFTER}" not in self._admin.config_get("api").split():
            yield Change(
                f"end unfinished uploads after {_STALE_AFTER}",
                lambda: self._admin.config_set("api", {_STALE: _STALE_AFTER}),
            )

    def _user_changes(self, service: str, keys: Mapping[str, str]) -> Iterator[Change]:
        name, wanted = user(self._namespace, service), policy(RIGHTS[service], self._namespace)
        if _statements(_asked(lambda: self._admin.policy_info(name))) != _statements(wanted):
            yield Change(f"set policy {name}", lambda: self._admin.policy_add(name, policy=wanted))
        found = _asked(lambda: self._admin.user_info(name))
        if found is None or not self._is_key(name, keys[service]):
            yield Change(
                f"{'create' if found is None else 'set the secret of'} user {name}",
                lambda: self._admin.user_add(name, keys[service]),
            )
        if found is None or found.get("policyName") != name:
            yield Change(
                f"give user {name} its policy", lambda: self._admin.policy_set(name, user=name)
            )

    def _is_key(self, name: str, secret_key: str) -> bool:
        """True if the server takes this secret, tried on a bucket that may be absent."""
        url = urlsplit(self._endpoint)
        trial = Minio(
            url.netloc,
            name,
            secret_key,
            secure=url.scheme == "https",
            region=_REGION,
            http_client=self._pool,
        )
        try:
            trial.bucket_exists(place(self._namespace, "artifacts"))
        except S3Error as error:
            return code_of(error) != "SignatureDoesNotMatch"
        return True


def _status(error: S3Error | MinioAdminException) -> int:
    if isinstance(error, S3Error):
        return int(error.response.status)
    found = re.search(r"Status: (\d+)", str(error))  # it offers no public field
    return int(found[1]) if found else 0


def secret_keys(folder: Path, *, make: bool) -> dict[str, str]:
    """Return each service's secret key, read from `<folder>/<service>`.

    A file that is absent is made with a random key, or stands as an empty one without `make`.
    """
    if make:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for service in RIGHTS:
            _make(folder / service)
    return {service: _secret_key(folder / service) for service in RIGHTS}


def _make(path: Path) -> None:
    if path.exists():
        return
    whole = path.with_suffix(f".{secrets.token_hex(8)}")
    whole.touch(mode=0o600)
    whole.write_text(secrets.token_urlsafe(30))
    whole.rename(path)


def _secret_key(path: Path) -> str:
    found = path.read_text().strip() if path.exists() else ""
    if 0 < len(found) < _MIN_SECRET:
        raise InvalidInput(f"{path} must hold {_MIN_SECRET} letters or more, got {len(found)}")
    return found


def _statements(document: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Return a policy's statements without the order of what they list, which MinIO changes."""
    statements = (document or {}).get("Statement") or []
    return [
        each | {"Action": sorted(each["Action"]), "Resource": sorted(each["Resource"])}
        for each in statements
    ]


def _asked(ask: Callable[[], str]) -> dict[str, Any] | None:
    """Return the answer to an administrator's question, None where what is asked for is absent."""
    try:
        found: dict[str, Any] = json.loads(ask())
    except MinioAdminException as error:
        if _status(error) != 404:
            raise
        return None
    return found
