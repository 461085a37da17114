"""Writes many entries in few requests, each of which may fail for some of them only."""

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from libs.clock import pause_s
from libs.errors import Busy
from libs.search.elastic.documents import document, key
from libs.search.elastic.server import Server
from libs.search.port import Entry

_CHUNK_ACTIONS = 500
_CHUNK_BYTES = 5 << 20
_MAX_REFUSALS = 7
"""Sendings of what is refused for want of room, with pauses of 6.3 s together between them."""


class Action(NamedTuple):
    """One line of a bulk request, or two."""

    id: str
    """The entry's, for messages."""
    lines: Sequence[bytes]

    @property
    def size_bytes(self) -> int:
        return sum(map(len, self.lines))


def put(entry: Entry) -> Action:
    """Return the action that adds an entry or replaces it."""
    header = {"index": {"_id": key(entry.id)}}
    return Action(entry.id, (_line(header), _line(document(entry))))


def remove(id_: str) -> Action:
    """Return the action that deletes an entry, which need not be there."""
    return Action(id_, (_line({"delete": {"_id": key(id_)}}),))


def write(server: Server, alias: str, actions: Iterable[Action]) -> None:
    """Do the actions, at most one an entry, and make them visible.

    Raises:
        Busy: the server went on refusing for want of room.
        Gone: there is no such alias (any more).
        InvalidInput: an entry that the index cannot take, named.
    """
    for chunk in _chunks(actions):
        _write(server, alias, chunk)
    with server.errors(f"refresh of {alias}"):
        answer = server.client.indices.refresh(index=alias)
    server.require_whole(f"refresh of {alias}", answer["_shards"])


def _write(server: Server, alias: str, chunk: Sequence[Action]) -> None:
    for number in range(1, _MAX_REFUSALS + 1):
        try:
            chunk, refusal = _refused(server, alias, chunk)
        except Busy as error:
            refusal = error
        if not chunk:
            return
        if number == _MAX_REFUSALS:
            raise refusal
        _pause(number)


def _pause(refusals: int) -> None:
    time.sleep(pause_s(refusals, first_s=0.1, longest_s=3.2))


def _refused(server: Server, alias: str, chunk: Sequence[Action]) -> tuple[list[Action], Busy]:
    """Send once; return what there was no room for, and the server's words for the last of it."""
    what = f"write of {len(chunk)} entries to {alias}"
    with server.errors(what):
        # An alias is required: without one, an index that was dropped would be made anew.
        lines = [line for action in chunk for line in action.lines]
        answer = server.client.bulk(
            operations=lines,  # type: ignore[arg-type]  # its serialiser takes lines of bytes too
            index=alias,
            require_alias=True,
            timeout=server.patience,
        )
    refused, last = [], Busy(what)
    for action, item in zip(chunk, answer["items"], strict=True):
        (result,) = item.values()
        if "error" in result:
            error = server.error(
                f"entry {action.id!r} of {alias}", result["status"], result["error"]
            )
            if not isinstance(error, Busy):
                raise error
            last = error
            refused.append(action)
    return refused, last


def _chunks(actions: Iterable[Action]) -> Iterator[list[Action]]:
    """Cut by number and size."""
    chunk: list[Action] = []
    size_bytes = 0
    for action in actions:
        size_bytes += action.size_bytes
        if chunk and (len(chunk) == _CHUNK_ACTIONS or size_bytes > _CHUNK_BYTES):
            yield chunk
            chunk, size_bytes = [], action.size_bytes
        chunk.append(action)
    if chunk:
        yield chunk


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
