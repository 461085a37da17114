"""Immutable results named by what they are, and found again by what was asked.

A step's files become an artifact whose id is the sha256 of its canonical manifest; an index maps
the request to that id, so a repeated request costs one look-up and a killed one is repeated
without harm: files first, manifest after them, index last, each created at most once.

    artifacts/<id>/<file>           what the step made
    artifacts/<id>/run.json         what was measured on the way: in no digest
    artifacts/<id>/manifest.json    an artifact without it does not exist
    requests/<request digest>       the id that answers the request
"""

import hashlib
import json
import logging
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from libs import forgotten
from libs.blobs.port import Blobs
from libs.condemned import Condemned
from libs.digests import file_sha256, remembered_sha256
from libs.errors import Conflict, Corrupt, InvalidInput, NotFound
from libs.manifest import MANIFEST, RUN, File, Manifest, Request, canonical, sha256_of

_ID = re.compile(r"[0-9a-f]{64}")
_PREFIX = re.compile(r"[0-9a-f]{6,64}")
_CHUNK_BYTES = 4 << 20
_log = logging.getLogger(__name__)


def _nothing(artifact_id: str) -> None:
    pass


class Finding(NamedTuple):
    """One file that was verified."""

    artifact_id: str
    file: str
    problem: str
    """Empty if the bytes are those of the manifest, or were forgotten on purpose."""
    note: str = ""
    """Says what stands in the place of a file that was forgotten."""


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """One artifact, its files fetched and checked when they are asked for."""

    id: str
    manifest: Manifest
    blobs: Blobs = field(repr=False)

    def path(self, name: str) -> Path:
        """Return a local file, its digest checked; it must not be written to.

        Raises:
            NotFound: the artifact has no such file, or it was forgotten.
            Corrupt: the file is missing, or not the manifest's.
        """
        file = next((file for file in self.manifest.files if file.name == name), None)
        if file is None:
            names = ", ".join(file.name for file in self.manifest.files)
            raise NotFound(f"{_called(self)} has no file {name!r}, only: {names}")
        try:
            path = self.blobs.local(_name(self.id, name))
        except NotFound as error:
            if note := _note(self.blobs, self.id, name):
                raise NotFound(f"{_called(self)}: its file {name} {note}") from error
            raise Corrupt(f"{_called(self)}: its file {name} is missing") from error
        actual = remembered_sha256(path)
        if actual != file.sha256:
            raise Corrupt(f"{_called(self)}: {name}: expected sha256 {file.sha256}, got {actual}")
        return path

    def folder(self) -> Path:
        """Return one local folder with every file under its name; raises as `path`.

        `manifest.json` lies in it too, and `run.json` may.
        """
        for file in self.manifest.files:
            self.path(file.name)
        return self.blobs.local(_name(self.id, MANIFEST)).parent

    def run(self) -> dict[str, Any]:
        """Return what was measured while it was made, and `create_time` in seconds since 1970."""
        run: dict[str, Any] = json.loads(self.blobs.read(_name(self.id, RUN)).data)
        return run


