"""What exact scoring needs beside an engine's index: every entry's terms, kept in SQLite.

The ledger is the truth and the engine's index a copy of it: a change is committed here first under
a new generation, so an engine that stopped half-way is found out and filled again from here.
Entries that were removed stay as *buried* until the engine is filled again, because an engine's own
statistics go on counting them. Terms are held in memory, about a kilobyte an entry.
"""

import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from libs.errors import Corrupt, InvalidInput
from libs.schema import Schema, unchanged
from libs.search.rank import Statistics
from libs.words import TERMS_VERSION

_SCHEMA = """
CREATE TABLE IF NOT EXISTS entries(
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL, terms TEXT NOT NULL,
    buried INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS state(generation INTEGER NOT NULL, terms_version INTEGER NOT NULL);
"""
SCHEMA = Schema(name="a ledger", version=1, migrations={0: unchanged})
_KEPT_FREQUENCIES = 1 << 14


class Row(NamedTuple):
    """One entry under the number that the engine knows it by."""

    number: int
    id: str
    terms: str
    """Joined by a space."""


class Changes(NamedTuple):
    """What the engine must do to follow the ledger."""

    added: list[Row]
    removed: list[int]


class Ledger:
    """Not for two writers at once: the index that owns it locks."""

    def __init__(self, path: Path) -> None:
        """Open or create the ledger. Raises `Corrupt` when it cannot be read or is out of date."""
        self._database = sqlite3.connect(path, check_same_thread=False)
        try:
            SCHEMA.check(self._database.execute("PRAGMA user_version").fetchone()[0])
            version = f"PRAGMA user_version={SCHEMA.version};"
            self._database.executescript("PRAGMA journal_mode=WAL;" + _SCHEMA + version)
            self._load()
        except (sqlite3.DatabaseError, Corrupt, InvalidInput) as error:
            self._database.close()
            raise Corrupt(f"{path.name}: expected a ledger of entries, got {error}") from error
        self.frequencies = lru_cache(_KEPT_FREQUENCIES)(self._frequencies)

    def _load(self) -> None:
        state = self._database.execute("SELECT generation, terms_version FROM state").fetchone()
        if state is None:
            state = (0, TERMS_VERSION)
            with self._database:
                self._database.execute("INSERT INTO state VALUES (?, ?)", state)
        self.generation, version = state
        if version != TERMS_VERSION:
            raise Corrupt(f"ledger has terms of version {version}, expected {TERMS_VERSION}")
        self._rows: dict[int, Row] = {}
        self._number_by_id: dict[str, int] = {}
        self._counts: Counter[str] = Counter()
        self._total_length = 0
        self.buried: Counter[str] = Counter()
        self.num_buried = 0
        for number, id_, terms, buried in self._database.execute(
            "SELECT number, id, terms, buried FROM entries ORDER BY number"
        ):
            self._bury(terms) if buried else self._hold(Row(number, id_, terms))

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Row]:
        """Yield the entries that can be found."""
        return iter(self._rows.values())

    def id(self, number: int) -> str:
        """Return the id of the entry with this number."""
        return self._rows[number].id

    def _frequencies(self, number: int) -> Mapping[str, int]:
        return Counter(self._rows[number].terms.split())

    @property
    def statistics(self) -> Statistics:
        """Statistics of the entries that can be found, exact."""
        return Statistics(
            num_documents=len(self._rows),
            total_length=self._total_length,
            document_frequencies=self._counts,
        )

    def put(self, entries: Iterable[tuple[str, str]], *, alone: bool = False) -> Changes:
        """Add (id, terms) pairs, replacing those of the same id; equal ones change nothing.

        `alone` buries all others in the same change.
        """
        given = dict(entries)
        new = {id_: terms for id_, terms in given.items() if self._terms(id_) != terms}
        others = self._number_by_id.keys() - given if alone else ()
        removed = [self._number_by_id[id_] for id_ in (*new, *others) if id_ in self._number_by_id]
        with self._change(removed) as database:
            numbers = [
                database.execute("INSERT INTO entries(id, terms) VALUES (?, ?)", pair).lastrowid
                for pair in new.items()
            ]
        added = [Row(int(n or 0), *pair) for n, pair in zip(numbers, new.items(), strict=True)]
        self._forget(removed)
        for row in added:
            self._hold(row)
        return Changes(added, removed)

    def remove(self, ids: Iterable[str]) -> Changes:
        """Bury the entries of these ids; absent ones change nothing."""
        removed = sorted({self._number_by_id[id_] for id_ in ids if id_ in self._number_by_id})
        with self._change(removed):
            pass
        self._forget(removed)
        return Changes([], removed)

    def purge(self) -> None:
        """Forget what is buried: the engine is about to be filled again."""
        with self._database:
            self._database.execute("DELETE FROM entries WHERE buried = 1")
        self.buried.clear()
        self.num_buried = 0

    def close(self) -> None:
        """Release the file."""
        self._database.close()

    def _terms(self, id_: str) -> str | None:
        number = self._number_by_id.get(id_)
        return None if number is None else self._rows[number].terms

    def _change(self, removed: list[int]) -> sqlite3.Connection:
        """Begin a change in a new generation; the caller's `with` commits it."""
        self._database.executemany(
            "UPDATE entries SET buried = 1 WHERE number = ?", [(number,) for number in removed]
        )
        self._database.execute("UPDATE state SET generation = generation + 1")
        self.generation += 1
        return self._database

    def _hold(self, row: Row) -> None:
        self._rows[row.number] = row
        self._number_by_id[row.id] = row.number
        terms = row.terms.split()
        self._counts.update(set(terms))
        self._total_length += len(terms)

    def _forget(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            row = self._rows.pop(number)
            if self._number_by_id.get(row.id) == number:
                del self._number_by_id[row.id]
            terms = row.terms.split()
            self._counts.subtract(set(terms))
            self._total_length -= len(terms)
            self._bury(row.terms)

    def _bury(self, terms: str) -> None:
        self.buried.update(set(terms.split()))
        self.num_buried += 1
