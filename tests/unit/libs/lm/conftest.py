"""A fake Triton over a real channel: loads, digests and answers as the real one does.

The contract suite and `tests/integration/test_publish.py` hold the real one to the same. Its
weights are files that hold their own digest.
"""

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import serialize_byte_tensor

from libs.artifacts import Artifacts
from libs.blobs.folder import FolderBlobs
from libs.errors import NotFound
from libs.lm import weights
from libs.lm.publish import Publisher
from libs.lm.triton.replica import Replica
from libs.lm.triton.repository import served_version
from libs.manifest import Request


class FakeTriton(service_pb2_grpc.GRPCInferenceServiceServicer):
    """One replica; `held` is the digest that each model answers with."""

    def __init__(self, models):
        self.models = models
        self.held = {}
        self.loads = []
        self.on_load = self.on_loaded = lambda name: None

    def RepositoryModelLoad(self, request, context):
        name = request.model_name
        self.on_load(name)
        given = request.parameters["config"].string_param if request.parameters else ""
        version = self._version(name, given, context)
        folder = f"models/repository/{name}/{version}"
        manifest = json.loads(self.models.read(f"{folder}/manifest.json").data)
        stored = self.models.read(f"{folder}/checkpoint/model.safetensors").data.decode()
        if stored != manifest["weights_digest"]:
            told = f"Corrupt: expected weights {manifest['weights_digest']}, stored {stored}\n\nAt:"
            context.abort(grpc.StatusCode.INTERNAL, f"load failed: ValueError: {told} model.py")
        self.held[name] = stored
        self.loads.append((name, version))
        self.on_loaded(name)
        return service_pb2.RepositoryModelLoadResponse()

    def RepositoryModelUnload(self, request, context):
        self.held.pop(request.model_name, None)
        return service_pb2.RepositoryModelUnloadResponse()

    def ModelStatistics(self, request, context):
        found = [{"name": name, "last_inference": place} for place, name in enumerate(self.held, 1)]
        return service_pb2.ModelStatisticsResponse(model_stats=found)

    def ModelStreamInfer(self, requests, context):
        name = next(requests).model_name
        if name not in self.held:
            told = f"Request for unknown model: '{name}' is not found"
            yield service_pb2.ModelStreamInferResponse(error_message=told)
            return
        answer = service_pb2.ModelInferResponse(model_name=name)
        answer.outputs.add(name="weights_digest", datatype="BYTES", shape=[1])
        text = np.array([self.held[name].encode()], dtype=np.object_)
        answer.raw_output_contents.append(serialize_byte_tensor(text).item())
        yield service_pb2.ModelStreamInferResponse(infer_response=answer)

    def _version(self, name, given, context):
        if given:
            return int(json.loads(given)["version_policy"]["specific"]["versions"][0])
        try:
            return served_version(
                self.models.read(f"models/repository/{name}/config.pbtxt").data.decode()
            )
        except NotFound:
            context.abort(grpc.StatusCode.INTERNAL, f"failed to poll model '{name}'")


class World:
    """A store with two checkpoints, and replicas that read its repository."""

    def __init__(self, folder):
        self.blobs = FolderBlobs(folder / "blobs")
        self.models = FolderBlobs(folder / "models")
        self.folder = folder
        self.first, self.second = (self.register(digit * 64) for digit in "ab")

    def register(self, digest, stored=""):
        """Register a checkpoint under a digest; `stored` is what it really holds."""
        folder = self.folder / f"checkpoint-{digest[:4]}"
        folder.mkdir()
        (folder / "model.safetensors").write_text(stored or digest)
        request = Request(kind="checkpoint", inputs={}, parameters={"of": digest}, recipe_version=1)
        artifact = Artifacts(self.blobs).create(request, folder, run={})
        weights.register(self.blobs, digest, artifact)
        return digest

    @contextmanager
    def publisher(self, *tritons, **options):
        """Give a publisher to fakes behind real servers."""
        servers = [_served(each) for each in tritons]
        replicas = [Replica(address) for _, address in servers]
        publisher = Publisher(replicas, blobs=self.blobs, models=self.models, **options)
        try:
            yield publisher
        finally:
            publisher.close()
            for server, _ in servers:
                server.stop(None).wait()


def _served(triton):
    server = grpc.server(ThreadPoolExecutor(4))
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(triton, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    triton.server = server
    return server, f"127.0.0.1:{port}"


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


@pytest.fixture
def make_triton(world):
    return lambda: FakeTriton(world.models)
