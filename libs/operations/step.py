"""What a service writes for each of its long calls: a `Step`, which is a function and its terms.

The framework answers repeated requests from the index of artifacts, makes the artifact, and keeps
lease, progress and retries; a step's function only reads inputs and writes files.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from athanor.common.v1 import options_pb2
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from libs.artifacts import Artifact, Artifacts
from libs.errors import Conflict
from libs.manifest import Request
from libs.operations.record import Result


class Cancelled(Exception):
    """Somebody asked for the operation's cancellation; let it pass through."""


class LeaseLost(Conflict):
    """Another worker has the operation, or this one gave it back; let it pass through."""


@dataclass(frozen=True, kw_only=True)
class Made:
    """What a step has to say beside the files that it left in `work.out`."""

    outcome: str = ""
    """Set when the step ends or decides a round."""
    reason: str = ""
    """One sentence for `outcome`."""
    figures: Mapping[str, float] = field(default_factory=dict)
    """Deterministic; stored in the artifact's `result.json`: name with unit to value."""
    measured: Mapping[str, Any] = field(default_factory=dict)
    """Times, rates, addresses, dates: `run.json` only, in no digest."""


class Work(Protocol):
    """What a step's function is given beside its request."""

    @property
    def out(self) -> Path:
        """An empty folder; the files left in it become the artifact."""
        ...

    @property
    def scratch(self) -> Path:
        """A local folder that survives attempts: markers to resume from, written by rename."""
        ...

    @property
    def artifacts(self) -> Artifacts:
        """Where inputs are opened: `work.artifacts.open(request.plan_id, kind="plan")`."""
        ...

    @property
    def operation(self) -> str:
        """The operation's name."""
        ...

    @property
    def request(self) -> Request:
        """Inputs and parameters that the artifact will be filed under."""
        ...

    def progress(self, completed: float, total: float, unit: str, message: str = "") -> None:
        """Say how far the work is; cheap, call it often.

        Raises:
            Cancelled: somebody asked to stop.
            LeaseLost: another worker has the operation.
        """
        ...

    def check(self) -> None:
        """Raise as `progress` does, saying nothing."""
        ...


def _nothing(request: Any) -> Sequence[str]:
    return ()


def _no_parameters(request: Any) -> Mapping[str, Any]:
    return {}


def _tell_nobody(artifact: Artifact, result: Result) -> None:
    pass


@dataclass(frozen=True, kw_only=True)
class Step:
    """One long call of a service."""

    method: str
    """Name of the rpc: `Crawl`."""
    request: type[Message]
    kind: str
    """Kind of the artifact that it makes; empty: none, and nothing is answered from the index."""
    version: int
    """The recipe version; raise it when the code's results change."""
    run: Callable[[Any, Work], Made]
    """Does the work. Deterministic in its request: the same request gives the same files."""
    check: Callable[[Any], Sequence[str]] = _nothing
    """Validates without running: raises, or returns notes for a person. Used at submit and by dry
    runs. That required fields are set and artifacts exist is checked already."""
    parameters: Callable[[Any], Mapping[str, Any]] = _no_parameters
    """What else the result depends on: state that the message does not name, such as the ids of
    the registered exams. Read when an attempt begins, then found in `work.request.parameters`."""
    announce: Callable[[Artifact, Result], None] = _tell_nobody
    """Called once the artifact exists, and again when a request is answered from the index:
    publishes the event, registers. Idempotent."""
    waits: bool = False
    """It mostly waits for other operations: it takes none of the worker's slots, lest those that
    it waits for find none."""


class Input(NamedTuple):
    """One artifact that a request names."""

    role: str
    artifact_id: str
    kinds: Sequence[str]
    """Those that the field takes: `artifact_kind`, split at commas."""


def inputs_of(message: Message) -> Iterator[Input]:
    """Yield the artifacts named by fields that carry `artifact_kind`, empty ones left out.

    The role is the field's name without `_id`; fields that repeat are numbered from 0.
    """
    for descriptor in message.DESCRIPTOR.fields:
        kinds = _artifact_kinds(descriptor)
        if not kinds:
            continue
        value = getattr(message, descriptor.name)
        if isinstance(value, str):
            role = descriptor.name.removesuffix("_id")
            yield from [Input(role, value, kinds)] if value else []
            continue
        role = descriptor.name.removesuffix("_ids")
        yield from (Input(f"{role}_{index}", each, kinds) for index, each in enumerate(value))


def request_of(step: Step, message: Message) -> Request:
    """Return what the artifact of this request is filed under.

    Inputs are `inputs_of`; every other field is a parameter, as proto JSON with the names of the
    proto and defaults included, so that 64-bit integers are strings. Left out are `request_id` and
    what carries `not_in_identity`. What `step.parameters` adds comes beside them.
    """
    fields = MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    apart = {each.name for each in message.DESCRIPTOR.fields if _is_apart(each)}
    parameters = {name: value for name, value in fields.items() if name not in apart}
    return Request(
        kind=step.kind,
        inputs={each.role: each.artifact_id for each in inputs_of(message)},
        parameters=parameters | dict(step.parameters(message)),
        recipe_version=step.version,
    )


def _is_apart(descriptor: Any) -> bool:
    audit = bool(descriptor.GetOptions().Extensions[options_pb2.not_in_identity])
    return audit or descriptor.name == "request_id" or bool(_artifact_kinds(descriptor))


def _artifact_kinds(descriptor: Any) -> list[str]:
    option = str(descriptor.GetOptions().Extensions[options_pb2.artifact_kind])
    return [kind.strip() for kind in option.split(",") if kind]
