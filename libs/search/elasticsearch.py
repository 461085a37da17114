"""Search on Elasticsearch: the cluster profile's engine behind `libs.search.port`.

Nothing is kept on this side: any number of processes may search and write one index. What a name
means is decided by an alias, which a rebuild moves in one step. Requests end within a deadline
when the server is silent; each may be repeated, for an entry is stored under a digest of its id.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from libs.clock import Clock
from libs.errors import NotFound
from libs.search.elastic import bulk, names
from libs.search.elastic.documents import split
from libs.search.elastic.server import Gone, Lost, Server
from libs.search.elastic.snapshot import Snapshot, opened
from libs.search.elastic.versions import Versions
from libs.search.port import Entry, Hit

T = TypeVar("T")

_TRIES = 5
"""How often the moment that a search reads may be lost, by a swap or a restart, in one call."""


class ElasticsearchSearch:
    """The indexes in one namespace of a server; threads may share it."""

    def __init__(
        self,
        url: str,
        *,
        namespace: str = "",
        num_shards: int = 1,
        deadline_s: float = 20.0,
        grace_s: float = 5.0,
        clock: Clock | None = None,
    ) -> None:
        """Use the server at `url`, `http(s)://host:port`; connects at the first call.

        Args:
            url: of the server.
            namespace: a prefix of all names there.
            num_shards: of indexes that are made.
            deadline_s: of each request; a call makes several.
            grace_s: how long a rebuild waits for searches in what it replaced, at most.
            clock: tells how old a version is that nobody uses.
        """
        self._server = Server(url, deadline_s=deadline_s)
        self._namespace, self._num_shards = namespace, num_shards
        self._grace_s, self._clock = grace_s, clock or Clock()

    def index(self, name: str) -> "ElasticsearchIndex":
        """Open the index, empty if it is new or was written in an older format.

        Raises:
            InvalidInput: a newer Athanor wrote it.
        """
        return ElasticsearchIndex(self._server, self._versions(name))

    def rebuild(self, name: str, entries: Iterable[Entry]) -> None:
        """Make the index hold exactly these entries, at once."""
        self._versions(name).rebuild(map(bulk.put, _last(entries)))

    def drop(self, name: str) -> None:
        """Remove the index; safe to repeat."""
        self._versions(name).drop()

    def close(self) -> None:
        """Close the connections."""
        self._server.client.close()

    def _versions(self, name: str) -> Versions:
        return Versions(
            self._server,
            names.alias(self._namespace, name),
            num_shards=self._num_shards,
            grace_s=self._grace_s,
            clock=self._clock,
        )


class ElasticsearchIndex:
    """One index; threads and processes may share it."""

    def __init__(self, server: Server, versions: Versions) -> None:
        self._server, self._versions = server, versions
        self._was_there = versions.open()

    def add(self, entries: Iterable[Entry]) -> None:
        """Index the entries and make them searchable; an id already there is replaced.

        Raises:
            Busy: it has no room, or is swapped again and again.
            InvalidInput: it cannot take some entry, named; others of the call may be there.
        """
        self._write([bulk.put(entry) for entry in _last(entries)])

    def delete(self, ids: Iterable[str]) -> None:
        """Remove the ids and make the removal visible."""
        if self._versions.live() is not None:
            self._write([bulk.remove(id_) for id_ in dict.fromkeys(ids)])

    def search(self, queries: Sequence[str], *, top_k: int) -> list[list[Hit]]:
        """Return for each query up to `top_k` hits, best first; an empty query has none.

        Raises:
            NotFound: the index was dropped since it was opened.
        """
        wanted = [split(query) for query in queries]
        found = self._view(lambda view: view.search(wanted, top_k))
        return [[] for _ in queries] if found is None else found

    def __len__(self) -> int:
        return self._view(len) or 0

    def _write(self, actions: Sequence[bulk.Action]) -> None:
        if actions:
            self._versions.write(actions)
            self._was_there = True

    def _view(self, use: Callable[[Snapshot], T]) -> T | None:
        """Return what is made of the present moment; None of an index that never was."""
        lost = Lost(f"index {self._versions.alias} was not looked at")
        for _ in range(_TRIES):
            try:
                with opened(self._server, self._versions.alias) as view:
                    found = use(view)
            except Gone as error:
                if self._versions.live() is None:
                    self._require_new()
                    return None
                lost = Lost(str(error))  # swapped just when it was opened
            except Lost as error:
                lost = error
            else:
                self._was_there = True
                return found
        raise lost

    def _require_new(self) -> None:
        """An index that is not there is empty, unless it once was."""
        if self._was_there:
            raise NotFound(f"index {self._versions.alias} was dropped since it was opened")


def _last(entries: Iterable[Entry]) -> Iterable[Entry]:
    """Return the entries, of one id the last only."""
    return {entry.id: entry for entry in entries}.values()
