"""The adapters that each port's contract suite runs on."""

import pytest

from tests import buckets, indexes


@pytest.fixture(params=buckets.ADAPTERS)
def blobs(request, tmp_path):
    """An empty object store, once for each adapter."""
    with buckets.opener(request.param, request, tmp_path) as open_blobs:
        yield open_blobs()


@pytest.fixture(params=indexes.ADAPTERS)
def engine(request, tmp_path):
    """A search engine without indexes, once for each adapter."""
    with indexes.opened(request.param, request, tmp_path) as search:
        yield search
