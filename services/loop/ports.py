"""What the core of loop needs from outside, in its own words.

Here so that recipes and rounds know steps and outcomes, and no service, proto or transport.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from libs.errors import ErrorRecord


class FieldKind(StrEnum):
    """What a field of a request holds."""

    TEXT = "text"
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    CHOICE = "choice"
    MESSAGE = "message"
    OPAQUE = "opaque"
    """Nothing that a recipe can write down."""


@dataclass(frozen=True, kw_only=True)
class Field:
    """One field of a step's request."""

    name: str
    kind: FieldKind
    repeated: bool = False
    mapping: bool = False
    """Text to `kind`."""
    least: int | None = None
    """`INTEGER`: the smallest value that fits."""
    most: int | None = None
    """`INTEGER`: the largest value that fits."""
    choices: Mapping[str, str] = field(default_factory=dict)
    """`CHOICE`: every spelling a recipe may use to the full name."""
    fields: Mapping[str, "Field"] = field(default_factory=dict)
    """`MESSAGE`: the fields inside."""
    required: bool = False
    artifact_kinds: tuple[str, ...] = ()
    """Set when the field holds the id of an artifact of one of these kinds."""


@dataclass(frozen=True, kw_only=True)
class Rpc:
    """One call that a step can be."""

    name: str
    """`<service>.<Method>`."""
    fields: Mapping[str, Field]
    produces: str
    """Kind of the artifact that it makes."""


class Catalogue(Protocol):
    """Every call that a step can be."""

    def rpc(self, name: str) -> Rpc | None:
        """Return the call of that name, or None."""
        ...

    def names(self) -> Sequence[str]:
        """Return the names of all calls, sorted."""
        ...


class Library(Protocol):
    """Where recipes are kept."""

    def read(self, name: str) -> str:
        """Return the YAML of a recipe, by its name or its path.

        Raises:
            NotFound: there is none; the message names the nearest.
        """
        ...


class Standing(StrEnum):
    """Where an operation of a service stands."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, kw_only=True)
class Sight:
    """What one look at an operation shows."""

    standing: Standing
    completed: float = 0.0
    total: float = 0.0
    unit: str = ""
    message: str = ""
    run_time_s: float = 0.0
    artifact_id: str = ""
    kind: str = ""
    outcome: str = ""
    reason: str = ""
    cached: bool = False
    figures: Mapping[str, float] = field(default_factory=dict)
    error: ErrorRecord | None = None
    """Set when it failed."""


class Services(Protocol):
    """The services, as a round calls them. Each call has a deadline of seconds of its own.

    Every call may raise `Unavailable`, `Busy` or `DeadlineExceeded`: the caller tries again.
    """

    def start(self, rpc: str, fields: Mapping[str, Any], request_id: str) -> str:
        """Start a long call and return its operation's name; the same id is the same operation."""
        ...

    def look(self, operation: str) -> Sight:
        """Say where an operation stands. Raises `NotFound` if there is none of that name."""
        ...

    def cancel(self, operation: str) -> None:
        """Ask an operation to stop; one that has ended stays as it is."""
        ...

    def rehearse(self, rpc: str, fields: Mapping[str, Any]) -> Sequence[str]:
        """Validate a call without running it; return what a person should know.

        Raises:
            InvalidInput: it could never run.
            NotFound: it names something absent.
        """
        ...


class Front(Protocol):
    """What users ask by the name `live`, on servers that may be several."""

    def converge(self, wanted: Callable[[], str]) -> None:
        """Have all of them answer with the weights whose digest `wanted` returns.

        It reads the registry, and is asked again at the end; safe to repeat and to race.

        Raises:
            Unavailable: a server is down; the others have the weights.
            Corrupt: the weights are others than their digest says; those before serve on.
            NotFound: `wanted` has nothing to name, or no checkpoint has the digest.
            Conflict: others move it all the time.
        """
        ...
