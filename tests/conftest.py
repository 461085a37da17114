"""What tests of several folders need: the real servers, and tiny models made on the fly."""

import pytest

from tests import stack as real


@pytest.fixture(scope="session")
def stack():
    """Return where the real servers answer, `ATHANOR_KAFKA` and so on; skip without them."""
    return real.settings()


@pytest.fixture(scope="session")
def make_checkpoint():
    """Return `make(folder, seed=0, **config)`: a Hugging Face folder with a tiny Llama."""
    from tests import checkpoints

    return checkpoints.make
