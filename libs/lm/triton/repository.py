"""The model repository that Triton reads from the object store, written by code.

    models/repository/<name>/config.pbtxt            which version serves; written last, at once
    models/repository/<name>/<n>/owner               claims the number, so that two never write one
    models/repository/<name>/<n>/checkpoint/...      weights, config, tokenizer
    models/repository/<name>/<n>/model.py, libs/lm/*.py
    models/repository/<name>/<n>/manifest.json       digest of the weights and of every file

A version is never written to again. A publication that was killed leaves a number that no
configuration names, so Triton never serves half of it. Names are `lm-<12 digits of the digest>` for
candidates, and `live`.
Source: https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/user_guide/model_repository.html
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from libs.blobs.port import Blobs
from libs.digests import remembered_sha256
from libs.errors import Conflict, Corrupt, NotFound
from libs.formats import canonical_json
from libs.lm import arithmetic

SCHEMA_VERSION = 1
LIVE = "live"
CANDIDATE = "lm-"
"""What the names of models begin with that are asked by digest."""
_ROOT = "models/repository"
_HERE = Path(__file__).parent
_CODE = {"model.py": _HERE / "model.py"} | arithmetic.FILES
_INPUTS = {"call": "STRING", "stems": "STRING", "options": "STRING"} | dict.fromkeys(
    ("num_options", "batch_size"), "INT32"
)
_OUTPUTS = {
    "weights_digest": "STRING",
    "log_likelihoods": "FP64",
    "num_tokens": "INT32",
    "num_stem_tokens_cut": "INT32",
    "num_parameters": "INT64",
}


def model_name(weights_digest: str) -> str:
    """Return what Triton calls the model of a candidate."""
    return f"{CANDIDATE}{weights_digest[:12]}"


def config(name: str, version: int) -> str:
    """Return the `config.pbtxt` of a model that serves one version.

    Decoupled, so that one model can answer with a stream of tokens; every input but `call` is
    optional; no dynamic batching, since another batch changes the last bits of a promised digest.
    """
    made = model_config_pb2.ModelConfig(name=name, backend="python", max_batch_size=0)
    for field, kind in _INPUTS.items():
        optional = field != "call"
        made.input.add(name=field, data_type=f"TYPE_{kind}", dims=[-1], optional=optional)
    for field, kind in _OUTPUTS.items():
        made.output.add(name=field, data_type=f"TYPE_{kind}", dims=[-1])
    made.model_transaction_policy.decoupled = True
    made.instance_group.add(kind=model_config_pb2.ModelInstanceGroup.KIND_CPU, count=1)
    made.version_policy.specific.versions.append(version)
    return text_format.MessageToString(made)


def served_version(pbtxt: str) -> int:
    """Return the version that a configuration names. Raises `Corrupt` if it is none of ours."""
    try:
        parsed = text_format.Parse(pbtxt, model_config_pb2.ModelConfig())
    except text_format.ParseError as error:
        raise Corrupt(f"expected a Triton model configuration, got: {error}") from error
    versions = parsed.version_policy.specific.versions
    if len(versions) != 1:
        raise Corrupt(f"{parsed.name}: expected one version to serve, got {list(versions)}")
    return int(versions[0])


class Repository:
    """The repository in one object store. Every call raises as `Blobs` does."""

    def __init__(self, blobs: Blobs, *, num_threads: int = 2) -> None:
        """Use `blobs`; models run with `num_threads` threads of arithmetic."""
        self._blobs = blobs
        self._num_threads = num_threads

    def publish(self, name: str, weights_digest: str, checkpoint: Mapping[str, Path]) -> int:
        """Make a checkpoint what `name` serves from its next load on; return the version.

        Safe to repeat, to race and to kill: what is published already is not written again.

        Args:
            name: of the model.
            weights_digest: what the model must compute of its tensors before it answers.
            checkpoint: file name to local file, in the Hugging Face layout.
        """
        files = {f"checkpoint/{each}": path for each, path in checkpoint.items()} | _CODE
        manifest = canonical_json(
            {
                "schema_version": SCHEMA_VERSION,
                "weights_digest": weights_digest,
                "num_threads": self._num_threads,
                "files": {each: remembered_sha256(path) for each, path in sorted(files.items())},
            }
        )
        while True:
            served = self.served(name)
            if served and self._manifest(name, served) == manifest:
                return served
            number = self._write(name, files, manifest)
            with suppress(Conflict):  # somebody else published: look again what it is
                self._serve(name, number)
                return number

    def served(self, name: str) -> int:
        """Return the version that the next load of a model serves; 0 if it was never published."""
        try:
            return served_version(self._blobs.read(f"{_ROOT}/{name}/config.pbtxt").data.decode())
        except NotFound:
            return 0

    def weights_digest(self, name: str) -> str:
        """Return the digest of the weights that the next load serves. Raises `NotFound`."""
        manifest: dict[str, Any] = json.loads(self._manifest(name, self.served(name)) or b"{}")
        if not manifest:
            raise NotFound(f"model {name} was never published")
        return str(manifest["weights_digest"])

    def _manifest(self, name: str, version: int) -> bytes:
        try:
            return self._blobs.read(f"{_ROOT}/{name}/{version}/manifest.json").data
        except NotFound:
            return b""

    def _write(self, name: str, files: Mapping[str, Path], manifest: bytes) -> int:
        number = self._claim(name)
        folder = f"{_ROOT}/{name}/{number}"
        for each, path in files.items():
            self._blobs.create(f"{folder}/{each}", path)
        self._blobs.create(f"{folder}/manifest.json", manifest)
        return number

    def _claim(self, name: str) -> int:
        """Return a version number that nobody else writes to."""
        folder = f"{_ROOT}/{name}/"
        taken = {
            blob.name.removeprefix(folder).partition("/")[0] for blob in self._blobs.list(folder)
        }
        number = max((int(each) for each in taken if each.isdecimal()), default=0) + 1
        while True:
            with suppress(Conflict):
                self._blobs.create(f"{folder}{number}/owner", uuid4().hex.encode())
                return number
            number += 1

    def _serve(self, name: str, version: int) -> None:
        """Name the version in the configuration. Raises `Conflict` if it changed meanwhile."""
        blob, content = f"{_ROOT}/{name}/config.pbtxt", config(name, version).encode()
        try:
            stored = self._blobs.read(blob)
        except NotFound:
            self._blobs.create(blob, content)
        else:
            if served_version(stored.data.decode()) > version:
                raise Conflict(f"{name}: a later version than {version} is served")
            self._blobs.replace_if(blob, content, etag=stored.etag)
