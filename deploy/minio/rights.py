"""Which service may read, write and delete what in the object store, and the policies of that.

One table: a service that leaks its credentials costs what its row says. A policy does *not* keep a
service from overwriting what it may write: that artifacts are immutable is kept by the adapter's
conditional writes, and noticed by digests.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from libs.blobs.buckets import bucket_name

BUCKETS = (
    "artifacts",
    "claims",
    "garbage",
    "models",
    "operations",
    "registry",
    "reports",
    "requests",
    "rounds",
    "tmp",
    "weights",
)
"""Every bucket that Athanor has: `models` is Triton's repository, `claims` holds large events, and
`garbage` the marks of what may be deleted."""
_SHARED = "models"
"""Has no namespace: a Triton reads one repository, whoever shares it."""
SCRATCH = "tmp"
SCRATCH_DAYS = 7
"""What lies in `tmp` is deleted after so long; no other bucket has a rule."""


@dataclass(frozen=True, kw_only=True)
class Rights:
    """What one service may do; each entry a prefix of names, `<bucket>/<start of a key>`."""

    read: Sequence[str] = ()
    write: Sequence[str] = ()
    """Read too."""
    delete: Sequence[str] = ()


_EVERYBODY = ("artifacts/", "requests/", "claims/", "tmp/")
RIGHTS: Mapping[str, Rights] = {
    "corpus": Rights(
        read=("garbage/",),
        write=(*_EVERYBODY, "operations/corpus/"),
        delete=("artifacts/", "tmp/"),
    ),
    "sampler": Rights(
        read=("garbage/",), write=(*_EVERYBODY, "operations/sampler/"), delete=("tmp/",)
    ),
    "trainer": Rights(
        read=("garbage/",),
        write=(*_EVERYBODY, "operations/trainer/", "weights/"),
        delete=("tmp/",),
    ),
    "evaluator": Rights(
        read=("weights/", "garbage/"),
        write=(*_EVERYBODY, "operations/evaluator/", "registry/exams/", "models/"),
        delete=("tmp/", "models/"),
    ),
    "lm": Rights(
        read=("garbage/",),
        write=(*_EVERYBODY, "operations/lm/", "weights/", "models/"),
        delete=("tmp/", "models/"),
    ),
    "loop": Rights(
        read=("operations/",),
        write=(
            *_EVERYBODY,
            "garbage/",
            "operations/loop/",
            "registry/",
            "rounds/",
            "reports/",
            "weights/",
            "models/",
        ),
        delete=("artifacts/", "requests/", "claims/", "tmp/", "weights/", "models/"),
    ),
    "triton": Rights(read=("models/",)),
}
"""Service to its rights. `loop` alone collects garbage, and `corpus` deletes what it forgets.
Triton reads its repository; whoever asks it for new weights wrote them, and takes rotten ones away.
"""


def place(namespace: str, bucket: str) -> str:
    """Return the S3 bucket of a bucket of `BUCKETS`."""
    return bucket_name("" if bucket == _SHARED else namespace, bucket)


def secrets_folder(home: Path) -> Path:
    """Return the folder of one file a service, its secret key."""
    return home / "secrets" / "minio"


def user(namespace: str, service: str) -> str:
    """Return the access key of a service."""
    return f"{namespace}{service}"


def policy(rights: Rights, namespace: str) -> dict[str, Any]:
    """Return the S3 policy document of one service."""
    reads = (*rights.read, *rights.write)
    statements = [
        # Without the right to list, an absent name is not NotFound but AccessDenied.
        _allow(["s3:ListBucket"], _buckets(reads, namespace)),
        _allow(["s3:GetObject"], _objects(reads, namespace)),
        _allow(["s3:ListBucketMultipartUploads"], _buckets(rights.write, namespace)),
        _allow(
            ["s3:AbortMultipartUpload", "s3:ListMultipartUploadParts", "s3:PutObject"],
            _objects(rights.write, namespace),
        ),
        _allow(["s3:DeleteObject"], _objects(rights.delete, namespace)),
    ]
    return {
        "Version": "2012-10-17",
        "Statement": [each for each in statements if each["Resource"]],
    }


def _allow(actions: Sequence[str], resources: Sequence[str]) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": list(actions), "Resource": list(resources)}


def _buckets(prefixes: Iterable[str], namespace: str) -> list[str]:
    buckets = {prefix.partition("/")[0] for prefix in prefixes}
    return sorted(f"arn:aws:s3:::{place(namespace, bucket)}" for bucket in buckets)


def _objects(prefixes: Iterable[str], namespace: str) -> list[str]:
    split = (prefix.partition("/") for prefix in prefixes)
    return sorted(f"arn:aws:s3:::{place(namespace, b)}/{start}*" for b, _, start in split)