class Artifacts:
    """The artifacts of one object store. Every call raises as `Blobs` does, besides its own."""

    def __init__(self, blobs: Blobs, *, now: Callable[[], float] = time.time) -> None:
        """Use the store; `now` gives the time an artifact is dated with, seconds since 1970."""
        self._blobs = blobs
        self._now = now
        self._condemned = Condemned(blobs)

    def settle(self, artifact_ids: Iterable[str], *, check: Callable[[], None]) -> None:
        """Return once none of them is being removed as garbage; see `Condemned.settle`."""
        self._condemned.settle(artifact_ids, check=check)

    def find(self, request: Request) -> str | None:
        """Return the id that answers the request, None when nothing does, or no longer whole.

        Raises `Corrupt` when what answers is damaged.
        """
        try:
            artifact_id = self._blobs.read(f"requests/{request.digest}").data.decode()
        except NotFound:
            return None
        return artifact_id if self.is_whole(artifact_id) else None

    def is_whole(self, artifact_id: str) -> bool:
        """Whether every file of an artifact is there. Raises as `open`, but for `NotFound`."""
        try:
            files = self.open(artifact_id).manifest.files
        except NotFound:
            return False
        found = {blob.name for blob in self._blobs.list(f"artifacts/{artifact_id}/")}
        return found >= {_name(artifact_id, name) for name in (RUN, *(file.name for file in files))}

    def create(
        self,
        request: Request,
        folder: Path,
        *,
        run: Mapping[str, Any],
        hold: Callable[[str], None] = _nothing,
    ) -> str:
        """Store every file of a flat folder as the answer to a request, and return its id.

        The first answer wins: when the request is answered already, by whatever content, that
        answer's id comes back. Safe to race, and to repeat after a kill. `hold` is called with the
        id before anything is written under it.

        Raises:
            InvalidInput: the folder holds a folder, or a file named like one of ours.
        """
        answer = self.find(request)
        if answer is not None:
            return answer
        paths = _files(folder)
        files = tuple(File(each.name, each.stat().st_size, file_sha256(each)) for each in paths)
        manifest = Manifest(**request.fields(), files=files)
        hold(manifest.id)
        if (replaced := forgotten.replacement(self._blobs, manifest.id)) is not None:
            return self._answer(request, replaced)
        for path in paths:
            self._create(_name(manifest.id, path.name), path)
        self._create(_name(manifest.id, RUN), canonical({"create_time": self._now(), **run}))
        self._create(_name(manifest.id, MANIFEST), manifest.to_json())
        return self._answer(request, manifest.id)

    def open(self, artifact_id: str, *, kind: str | Sequence[str] | None = None) -> Artifact:
        """Return an artifact by its whole id.

        Raises:
            NotFound: there is none.
            InvalidInput: the id is malformed, the artifact is not of the kind (or one of the
                kinds) expected, or its schema is newer than this code reads.
            Corrupt: the manifest is not the one that the id names.
        """
        if not _ID.fullmatch(artifact_id):
            raise InvalidInput(f"an artifact id is 64 hexadecimal digits, got {artifact_id!r}")
        try:
            data = self._blobs.read(_name(artifact_id, MANIFEST)).data
        except NotFound as error:
            raise NotFound(f"there is no artifact {artifact_id}") from error
        if sha256_of(data) != artifact_id:
            raise Corrupt(f"artifact {artifact_id}: {MANIFEST} has sha256 {sha256_of(data)}")
        manifest = Manifest.from_json(data)
        kinds = (kind,) if isinstance(kind, str) else kind
        if kinds is not None and manifest.kind not in kinds:
            raise InvalidInput(
                f"artifact {artifact_id}: expected kind {' or '.join(kinds)}, got {manifest.kind}"
            )
        return Artifact(id=artifact_id, manifest=manifest, blobs=self._blobs)

    def resolve(self, prefix: str) -> str:
        """Return the one id that begins with `prefix`, 6 or more hexadecimal digits.

        Raises:
            NotFound: no id begins so.
            InvalidInput: several do, or it is no such prefix.
        """
        if not _PREFIX.fullmatch(prefix):
            raise InvalidInput(f"expected 6 to 64 hexadecimal digits of an id, got {prefix!r}")
        names = (blob.name.split("/") for blob in self._blobs.list(f"artifacts/{prefix}"))
        ids = [artifact_id for _, artifact_id, file in names if file == MANIFEST]
        if not ids:
            raise NotFound(f"no artifact's id begins with {prefix}")
        if len(ids) > 1:
            raise InvalidInput(f"{prefix} begins {len(ids)} ids, among them {', '.join(ids[:3])}")
        return ids[0]

    def every(self) -> Iterator[Artifact]:
        """Yield every artifact, by id, whether or not it still answers a request."""
        for blob in self._blobs.list("artifacts/"):
            _, artifact_id, file = blob.name.split("/")
            if file == MANIFEST:
                with suppress(NotFound):  # deleted meanwhile
                    yield self.open(artifact_id)

    def list(self, kind: str = "", limit: int = 0) -> Iterator[Artifact]:
        """Yield the artifacts that answer a request, newest first; limit 0 is no limit.

        A damaged one is left out, with a line in the log: `verify` says of it what is wrong.
        """
        chosen = {}
        for blob in self._blobs.list("requests/"):
            try:
                artifact = self.open(self._blobs.read(blob.name).data.decode())
                if kind in ("", artifact.manifest.kind):
                    chosen[artifact.id] = (artifact.run()["create_time"], artifact.id, artifact)
            except NotFound:
                continue  # the request was answered, and the answer deleted since
            except (Corrupt, InvalidInput) as error:
                _log.warning("%s is left out of the list: %s", blob.name, error)
        newest = sorted(chosen.values(), key=lambda each: each[:2], reverse=True)
        yield from (artifact for *_, artifact in newest[: limit or None])

    def lineage(self, artifact_id: str) -> Sequence[Artifact]:
        """Return the artifact and all it was made from, breadth first, each once.

        Raises:
            NotFound: one of them is missing.
        """
        walk = _Walk(artifact_id)
        found = []
        for each in walk:
            artifact = self.open(each)
            walk.add(artifact.manifest.inputs)
            found.append(artifact)
        return found

    def verify(self, artifact_id: str) -> Iterator[Finding]:
        """Read every file of the artifact, and of all it was made from, and compare digests.

        Whatever is wrong is a finding, in the order of `lineage`; nothing remembered is used.

        Raises:
            NotFound: there is no such artifact.
        """
        if not self._exists(artifact_id):
            raise NotFound(f"there is no artifact {artifact_id}")
        return self._findings(artifact_id)

    def _findings(self, artifact_id: str) -> Iterator[Finding]:
        walk = _Walk(artifact_id)
        for each in walk:
            try:
                manifest = self.open(each).manifest
            except (NotFound, Corrupt, InvalidInput) as error:
                yield Finding(each, MANIFEST, str(error))
                continue
            walk.add(manifest.inputs)
            yield Finding(each, MANIFEST, "")
            for file in manifest.files:
                problem = self.problem(_name(each, file.name), file.size_bytes, file.sha256)
                note = _note(self._blobs, each, file.name) if problem else ""
                yield Finding(each, file.name, "" if note else problem, note)

    def problem(self, name: str, size_bytes: int, sha256: str) -> str:
        """Read a whole blob and return what is wrong with it, or nothing."""
        try:
            # By ranges: a local copy may be sound while the store's bytes are not.
            found_bytes, found = self._read_digest(name)
        except NotFound:
            return "it is missing"
        except Corrupt as error:
            return str(error)
        if found_bytes != size_bytes:
            return f"expected {size_bytes} bytes, got {found_bytes}"
        return "" if found == sha256 else f"expected sha256 {sha256}, got {found}"

    def _read_digest(self, name: str) -> tuple[int, str]:
        digest = hashlib.sha256()
        size_bytes = 0
        while chunk := self._blobs.read_range(name, size_bytes, _CHUNK_BYTES):
            digest.update(chunk)
            size_bytes += len(chunk)
        return size_bytes, digest.hexdigest()

    def _exists(self, artifact_id: str) -> bool:
        try:
            self._blobs.stat(_name(artifact_id, MANIFEST))
        except NotFound:
            return False
        return True

    def _create(self, name: str, content: bytes | Path) -> None:
        """Create a blob unless an earlier attempt has; its name says what it holds."""
        try:
            self._blobs.create(name, content)
        except Conflict:
            self._blobs.stat(name)  # there is no such blob when the name was refused otherwise

    def _answer(self, request: Request, artifact_id: str) -> str:
        """Enter the id in the index, and return the id that stands there."""
        name = f"requests/{request.digest}"
        while True:
            try:
                self._blobs.create(name, artifact_id.encode())
                return artifact_id
            except Conflict:
                with suppress(Conflict, NotFound):  # it changed meanwhile: look again
                    return self._standing(name, artifact_id)

    def _standing(self, name: str, artifact_id: str) -> str:
        """Return the id in the index, ours in place of one whose artifact is not whole."""
        answer = self._blobs.read(name)
        standing = answer.data.decode()
        if standing == artifact_id or self.is_whole(standing):
            return standing
        self._blobs.replace_if(name, artifact_id.encode(), etag=answer.etag)
        return artifact_id


