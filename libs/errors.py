"""What can go wrong, in the words that every transport shares.

    ServiceError
    |- InvalidInput      it can never succeed as sent       INVALID_ARGUMENT    dead-letter, commit
    |- NotFound          it names something absent          NOT_FOUND           dead-letter, commit
    |- Forbidden         the caller may not                 PERMISSION_DENIED   dead-letter, commit
    |- Conflict          the state is not the supposed one  ABORTED             drop or dead-letter
    |- Corrupt           bytes do not match their digest    DATA_LOSS           dead-letter, alarm
    |- Busy              at capacity, disk full included    RESOURCE_EXHAUSTED  pause, retry
    |- Unavailable       a dependency is down, named        UNAVAILABLE         back off, retry
    `- DeadlineExceeded  the time given ran out             DEADLINE_EXCEEDED   back off, retry

Any other exception is a bug: INTERNAL over gRPC, a crash (and a restart) in a worker.
Services subclass one of the eight beside the code that raises it. The gRPC column lives in
`libs.rpc`, the worker's column in `libs.bus` and `libs.operations`.
"""

import errno
from dataclasses import dataclass
from typing import Self

from libs.masking import masked

SCARCE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM})
"""Numbers of an `OSError` that mean `Busy`: the machine has no room now and may have it later."""


class ServiceError(Exception):
    """Base of every failure a caller is expected to handle; one message, picklable."""

    retry_after_s: float | None = None
    """Seconds to wait before the same request is worth sending again; None: not by itself."""


class InvalidInput(ServiceError):
    """The request can never succeed as sent."""


class NotFound(ServiceError):
    """The request names something that does not exist."""


class Forbidden(ServiceError):
    """The caller may not do this."""


class Conflict(ServiceError):
    """The state is not the one the request supposes: name taken, lease lost, digest moved on."""


class Corrupt(ServiceError):
    """Bytes do not match their digest, or a file is truncated."""


class Busy(ServiceError):
    """At capacity, disk full included; the same request may succeed later."""

    retry_after_s = 1.0


class Unavailable(ServiceError):
    """A dependency did not answer; the message names it. Safe to retry."""

    retry_after_s = 0.5


class DeadlineExceeded(ServiceError):
    """The time given ran out; the message names what was waited for."""

    retry_after_s = 0.5


KINDS: tuple[type[ServiceError], ...] = (
    InvalidInput,
    NotFound,
    Forbidden,
    Conflict,
    Corrupt,
    Busy,
    Unavailable,
    DeadlineExceeded,
)
RETRYABLE = (Busy, Unavailable, DeadlineExceeded)


def kind_of(error: ServiceError) -> type[ServiceError]:
    """Return the nearest of the eight along the MRO; a bare `ServiceError` is a bug."""
    return next(kind for kind in type(error).__mro__ if kind in KINDS)


def scarce(error: OSError) -> Busy | None:
    """Return the `Busy` that an error of the operating system means; None if it means another."""
    return Busy(f"this machine has no room: {error}") if error.errno in SCARCE else None


@dataclass(frozen=True, kw_only=True)
class ErrorRecord:
    """An error at rest, in an operation's record or a dead letter's headers."""

    kind: str
    message: str

    @classmethod
    def of(cls, error: ServiceError) -> Self:
        """Record `error` under the name of its kind, without secrets."""
        return cls(kind=kind_of(error).__name__, message=masked(str(error)))

    def error(self) -> ServiceError:
        """Return the error again, as one of the eight."""
        by_name = {kind.__name__: kind for kind in KINDS}
        return by_name.get(self.kind, ServiceError)(self.message)
