"""The model repository that Triton reads from the object store, written by code.

    models/repository/<name>/config.pbtxt            which version serves; written last, at once
    models/repository/<name>/<n>/owner               claims the number, so that two never write one
    models/repository/<name>/<n>/checkpoint/...      weights, config, tokenizer
    models/repository/<name>/<n>/model.py, libs/lm/*.py
    models/repository/<name>/<n>/manifest.json       digest of the weights and of every file

A version is never written to again, and one without a manifest does not exist. A publication that
was killed leaves a number that no configuration names, so Triton never serves half of it. Names are
`lm-<12 digits of the digest>` for candidates, and `live`. Triton fetches a model's whole folder at
each load, whatever version it serves, so versions before the one that serves are pruned.
Source: https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/user_guide/model_repository.html
"""

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from google.protobuf import json_format, text_format
from tritonclient.grpc import model_config_pb2

from libs.blobs.port import Blobs
from libs.blobs.swap import standing, swap
from libs.digests import remembered_sha256
from libs.errors import Conflict, Corrupt, NotFound
from libs.formats import canonical_json
from libs.lm import arithmetic
from libs.schema import Schema

SCHEMA = Schema(name="a published version", version=1)
LIVE = "live"
CANDIDATE = "lm-"
"""What the names of models begin with that are asked by digest."""
_ROOT = "models/repository"
_CHUNK_BYTES = 4 << 20
_HERE = Path(__file__).parent
_CODE = {
    "model.py": _HERE / "model.py",
    "libs/lm/triton/calls.py": _HERE / "calls.py",
} | arithmetic.FILES
_INPUTS = (
    dict.fromkeys(("call", "ticket", "texts", "options", "stop"), "STRING")
    | dict.fromkeys(("num_options", "batch_size", "shape", "has_values"), "INT32")
    | dict.fromkeys(("token_ids", "num_token_ids", "max_new_tokens", "top_k"), "INT32")
    | dict.fromkeys(("normalize", "layers", "last_only"), "INT32")
    | {"seeds": "INT64", "values": "FP32", "temperature": "FP64", "top_p": "FP64"}
    | {"timeout_s": "FP64"}
)
_OUTPUTS = (
    dict.fromkeys(("weights_digest", "texts", "finish"), "STRING")
    | dict.fromkeys(("num_tokens", "num_stem_tokens_cut", "index", "token_ids"), "INT32")
    | dict.fromkeys(("num_prompt_tokens", "shape", "num_tokens_left"), "INT32")
    | {"num_parameters": "INT64", "values": "FP32"}
    | dict.fromkeys(("log_likelihoods", "log_probs"), "FP64")
)


def model_name(weights_digest: str) -> str:
    """Return what Triton calls the model of a candidate."""
    return f"{CANDIDATE}{weights_digest[:12]}"


def config(name: str, version: int) -> str:
    """Return the `config.pbtxt` of a model that serves one version.

    Decoupled, so that one model can answer with a stream of tokens; every input but `call` is
    optional; no dynamic batching, since another batch changes the last bits of a promised digest.
    """
    return text_format.MessageToString(_config(name, version))


def config_json(name: str, version: int) -> str:
    """Return the same as JSON, for a call that loads."""
    return json_format.MessageToJson(_config(name, version), preserving_proto_field_name=True)


