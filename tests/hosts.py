"""Hosts of language models that the contract suites run on, each with two checkpoints to serve."""

from contextlib import contextmanager
from typing import NamedTuple

from libs.artifacts import Artifacts
from libs.blobs.folder import FolderBlobs
from libs.blobs.minio import MinioBlobs
from libs.bus.sqlite import SqliteBus
from libs.clock import Clock
from libs.lm import app, weights
from libs.lm.client import GrpcLm
from libs.lm.config import Config
from libs.lm.digest import folder_digest
from libs.lm.port import GenerativeLm
from libs.lm.triton.client import TritonLm
from libs.manifest import Request

ADAPTERS = ("lm host", "triton")


class World(NamedTuple):
    """A host and what it knows."""

    lm: GenerativeLm
    folders: dict[str, object]
    """Weights digest to the folder they came from."""
    corrupt: str
    """A digest under which other weights are stored."""


@contextmanager
def opened(adapter, request, home, make_checkpoint):
    """Give a `World`, its state in the folder `home`; skip when its server does not run."""
    blobs = FolderBlobs(home / "blobs")
    made = [make_checkpoint(home / f"model{seed}", seed=seed) for seed in (1, 2)]
    folders = {folder_digest(folder): folder for folder in made}
    for digest, folder in (*folders.items(), ("c" * 64, made[0])):
        register(Artifacts(blobs), blobs, folder, digest)
    if adapter == "triton":
        host = triton(request.getfixturevalue("stack"), home, blobs)
    else:
        host = lm_host(home, blobs)
    with host as lm:
        yield World(lm, folders, "c" * 64)


def register(artifacts, blobs, folder, digest):
    """Store a checkpoint as the one with the weights `digest`."""
    request = Request(kind="checkpoint", inputs={}, parameters={"of": digest}, recipe_version=1)
    weights.register(blobs, digest, artifacts.create(request, folder, run={}))


@contextmanager
def lm_host(home, blobs):
    """A client of an lm host in this process."""
    bus = SqliteBus(home / "bus.sqlite")
    service = app.build(Config(home=home, num_threads=1), blobs=blobs, bus=bus, clock=Clock())
    service.start()
    try:
        with GrpcLm(service.address) as lm:
            yield lm
    finally:
        service.stop()
        bus.close()


def triton(stack, home, blobs):
    """A client of the running Triton; names follow from weights, so no model is in the way."""
    models = MinioBlobs(
        stack["ATHANOR_MINIO"],
        access_key=stack["ATHANOR_MINIO_ACCESS_KEY"],
        secret_key=stack["ATHANOR_MINIO_SECRET_KEY"],
        cache=home / "cache",
    )
    key = stack.get("ATHANOR_TRITON_KEY", "")
    return TritonLm([stack["ATHANOR_TRITON"]], blobs=blobs, models=models, key=key)
