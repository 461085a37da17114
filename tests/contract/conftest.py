"""The adapters that each port's contract suite runs on."""

import pytest

from libs.blobs.folder import FolderBlobs


@pytest.fixture(params=["folder"])
def blobs(request, tmp_path):
    """An empty object store, once for each adapter."""
    adapters = {"folder": lambda: FolderBlobs(tmp_path / "blobs")}
    return adapters[request.param]()
