"""Which checkpoint holds the weights of a digest: one blob `weights/<digest>` naming an artifact.

Weights are asked for by digest and stored by artifact id; two artifacts may hold the same weights
(a folder imported twice), and the one registered last stands, as an earlier one may be removed.
"""

import re
from contextlib import suppress

from libs.blobs.port import Blobs
from libs.errors import Conflict, InvalidInput, NotFound


def register(blobs: Blobs, digest: str, artifact_id: str) -> None:
    """Remember that the checkpoint holds the weights; safe to repeat and to race."""
    name, content = _name(digest), artifact_id.encode()
    try:
        blobs.create(name, content)
    except Conflict:
        stored = blobs.read(name)
        if stored.data != content:
            with suppress(Conflict):  # another registration won: it holds the same weights
                blobs.replace_if(name, content, etag=stored.etag)


def find(blobs: Blobs, digest: str) -> str:
    """Return the id of a checkpoint with these weights.

    Raises:
        NotFound: none was registered.
        InvalidInput: `digest` is not 64 hexadecimal digits.
    """
    try:
        artifact_id = blobs.read(_name(digest)).data.decode()
    except NotFound:
        artifact_id = ""
    if not artifact_id:
        raise NotFound(f"no checkpoint is registered with weights {digest}")
    return artifact_id


def disown(blobs: Blobs, artifact_id: str) -> None:
    """Forget a checkpoint that is about to be deleted.

    Its entries are left empty, not deleted: a delete knows no condition, and would take away the
    entry of a checkpoint with the same weights that is registered at this moment.
    """
    for blob in blobs.list("weights/"):
        stored = blobs.read(blob.name)
        if stored.data.decode() == artifact_id:
            with suppress(Conflict):  # another checkpoint is registered for it
                blobs.replace_if(blob.name, b"", etag=stored.etag)


def _name(digest: str) -> str:
    if not re.fullmatch("[0-9a-f]{64}", digest):
        raise InvalidInput(f"weights are named by 64 hexadecimal digits, got {digest[:80]!r}")
    return f"weights/{digest}"
