"""What is asked of a step, and the manifest that says what answered it.

The bytes of both are canonical JSON, so that a digest of them is a name: a request's is where its
answer is looked up, a manifest's is the id of its artifact.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from libs.errors import Corrupt, InvalidInput
from libs.formats import canonical_json
from libs.schema import Schema

SCHEMA = Schema(name="a manifest", version=1)
MANIFEST = "manifest.json"
RUN = "run.json"


class File(NamedTuple):
    """One file of an artifact."""

    name: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is asked of a step; equal requests have equal answers."""

    kind: str
    """Of the artifact asked for: `plan`, `checkpoint`."""
    inputs: Mapping[str, str]
    """Role to artifact id."""
    parameters: Mapping[str, Any]
    """Whatever else the result depends on, fit for JSON."""
    recipe_version: int
    """Raised when the code's results change."""

    @property
    def digest(self) -> str:
        """sha256 of the canonical JSON. Raises `InvalidInput` when the parameters are not JSON."""
        return sha256_of(canonical(self.fields()))

    def fields(self) -> dict[str, Any]:
        """Return what is asked as JSON has it, without what the answer adds."""
        return {
            "kind": self.kind,
            "inputs": dict(self.inputs),
            "parameters": dict(self.parameters),
            "recipe_version": self.recipe_version,
        }


@dataclass(frozen=True, kw_only=True)
class Manifest(Request):
    """What an artifact is: the request it answers, and its files by name ascending."""

    files: tuple[File, ...]
    schema_version: int = SCHEMA.version
    """The one it was stored under: its bytes, and so its id, stay what they are."""

    @property
    def id(self) -> str:
        """The artifact's id, 64 hexadecimal digits."""
        return sha256_of(self.to_json())

    def to_json(self) -> bytes:
        """Return the canonical bytes."""
        files = [file._asdict() for file in self.files]
        return canonical(self.fields() | {"files": files, "schema_version": self.schema_version})

    @classmethod
    def from_json(cls, data: bytes) -> "Manifest":
        """Read a manifest.

        Raises:
            Corrupt: the bytes are none.
            InvalidInput: its schema is newer than this code reads.
        """
        fields = SCHEMA.read(data)
        version = json.loads(data)["schema_version"]
        try:
            files = tuple(File(**each) for each in fields.pop("files"))
            return cls(**fields, files=files, schema_version=version)
        except (ValueError, TypeError, KeyError) as error:
            raise Corrupt(f"expected a manifest, got {error!r}") from error


def canonical(value: object) -> bytes:
    """Return canonical JSON. Raises `InvalidInput` when the value is none."""
    try:
        return canonical_json(value)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"expected values fit for JSON: {error}") from error


def sha256_of(data: bytes) -> str:
    """Return the sha256, 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()
