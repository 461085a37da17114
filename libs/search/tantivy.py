"""Search in a folder by tantivy: the embedded profile's engine behind `libs.search.port`.

One folder an index: `ledger.sqlite` (the truth), `engine/` (tantivy's files) and `generation` (the
ledger's generation that the engine holds, written last). What does not agree is filled again from
the ledger; a ledger that cannot be read is begun anew, empty. One process owns a folder.
"""

import logging
import shutil
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock, RLock

import tantivy

from libs.errors import Busy, Corrupt, Unavailable
from libs.search import names
from libs.search.exact import Collection, Proposal, Proposals, known, search
from libs.search.ledger import Changes, Ledger
from libs.search.port import Entry, Hit
from libs.search.rank import K1, idf
from libs.words import terms

_HEAP_BYTES = 50_000_000
_BURIED_SHARE = 0.05
"""Removed entries, as a share of all, from which the engine is filled again: above it the proof
of `libs.search.exact` would need many proposals."""
_LOGGER = logging.getLogger(__name__)


class TantivySearch:
    """A folder of indexes, each opened once."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._indexes: dict[str, TantivyIndex] = {}
        self._lock = Lock()

    def index(self, name: str) -> "TantivyIndex":
        """Open the index, empty if it is new or cannot be read."""
        with self._lock:
            if name not in self._indexes:
                self._indexes[name] = TantivyIndex(self._folder(name))
            return self._indexes[name]

    def rebuild(self, name: str, entries: Iterable[Entry]) -> None:
        """Make the index hold exactly these entries, at once."""
        self.index(name).replace(entries)

    def drop(self, name: str) -> None:
        """Remove the index; safe to repeat."""
        folder = self._folder(name)
        with self._lock:
            index = self._indexes.pop(name, None)
            if index is not None:
                index.close()
            shutil.rmtree(folder, ignore_errors=True)

    def _folder(self, name: str) -> Path:
        return self._root / names.check(name)


class TantivyIndex:
    """One index; threads may share it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = RLock()
        self._ledger = _open_ledger(folder)
        self._behind = not self._engine_follows()
        self._catch_up()

    def add(self, entries: Iterable[Entry]) -> None:
        """Index the entries and make them searchable; an id already there is replaced."""
        with self._lock, _engine_errors():
            self._follow(self._ledger.put(_prepared(entries)))

    def replace(self, entries: Iterable[Entry]) -> None:
        """Hold exactly these entries."""
        with self._lock, _engine_errors():
            self._follow(self._ledger.put(_prepared(entries), alone=True))

    def delete(self, ids: Iterable[str]) -> None:
        """Remove the ids and make the removal visible."""
        with self._lock, _engine_errors():
            self._follow(self._ledger.remove(ids))

    def search(self, queries: Sequence[str], *, top_k: int) -> list[list[Hit]]:
        """Return for each query up to `top_k` hits, best first; an empty query has none."""
        with self._lock, _engine_errors():
            self._catch_up()
            collection = _collection(self._ledger)
            wanted = [known(terms(query), collection.statistics) for query in queries]
            return [search(collection, query, top_k, self._propose) for query in wanted]

    def __len__(self) -> int:
        return len(self._ledger)

    def close(self) -> None:
        """Release the files; the index is not for use afterwards."""
        with self._lock:
            self._ledger.close()

    def _propose(self, query: Mapping[str, int], limit: int) -> Proposals:
        parts = [(tantivy.Occur.Should, self._term(*item)) for item in query.items()]
        found = self._searcher.search(tantivy.Query.boolean_query(parts), limit, count=False).hits
        numbers = self._searcher.fast_field_values("number", [address for _, address in found])
        best = [self._proposal(int(number or 0)) for number in numbers]
        return Proposals(best, found[-1][0] if len(found) == limit else 0.0)

    def _proposal(self, number: int) -> Proposal:
        return Proposal(self._ledger.id(number), self._ledger.frequencies(number))

    def _term(self, term: str, times: int) -> tantivy.Query:
        query = tantivy.Query.term_query(self._engine.schema, "terms", term, "freq")
        return tantivy.Query.boost_query(query, float(times)) if times > 1 else query

    def _engine_follows(self) -> bool:
        """Open the engine and tell whether it holds what the ledger says."""
        try:
            if int(self._mark.read_text()) != self._ledger.generation:
                return False
            self._open_engine()
        except (OSError, ValueError):
            return False
        return bool(self._searcher.num_docs == len(self._ledger))

    def _open_engine(self) -> None:
        path = self._folder / "engine"
        path.mkdir(exist_ok=True)
        self._engine = tantivy.Index(_schema(), path=str(path))
        self._searcher = self._engine.searcher()

    def _catch_up(self) -> None:
        """Fill the engine if it stopped half-way, in this process or an earlier one."""
        if self._behind:
            self._fill()

    def _fill(self) -> None:
        """Make the engine anew from the ledger."""
        self._mark.unlink(missing_ok=True)
        shutil.rmtree(self._folder / "engine", ignore_errors=True)
        self._ledger.purge()
        self._open_engine()
        self._commit(Changes(list(self._ledger), []))

    def _follow(self, changes: Changes) -> None:
        if self._behind or self._ledger.num_buried > _BURIED_SHARE * len(self._ledger):
            self._fill()
        else:
            self._commit(changes)

    def _commit(self, changes: Changes) -> None:
        self._behind = True
        # One thread, so that the same entries give the same segments on every machine.
        writer = self._engine.writer(_HEAP_BYTES, num_threads=1)
        for number in changes.removed:
            writer.delete_documents_by_term("number", number)
        for row in changes.added:
            writer.add_document(tantivy.Document(number=row.number, terms=row.terms))
        writer.commit()
        writer.wait_merging_threads()
        self._engine.reload()
        self._searcher = self._engine.searcher()
        self._mark.write_text(str(self._ledger.generation))
        self._behind = False

    @property
    def _mark(self) -> Path:
        return self._folder / "generation"