class _Walk:
    """Ids breadth first, each once; it grows while it is walked."""

    def __init__(self, start: str) -> None:
        self._ids = [start]

    def __iter__(self) -> Iterator[str]:
        yield from self._ids

    def add(self, inputs: Mapping[str, str]) -> None:
        """Append the inputs not met yet, in the order of their roles."""
        for _, artifact_id in sorted(inputs.items()):
            if artifact_id not in self._ids:
                self._ids.append(artifact_id)


def _name(artifact_id: str, file: str) -> str:
    return f"artifacts/{artifact_id}/{file}"


def _note(blobs: Blobs, artifact_id: str, file: str) -> str:
    """Return what to say of a file that was forgotten, nothing of another."""
    found = forgotten.read(blobs, artifact_id)
    if found is None or file not in found.files:
        return ""
    return f"was forgotten; artifact {found.replacement_id} stands in its place"


def _called(artifact: Artifact) -> str:
    return f"artifact {artifact.id} ({artifact.manifest.kind})"


def _files(folder: Path) -> Sequence[Path]:
    paths = sorted(folder.iterdir(), key=lambda path: path.name)
    for path in paths:
        if not path.is_file() or path.name in (MANIFEST, RUN):
            raise InvalidInput(
                f"an artifact is a flat folder of files without {MANIFEST} and {RUN}, "
                f"got {path.name!r}"
            )
    return paths
