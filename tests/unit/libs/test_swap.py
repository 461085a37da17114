"""A record that may not be there yet."""

import pytest

from libs.blobs.folder import FolderBlobs
from libs.blobs.swap import standing, swap
from libs.errors import Conflict, NotFound

NAME = "registry/record"


@pytest.fixture
def blobs(tmp_path):
    return FolderBlobs(tmp_path)


def test_the_first_is_created_and_the_next_takes_its_place(blobs):
    assert standing(blobs, NAME) is None
    swap(blobs, NAME, b"one", None)
    swap(blobs, NAME, b"two", standing(blobs, NAME))
    assert standing(blobs, NAME).data == b"two"


def test_whoever_saw_nothing_does_not_overwrite_what_came_meanwhile(blobs):
    blobs.create(NAME, b"one")
    with pytest.raises(Conflict):
        swap(blobs, NAME, b"two", None)
    assert standing(blobs, NAME).data == b"one"


def test_whoever_saw_an_older_record_does_not_overwrite_the_newer(blobs):
    swap(blobs, NAME, b"one", None)
    seen = standing(blobs, NAME)
    swap(blobs, NAME, b"two", seen)
    with pytest.raises(Conflict):
        swap(blobs, NAME, b"three", seen)


def test_a_record_that_was_deleted_is_not_made_again(blobs):
    swap(blobs, NAME, b"one", None)
    seen = standing(blobs, NAME)
    blobs.delete(NAME)
    with pytest.raises(NotFound):
        swap(blobs, NAME, b"two", seen)
