"""The registry of exams: which there are now, by name.

Registered exams change over time, so they are no input of a round: a round freezes them once,
under its moment, and every later step names the frozen set.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace

import regex

from libs.blobs.port import Blobs
from libs.errors import Busy, Conflict, Corrupt, InvalidInput
from libs.formats import canonical_json
from libs.schema import Schema, unchanged

SCHEMA = Schema(name="a registered exam", version=1, migrations={0: unchanged})
DEFAULT_MAX_DECISIONS = 5
_ATTEMPTS = 10
_PREFIX = "registry/exams/"
_NAME = regex.compile(r"[A-Za-z0-9_=-][A-Za-z0-9._=-]{0,99}")


@dataclass(frozen=True, kw_only=True)
class Registered:
    """One exam of the registry: blob `registry/exams/<name>.json`."""

    name: str
    exam_id: str
    """Artifact, kind `exam`."""
    num_items: int
    max_decisions: int
    """Distinct decisions that the decision half may serve."""
    sequence: int = 0
    """Rises with every registration; two made at once may share one."""
    revision: int = 0
    """Rises with every change of this name, so that no two versions have the same etag."""


def check_name(name: str) -> None:
    """Raise `InvalidInput` when an exam cannot be registered under `name`."""
    if not _NAME.fullmatch(name):
        raise InvalidInput(
            f"an exam's name is 1 to 100 letters, digits or ._=- without a dot in front, "
            f"got {name!r}"
        )


def register(blobs: Blobs, exam: Registered) -> Registered:
    """Register an exam under its name, in place of the one before; safe to repeat.

    Returns:
        What stands in the registry now: its sequence and revision are the registry's.

    Raises:
        InvalidInput: the name is no blob's name.
        Busy: others keep registering under the name.
    """
    check_name(exam.name)
    blob = f"{_PREFIX}{exam.name}.json"
    new = replace(exam, sequence=_next_sequence(blobs), revision=1)
    try:
        blobs.create(blob, _bytes(new))
    except Conflict:
        return _replace(blobs, blob, new)
    return new


def _replace(blobs: Blobs, blob: str, new: Registered) -> Registered:
    for _ in range(_ATTEMPTS):
        read = blobs.read(blob)
        old = _parse(read.data)
        if replace(new, sequence=old.sequence, revision=old.revision) == old:
            return old
        risen = replace(new, revision=old.revision + 1)
        with suppress(Conflict):  # somebody else registered under the name: look again
            blobs.replace_if(blob, _bytes(risen), etag=read.etag)
            return risen
    raise Busy(f"the exam {new.name!r} was registered {_ATTEMPTS} times while it was registered")


def registered(blobs: Blobs) -> list[Registered]:
    """Return all registered exams, by name."""
    return sorted(_registered(blobs), key=lambda exam: exam.name)


def _registered(blobs: Blobs) -> Iterator[Registered]:
    for blob in blobs.list(_PREFIX):
        yield _parse(blobs.read(blob.name).data)


def _next_sequence(blobs: Blobs) -> int:
    return max((exam.sequence for exam in _registered(blobs)), default=0) + 1


def _bytes(exam: Registered) -> bytes:
    return canonical_json(SCHEMA.stamped(asdict(exam)))


def _parse(data: bytes) -> Registered:
    fields = SCHEMA.read(data)
    try:
        return Registered(**fields)
    except TypeError as error:
        raise Corrupt(f"expected a registered exam, got {error!r}") from error
