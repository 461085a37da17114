"""A record that may not be there yet: read what stands, put the next one in its place.

Here so that whatever is written again and again is written in one way. Who meets `Conflict` reads
again and decides anew.
"""

from libs.blobs.port import Blobs, Read
from libs.errors import NotFound


def standing(blobs: Blobs, name: str) -> Read | None:
    """Return the blob and its etag, None if there is none."""
    try:
        return blobs.read(name)
    except NotFound:
        return None


def swap(blobs: Blobs, name: str, content: bytes, before: Read | None) -> None:
    """Store `content` if `before` still stands, or still nothing does.

    Raises:
        Conflict: somebody else was faster.
        NotFound: what stood was deleted.
    """
    if before is None:
        blobs.create(name, content)
    else:
        blobs.replace_if(name, content, etag=before.etag)
