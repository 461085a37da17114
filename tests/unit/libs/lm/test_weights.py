import pytest

from libs.blobs.folder import FolderBlobs
from libs.errors import InvalidInput, NotFound
from libs.lm import weights

DIGEST = "d" * 64


@pytest.fixture
def blobs(tmp_path):
    return FolderBlobs(tmp_path)


def test_registered_weights_are_found(blobs):
    weights.register(blobs, DIGEST, "a" * 64)
    assert weights.find(blobs, DIGEST) == "a" * 64


def test_registering_again_changes_nothing(blobs):
    for _ in range(2):
        weights.register(blobs, DIGEST, "a" * 64)
    assert weights.find(blobs, DIGEST) == "a" * 64


def test_the_checkpoint_registered_last_stands(blobs):
    weights.register(blobs, DIGEST, "a" * 64)
    weights.register(blobs, DIGEST, "b" * 64)
    assert weights.find(blobs, DIGEST) == "b" * 64


def test_unknown_weights_are_not_found(blobs):
    with pytest.raises(NotFound, match=DIGEST):
        weights.find(blobs, DIGEST)


@pytest.mark.parametrize("name", ["live", "", "D" * 64, "../" + "d" * 61])
def test_an_alias_is_no_name_of_weights(blobs, name):
    with pytest.raises(InvalidInput, match="64 hexadecimal"):
        weights.find(blobs, name)
