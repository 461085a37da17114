"""How the topics of a bus differ from `deploy/topics.yaml`, and what can be done about it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from libs.bus.port import Topic, Topics


class Kind(StrEnum):
    """What is not as declared."""

    MISSING = "missing"
    PARTITIONS = "partitions"
    RETENTION = "retention hours"
    COMPACTION = "compacted"
    UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True)
class Drift:
    """One difference."""

    topic: str
    kind: Kind
    declared: int | bool | None = None
    """None: there is no such topic in the file."""
    found: int | bool | None = None
    """None: there is no such topic on the bus."""

    @property
    def remedy(self) -> str:
        """What `apply` does about it; empty where it can do nothing."""
        match self.kind:
            case Kind.MISSING:
                return "is created"
            case Kind.UNKNOWN:
                return ""
            case Kind.PARTITIONS:
                return "grows; keys move to other partitions" if self._grows else ""
        return "is set"

    @property
    def _grows(self) -> bool:
        return (self.declared or 0) > (self.found or 0)


def drifts(declared: Sequence[Topic], existing: Mapping[str, Topic]) -> list[Drift]:
    """Compare; topics of services that the file does not name at all are not looked at."""
    known = {topic.name for topic in declared}
    owners = {name.split(".")[0] for name in known}
    unknown = [
        Drift(topic=name, kind=Kind.UNKNOWN)
        for name in sorted(existing.keys() - known)
        if name.split(".")[0] in owners
    ]
    return [
        *(each for topic in declared for each in _of(topic, existing.get(topic.name))),
        *unknown,
    ]


def apply(topics: Topics, declared: Sequence[Topic], found: Sequence[Drift]) -> None:
    """Do what can be done about `found`."""
    kinds = {(each.topic, each.kind) for each in found if each.remedy}
    for topic in declared:
        if (topic.name, Kind.MISSING) in kinds:
            topics.create([topic])
        if (topic.name, Kind.PARTITIONS) in kinds:
            topics.grow(topic)
        if {(topic.name, Kind.RETENTION), (topic.name, Kind.COMPACTION)} & kinds:
            topics.configure(topic)


def _of(topic: Topic, found: Topic | None) -> list[Drift]:
    if found is None:
        return [Drift(topic=topic.name, kind=Kind.MISSING, declared=topic.partitions)]
    pairs = {
        Kind.PARTITIONS: (topic.partitions, found.partitions),
        Kind.RETENTION: (topic.retention_hours, found.retention_hours),
        Kind.COMPACTION: (topic.compacted, found.compacted),
    }
    return [
        Drift(topic=topic.name, kind=kind, declared=declared, found=actual)
        for kind, (declared, actual) in pairs.items()
        if declared != actual
    ]
