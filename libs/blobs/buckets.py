"""What S3 calls a bucket of the port: S3 allows fewer names, and namespaces share one server."""

import re

from libs.errors import InvalidInput

_NAMESPACE = re.compile(r"[a-z0-9-]*")
_PLAIN = re.compile(r"(?!x--)[a-z0-9]([a-z0-9-]*[a-z0-9])?")
_LENGTHS = range(3, 64)


def check_namespace(namespace: str) -> None:
    """Raise `InvalidInput` unless buckets may begin with `namespace`."""
    if not _NAMESPACE.fullmatch(namespace):
        raise InvalidInput(f"a namespace is {_NAMESPACE.pattern}, got {namespace!r}")


def bucket_name(namespace: str, bucket: str) -> str:
    """Return the S3 bucket of a port's bucket: the same name where S3 allows it, else its hex.

    Raises:
        InvalidInput: it would be too long.
    """
    is_plain = _PLAIN.fullmatch(bucket) and len(namespace + bucket) in _LENGTHS
    found = namespace + (bucket if is_plain else f"x--{bucket.encode().hex()}")
    if len(found) not in _LENGTHS:
        raise InvalidInput(f"a bucket's name has at most 63 letters in S3, got {found}")
    return found