def _prepared(entries: Iterable[Entry]) -> list[tuple[str, str]]:
    return [(entry.id, " ".join(terms(entry.text))) for entry in entries]


def _collection(ledger: Ledger) -> Collection:
    """Return what the ledger knows, and how far off the engine is by counting what is buried.

    The engine forgets buried entries when it likes. Its idf is lowest while it counts all that have
    the term, and its mean length while it counts all, as empty ones.
    """
    statistics, buried = ledger.statistics, ledger.buried

    def engine_idf(term: str) -> float:
        count = statistics.document_frequencies[term]
        return idf(len(ledger) + buried[term], count + buried[term])

    counted = len(ledger) + ledger.num_buried
    mean_length = statistics.mean_length * len(ledger) / max(counted, 1)
    return Collection(
        statistics=statistics,
        engine_idf=engine_idf,
        engine_mean_length=mean_length,
        engine_factor=K1 + 1,
    )


def _schema() -> tantivy.Schema:
    builder = tantivy.SchemaBuilder()
    builder.add_integer_field("number", indexed=True, fast=True)
    builder.add_text_field("terms", tokenizer_name="whitespace", index_option="freq")
    return builder.build()


def _open_ledger(folder: Path) -> Ledger:
    folder.mkdir(parents=True, exist_ok=True)
    try:
        return Ledger(folder / "ledger.sqlite")
    except Corrupt as error:
        _LOGGER.warning("index %s is begun anew, empty: %s", folder.name, error)
    shutil.rmtree(folder)
    folder.mkdir()
    return Ledger(folder / "ledger.sqlite")


@contextmanager
def _engine_errors() -> Iterator[None]:
    """Give the errors of tantivy, all `ValueError` or `OSError`, and of SQLite a name of ours."""
    try:
        yield
    except ValueError as error:
        kind = Busy if "lock" in str(error).lower() else Unavailable
        raise kind(f"tantivy: {error}") from error
    except OSError as error:
        raise Unavailable(f"tantivy: {error}") from error
    except sqlite3.OperationalError as error:
        full = error.sqlite_errorcode == sqlite3.SQLITE_FULL
        raise (Busy if full else Unavailable)(f"ledger: {error}") from error
