"""Forget a document everywhere in the corpus, so that a kill at any moment is gone on from.

Each artifact that holds it is superseded by one without it, those that others were made from first.
What is to be forgotten is written down before anything is deleted: an attempt that finds the text
gone knows whose it was.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from libs import forgotten
from libs.artifacts import Artifact, Artifacts
from libs.blobs.port import Blobs
from libs.errors import Conflict, NotFound
from libs.forgotten import Forgotten
from libs.formats import canonical_json
from libs.manifest import Manifest, Request
from libs.operations.step import Work
from libs.schema import Schema
from services.corpus.forget import KINDS, Traces, holds, traces, write_without

SCHEMA = Schema(name="the note of what is being forgotten", version=1)
HOLDERS = ("plan", "checkpoint")
"""Artifacts of other services that a person must know of: they still hold what was forgotten."""


@dataclass(frozen=True, kw_only=True)
class Replaced:
    """One artifact that held the document."""

    artifact_id: str
    kind: str
    replacement_id: str
    files: Sequence[str]
    """Those that were deleted."""


@dataclass(frozen=True, kw_only=True)
class Tombstone:
    """What was forgotten, and where it was."""

    document_ids: Sequence[str]
    replaced: Sequence[Replaced]
    held_by: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Kind to the plans and checkpoints that were made from it."""


class Forgetting:
    """Forgets documents in one object store."""

    def __init__(self, blobs: Blobs, artifacts: Artifacts, drop: Callable[[str], None]) -> None:
        """Use the store; `drop` removes the search index of an artifact."""
        self._blobs = blobs
        self._artifacts = artifacts
        self._drop = drop

    def forget(self, document: str, work: Work) -> Tombstone:
        """Forget the documents of this id or address, and say what became of what held them.

        Raises:
            NotFound: no artifact holds it.
        """
        gone = self._gone(document, work)
        holding = self._holding(gone)
        for number, artifact in enumerate(holding):
            work.progress(number, len(holding), "artifacts", "writing them anew without it")
            self._supersede(artifact, gone)
        # Also those of an attempt that was killed.
        done = [*self._superseded(gone.document_ids)]
        return Tombstone(
            document_ids=sorted(gone.document_ids),
            replaced=done,
            held_by=self._held_by({each.artifact_id for each in done if each.kind == "passages"}),
        )

    def _gone(self, document: str, work: Work) -> Traces:
        """Return what is to be forgotten, the same at every attempt."""
        name = f"tmp/forget.{sha256(work.operation.encode()).hexdigest()}.json"
        with suppress(NotFound):
            fields = SCHEMA.read(self._blobs.read(name).data)
            return Traces(**{each: frozenset(ids) for each, ids in fields.items()})
        gone = Traces()
        for artifact in self._whole():
            work.check()
            gone |= traces(artifact, document)
        if not gone.document_ids:
            raise NotFound(f"no artifact of the corpus holds a document with id or url {document}")
        fields = {each: sorted(ids) for each, ids in vars(gone).items()}
        with suppress(Conflict):  # an attempt beside this one was faster, with the same
            self._blobs.create(name, canonical_json(SCHEMA.stamped(fields)))
        return gone

    def _whole(self) -> Iterator[Artifact]:
        """Yield the corpus' artifacts that nothing stands in the place of yet."""
        for artifact in self._artifacts.every():
            kind = artifact.manifest.kind
            if kind in KINDS and forgotten.read(self._blobs, artifact.id) is None:
                yield artifact

    def _holding(self, gone: Traces) -> Sequence[Artifact]:
        """Return what holds it, documents before the passages that were made from them."""
        found = [each for each in self._whole() if holds(each, gone)]
        return sorted(found, key=lambda each: (len(self._artifacts.lineage(each.id)), each.id))

    def _supersede(self, artifact: Artifact, gone: Traces) -> None:
        with TemporaryDirectory() as folder:
            out = Path(folder) / "out"
            out.mkdir()
            write_without(artifact, gone, out)
            replacement_id = self._artifacts.create(
                self._request(artifact.manifest, gone), out, run=artifact.run()
            )
        new = self._artifacts.open(replacement_id).manifest
        files = {old.name for old in artifact.manifest.files if old not in new.files}
        mark = Forgotten(
            replacement_id=replacement_id,
            document_ids=tuple(sorted(gone.document_ids)),
            files=tuple(sorted(files)),
        )
        forgotten.supersede(self._blobs, artifact.id, mark)
        self._drop(artifact.id)

    def _request(self, old: Manifest, gone: Traces) -> Request:
        parameters = dict(old.parameters)
        before = parameters.get("forgotten", [])
        parameters["forgotten"] = sorted({*before, *gone.document_ids})
        inputs = {
            role: forgotten.replacement(self._blobs, id_) or id_ for role, id_ in old.inputs.items()
        }
        return Request(
            kind=old.kind, inputs=inputs, parameters=parameters, recipe_version=old.recipe_version
        )

    def _superseded(self, document_ids: frozenset[str]) -> Iterator[Replaced]:
        for artifact in self._artifacts.every():
            mark = forgotten.read(self._blobs, artifact.id)
            if mark is not None and document_ids.intersection(mark.document_ids):
                # A mark is written before the files are deleted: a kill came between.
                forgotten.supersede(self._blobs, artifact.id, mark)
                self._drop(artifact.id)
                yield Replaced(
                    artifact_id=artifact.id,
                    kind=artifact.manifest.kind,
                    replacement_id=mark.replacement_id,
                    files=mark.files,
                )

    def _held_by(self, passages: set[str]) -> Mapping[str, Sequence[str]]:
        inputs = {each.id: each.manifest for each in self._artifacts.every()}
        held: dict[str, bool] = dict.fromkeys(passages, True)

        def holds_it(artifact_id: str) -> bool:
            if artifact_id not in held:
                manifest = inputs.get(artifact_id)
                named = manifest.inputs.values() if manifest else ()
                held[artifact_id] = any(holds_it(each) for each in named)
            return held[artifact_id]

        return {
            kind: sorted(id_ for id_, each in inputs.items() if each.kind == kind and holds_it(id_))
            for kind in HOLDERS
        }


def document_of(tombstone: Tombstone) -> dict[str, Any]:
    """Return what `tombstone.json` holds."""
    return {
        "document_ids": list(tombstone.document_ids),
        "replaced": [vars(each) | {"files": list(each.files)} for each in tombstone.replaced],
        "held_by": {kind: list(ids) for kind, ids in tombstone.held_by.items()},
    }