def _config(name: str, version: int) -> Any:
    made = model_config_pb2.ModelConfig(name=name, backend="python", max_batch_size=0)
    for field, kind in _INPUTS.items():
        optional = field != "call"
        made.input.add(name=field, data_type=f"TYPE_{kind}", dims=[-1], optional=optional)
    for field, kind in _OUTPUTS.items():
        made.output.add(name=field, data_type=f"TYPE_{kind}", dims=[-1])
    made.model_transaction_policy.decoupled = True
    made.instance_group.add(kind=model_config_pb2.ModelInstanceGroup.KIND_CPU, count=1)
    made.version_policy.specific.versions.append(version)
    return made


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
        Arguments as `add`.
        """
        while True:
            number = self.add(name, weights_digest, checkpoint)
            with suppress(Conflict):  # somebody else published: look again what it is
                self.serve(name, number)
                return number

    def add(self, name: str, weights_digest: str, checkpoint: Mapping[str, Path]) -> int:
        """Store a checkpoint as a version of a model, unless it serves or waits; return its number.

        Args:
            name: of the model.
            weights_digest: what the model must compute of its tensors before it answers.
            checkpoint: file name to local file, in the Hugging Face layout.
        """
        files = {f"checkpoint/{each}": path for each, path in checkpoint.items()} | _CODE
        manifest = canonical_json(
            SCHEMA.stamped(
                {
                    "weights_digest": weights_digest,
                    "num_threads": self._num_threads,
                    "files": {each: remembered_sha256(path) for each, path in files.items()},
                }
            )
        )
        served = self.served(name)
        for number in sorted(self._numbers(name), reverse=True):
            # A number that was served before is not served again: it may be pruned any moment.
            if number >= served and self._manifest(name, number) == manifest:
                return number
        return self._write(name, files, manifest)

    def serve(self, name: str, version: int) -> None:
        """Name the version in the configuration; safe to repeat.

        Raises:
            Conflict: a later one is served, or somebody changed it at the same time.
        """
        blob, content = f"{_ROOT}/{name}/config.pbtxt", config(name, version).encode()
        stored = standing(self._blobs, blob)
        if stored and served_version(stored.data.decode()) > version:
            raise Conflict(f"{name}: a later version than {version} is served")
        if stored is None or stored.data != content:
            swap(self._blobs, blob, content, stored)

    def served(self, name: str) -> int:
        """Return the version that the configuration names; 0 if it was never published."""
        try:
            return served_version(self._blobs.read(f"{_ROOT}/{name}/config.pbtxt").data.decode())
        except NotFound:
            return 0

    def weights_digest(self, name: str) -> str:
        """Return the digest of the weights that the configuration names; empty if it names none."""
        manifest = self._manifest(name, self.served(name))
        return str(SCHEMA.read(manifest)["weights_digest"]) if manifest else ""

    def discard_rotten(self, name: str, version: int) -> bool:
        """Take away a version whose stored bytes are not its manifest's; tell whether they were.

        Every byte is read. The checkpoint that it came from is then published again, as another.
        """
        manifest = self._manifest(name, version)
        if not manifest:
            return True
        expected = SCHEMA.read(manifest)["files"]
        found = {each: self._sha256(f"{_ROOT}/{name}/{version}/{each}") for each in expected}
        if found == expected:
            return False
        self._blobs.delete(f"{_ROOT}/{name}/{version}/manifest.json")
        return True

    def prune(self, name: str) -> None:
        """Delete the versions before the one that serves; safe to repeat and to kill."""
        served = self.served(name)
        for number in sorted(each for each in self._numbers(name) if each < served):
            folder = f"{_ROOT}/{name}/{number}/"
            self._blobs.delete(f"{folder}manifest.json")
            for blob in [*self._blobs.list(folder)]:
                self._blobs.delete(blob.name)

    def _numbers(self, name: str) -> set[int]:
        """Return the version numbers taken, half-written ones included."""
        folder = f"{_ROOT}/{name}/"
        heads = (
            blob.name.removeprefix(folder).partition("/")[0] for blob in self._blobs.list(folder)
        )
        return {int(each) for each in heads if each.isdecimal()}

    def _manifest(self, name: str, version: int) -> bytes:
        try:
            return self._blobs.read(f"{_ROOT}/{name}/{version}/manifest.json").data
        except NotFound:
            return b""

    def _sha256(self, blob: str) -> str:
        digest, start = hashlib.sha256(), 0
        with suppress(NotFound):
            while chunk := self._blobs.read_range(blob, start, _CHUNK_BYTES):
                digest.update(chunk)
                start += len(chunk)
        return digest.hexdigest()

    def _write(self, name: str, files: Mapping[str, Path], manifest: bytes) -> int:
        number = self._claim(name)
        folder = f"{_ROOT}/{name}/{number}"
        for each, path in files.items():
            self._blobs.create(f"{folder}/{each}", path)
        self._blobs.create(f"{folder}/manifest.json", manifest)
        return number

    def _claim(self, name: str) -> int:
        """Return a version number that nobody else writes to."""
        number = max(self._numbers(name), default=0)
        while True:
            number += 1
            with suppress(Conflict):
                owner = f"{_ROOT}/{name}/{number}/owner"
                self._blobs.create(owner, uuid4().hex.encode())
                return number
