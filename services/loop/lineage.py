"""Walk from an artifact to everything it was made from, and say what a person wants to know.

Here because a round made its artifacts by its steps, which its manifest does not name as inputs:
for this kind the walk goes on through `round.json`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from libs.artifacts import Artifact, Artifacts, Finding
from libs.formats import read_json
from services.loop.notes import notes_of
from services.loop.summary import SCHEMA


@dataclass(frozen=True, kw_only=True)
class Node:
    """One artifact of the walk."""

    artifact_id: str
    kind: str
    inputs: Mapping[str, str]
    """Role, or step of a round, to artifact id."""
    notes: Sequence[str]


class Lineage:
    """The lineages of one store."""

    def __init__(self, artifacts: Artifacts) -> None:
        self._artifacts = artifacts

    def walk(self, artifact_id: str) -> Sequence[Node]:
        """Return the artifact first, then all it was made from, breadth first, each once.

        Raises:
            NotFound, Corrupt: one of them is gone or damaged.
        """
        found: dict[str, Node] = {}
        left = [artifact_id]
        while left:
            each = left.pop(0)
            if each in found:
                continue
            artifact = self._artifacts.open(each)
            inputs = _inputs(artifact)
            found[each] = Node(
                artifact_id=each,
                kind=artifact.manifest.kind,
                inputs=inputs,
                notes=notes_of(artifact),
            )
            left.extend(id_ for _, id_ in sorted(inputs.items()))
        return list(found.values())

    def verify(self, artifact_id: str) -> Iterator[Finding]:
        """Yield a finding for each file of the artifact and of all it was made from, each once.

        Raises:
            NotFound: there is no such artifact.
        """
        seen: set[tuple[str, str]] = set()
        roots = [artifact_id]
        for root in roots:
            for finding in self._artifacts.verify(root):
                if finding[:2] not in seen:
                    seen.add(finding[:2])
                    yield finding
            if root == artifact_id:
                roots.extend(self._steps_of(artifact_id))

    def _steps_of(self, artifact_id: str) -> Sequence[str]:
        artifact = self._artifacts.open(artifact_id)
        if artifact.manifest.kind != "round":
            return ()
        return [each for _, each in sorted(_inputs(artifact).items())]


def _inputs(artifact: Artifact) -> Mapping[str, str]:
    if artifact.manifest.kind != "round":
        return artifact.manifest.inputs
    document = SCHEMA.migrated(read_json(artifact.path("round.json")))
    steps: Mapping[str, Mapping[str, str]] = document["steps"]
    return {name: step["artifact_id"] for name, step in steps.items() if step["artifact_id"]}
