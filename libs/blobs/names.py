"""Which names a blob may have, the same for every adapter.

Names become paths in one store and keys in another, so what either could take for something else
(`..`, an empty segment, a leading dot of a bucket) is refused before any adapter sees it.
"""

import re

from libs.errors import InvalidInput

_BUCKET = r"[A-Za-z0-9][A-Za-z0-9._=-]*"
_SEGMENT = r"[A-Za-z0-9._=-]+"
_NAME = re.compile(rf"{_BUCKET}(/{_SEGMENT})+")
_PREFIX = re.compile(rf"{_BUCKET}/({_SEGMENT}/)*({_SEGMENT})?")
_MAX_SEGMENT = 255  # NAME_MAX of Linux file systems, and MinIO's limit
_MAX_NAME = 1024  # S3's limit of a key


def check(name: str) -> None:
    """Raise `InvalidInput` unless `name` is `<bucket>/<key>` as `libs.blobs.port` has it."""
    if not _NAME.fullmatch(name) or not _sound(name.split("/")):
        raise InvalidInput(f"a blob's name must be <bucket>/<key> of {_SEGMENT}, got {name[:99]!r}")


def check_prefix(prefix: str) -> None:
    """Raise `InvalidInput` unless `prefix` is a whole bucket, `/` and the beginning of a key."""
    if not _PREFIX.fullmatch(prefix) or not _sound(prefix.split("/")[:-1]):
        raise InvalidInput(f"a prefix must be <bucket>/<start of a key>, got {prefix[:99]!r}")


def _sound(segments: list[str]) -> bool:
    return (
        not {".", ".."} & set(segments)
        and max(map(len, segments)) <= _MAX_SEGMENT
        and sum(map(len, segments)) + len(segments) <= _MAX_NAME
    )
