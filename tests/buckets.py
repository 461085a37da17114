"""Object stores for tests: on either adapter, the real one in a namespace that goes with it."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from minio import Minio
from minio.deleteobjects import DeleteObject

from libs.blobs.folder import FolderBlobs
from libs.blobs.minio import MinioBlobs
from libs.blobs.port import Blobs

ADAPTERS = ("folder", "minio")
Opener = Callable[[], Blobs]


def client(stack: Mapping[str, str]) -> Minio:
    """Return bare minio-py with the credentials of the stack."""
    url = urlsplit(stack["ATHANOR_MINIO"])
    return Minio(
        url.netloc,
        stack["ATHANOR_MINIO_ACCESS_KEY"],
        stack["ATHANOR_MINIO_SECRET_KEY"],
        secure=url.scheme == "https",
        region="us-east-1",
    )


def open_blobs(stack: Mapping[str, str], cache: Path, namespace: str, **options: Any) -> MinioBlobs:
    """Return the adapter with the credentials of the stack."""
    return MinioBlobs(
        stack["ATHANOR_MINIO"],
        access_key=stack["ATHANOR_MINIO_ACCESS_KEY"],
        secret_key=stack["ATHANOR_MINIO_SECRET_KEY"],
        namespace=namespace,
        cache=cache,
        **options,
    )


@contextmanager
def fresh_namespace(stack: Mapping[str, str]) -> Iterator[str]:
    """Give a prefix of buckets that nobody else uses, and remove them at the end."""
    namespace = f"t{uuid4().hex[:10]}-"
    try:
        yield namespace
    finally:
        remove(client(stack), namespace)


@contextmanager
def opener(adapter: str, request: pytest.FixtureRequest, folder: Path) -> Iterator[Opener]:
    """Give a function that opens one empty store, here or in another process.

    Skips the test of `minio` where no stack runs.
    """
    if adapter == "folder":
        yield partial(FolderBlobs, folder / "blobs")
        return
    stack = dict(request.getfixturevalue("stack"))
    with fresh_namespace(stack) as namespace:
        yield partial(open_blobs, stack, folder / "cache", namespace)


def remove(minio: Minio, namespace: str) -> None:
    """Remove the buckets whose name begins with `namespace`, and all that they hold."""
    for bucket in [each.name for each in minio.list_buckets() if each.name.startswith(namespace)]:
        # Again and again: MinIO lists what lies under another blob's name only once that is gone.
        while keys := [each.object_name for each in minio.list_objects(bucket, recursive=True)]:
            assert not [*minio.remove_objects(bucket, [DeleteObject(key) for key in keys])]
        minio.remove_bucket(bucket)
