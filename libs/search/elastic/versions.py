"""Which index a name means now, and how another takes its place in one step.

An alias points to one version of an index. A rebuild fills the next version under an alias of its
own and moves the real alias to it: a search meets the old entries or the new ones, never a part.
Two that rebuild at once fill versions of their own, and the later one's stays. A version without
the alias is left over by a process that died; it is deleted when it is old enough for that.
"""

import logging
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from libs.clock import Clock
from libs.errors import Busy, Conflict, Corrupt, ServiceError, Unavailable
from libs.search.elastic import bulk, documents, names
from libs.search.elastic.server import Gone, Server

_TRIES = 5
"""How often an index may be swapped under a writer, or a version's name be taken, in one call."""
_LEFT_OVER_S = 3600.0
"""Age from which a version without the alias is no longer being filled by anybody."""
_POLL_S = 0.05
_LOGGER = logging.getLogger(__name__)


class Version(NamedTuple):
    """One index there."""

    name: str
    uuid: str
    created_s: float
    """Wall time of the server."""
    aliases: Collection[str]
    """The index's own, or that under which it is filled; none once it was replaced."""
    meta: dict[str, int]


class Versions:
    """The versions of one index; threads and processes may share it."""

    def __init__(
        self, server: Server, alias: str, *, num_shards: int, grace_s: float, clock: Clock
    ) -> None:
        self.alias = alias
        self._server, self._num_shards = server, num_shards
        self._grace_s, self._clock = grace_s, clock

    def live(self) -> Version | None:
        """Return the version that the alias points to, if any."""
        return self._live(self._all())

    def open(self) -> bool:
        """Delete what is left over or cannot be read; tell whether there is an index.

        Raises:
            InvalidInput: a newer Athanor wrote it.
        """
        found = self._all()
        self._sweep(found)
        live = self._live(found)
        if live is None:
            return False
        try:
            documents.check(live.meta)
        except Corrupt as error:
            _LOGGER.warning("index %s is begun anew, empty: %s", self.alias, error)
            self._delete(live.name)
            return False
        return True

    def write(self, actions: Sequence[bulk.Action]) -> None:
        """Do the actions on the live version, made if there is none, all on the same one."""
        for _ in range(_TRIES):
            before = self._ensure()
            with suppress(Gone):
                bulk.write(self._server, self.alias, actions)
                after = self.live()
                if after is not None and after.uuid == before.uuid:
                    return
        raise Busy(f"index {self.alias} was swapped or dropped {_TRIES} times while it was written")

    def rebuild(self, actions: Iterable[bulk.Action]) -> None:
        """Fill a new version and let it take the place of the live one."""
        name = self._create(names.filling)
        try:
            bulk.write(self._server, names.filling(name), actions)
            self._swap(name)
        except Unavailable:
            raise  # the swap may have been done, its answer lost: if not, the version is left over
        except Gone as error:
            raise Busy(f"{name} was deleted while it was filled") from error
        except ServiceError:
            with suppress(ServiceError):
                self._delete(name)
            raise
        found = self._all()
        for version in found:
            if not version.aliases:
                self._retire(version)
        self._sweep(found)

    def drop(self) -> None:
        """Delete all versions."""
        for version in self._all():
            self._delete(version.name)

    def _live(self, versions: Iterable[Version]) -> Version | None:
        return next((each for each in versions if self.alias in each.aliases), None)

    def _all(self) -> list[Version]:
        with self._server.errors(f"look for index {self.alias}"):
            answer = self._server.client.indices.get(
                index=names.versions(self.alias),
                filter_path="*.aliases,*.mappings._meta,*.settings.index.creation_date,"
                "*.settings.index.uuid",
            )
        found = []
        for name, each in answer.body.items():
            index = each["settings"]["index"]
            created_s = int(index["creation_date"]) / 1000
            aliases = each.get("aliases", {})
            meta = each.get("mappings", {}).get("_meta", {})
            found.append(Version(name, index["uuid"], created_s, aliases, meta))
        return found

    def _ensure(self) -> Version:
        """Return the live version, made if there is none."""
        for _ in range(_TRIES):
            found = self.live()
            if found is not None:
                return found
            with suppress(Conflict):  # another made it first
                self._create(lambda _: self.alias)
        raise Busy(f"index {self.alias} was dropped {_TRIES} times while it was made")

    def _create(self, alias_of: Callable[[str], str]) -> str:
        """Make the next version, empty, under an alias. Raises `Conflict` when that is taken."""
        number = max((names.number(each.name) for each in self._all()), default=0)
        while True:
            number += 1
            name = names.version(self.alias, number)
            try:
                self._make(name, alias_of(name))
            except Conflict:
                if not self._is_there(name):
                    raise
            else:
                return name

    def _make(self, name: str, alias: str) -> None:
        with self._server.errors(f"creation of index {name}"):
            self._server.client.indices.create(
                index=name,
                settings=documents.settings(self._num_shards),
                mappings=documents.mappings(),
                # Of two that make the first version of an index, the server refuses the second.
                aliases={alias: {"is_write_index": True}},
                timeout=self._server.patience,
                master_timeout=self._server.patience,
            )

    def _is_there(self, name: str) -> bool:
        return any(each.name == name for each in self._all())

    def _swap(self, name: str) -> None:
        """Move the alias to a version that was filled."""
        for _ in range(_TRIES):
            # The server looks up who has the alias before it moves it, and refuses to give it to a
            # second index when another swap came in between.
            with suppress(Conflict):
                self._move_alias(name)
                return
        raise Busy(f"index {self.alias} was swapped {_TRIES} times while it was rebuilt")

    def _move_alias(self, name: str) -> None:
        everywhere = {"index": names.versions(self.alias), "alias": self.alias, "must_exist": False}
        actions: list[dict[str, Any]] = [
            {"remove": everywhere},
            {"remove": {"index": name, "alias": names.filling(name), "must_exist": False}},
            {"add": {"index": name, "alias": self.alias, "is_write_index": True}},
        ]
        with self._server.errors(f"swap of {self.alias} to {name}"):
            self._server.client.indices.update_aliases(
                actions=actions,
                timeout=self._server.patience,
                master_timeout=self._server.patience,
            )

    def _retire(self, old: Version) -> None:
        """Delete a version once no search reads it, or the grace is over."""
        give_up = time.monotonic() + self._grace_s
        with suppress(Gone):
            while self._num_readers(old.name) and time.monotonic() < give_up:
                time.sleep(_POLL_S)
        self._delete(old.name)

    def _num_readers(self, name: str) -> int:
        with self._server.errors(f"statistics of {name}"):
            answer = self._server.client.indices.stats(
                index=name, metric="search", filter_path="_all.total.search.open_contexts"
            )
        return int(answer["_all"]["total"]["search"]["open_contexts"])

    def _sweep(self, versions: Iterable[Version]) -> None:
        oldest_s = self._clock.now() - _LEFT_OVER_S
        for version in versions:
            if self.alias not in version.aliases and version.created_s < oldest_s:
                _LOGGER.info("deletes index %s, left over by a process that died", version.name)
                self._delete(version.name)

    def _delete(self, name: str) -> None:
        with suppress(Gone), self._server.errors(f"deletion of index {name}"):
            self._server.client.indices.delete(index=name, master_timeout=self._server.patience)
