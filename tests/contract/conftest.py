"""The adapters that each port's contract suite runs on."""

import pytest

from libs.blobs.folder import FolderBlobs
from tests.buckets import fresh_blobs


@pytest.fixture(params=["folder", "minio"])
def blobs(request, tmp_path):
    """An empty object store, once for each adapter."""
    if request.param == "folder":
        yield FolderBlobs(tmp_path / "blobs")
        return
    with fresh_blobs(request.getfixturevalue("stack"), tmp_path) as blobs:
        yield blobs
