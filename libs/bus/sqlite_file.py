"""One SQLite file shared by processes: how it is opened, written to, and how it fails.

Everything that knows SQLite's settings and error codes is here, so that the bus reads as SQL.
Write-ahead logging lets readers go on while one writer commits.
"""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from libs.errors import Busy, Corrupt, InvalidInput, ServiceError, Unavailable

_FIRST_SCHEMA = """
CREATE TABLE IF NOT EXISTS topics (
    name TEXT PRIMARY KEY, key TEXT NOT NULL,
    partitions INTEGER NOT NULL, retention_hours INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ends (
    topic TEXT, partition INTEGER, next_offset INTEGER NOT NULL,
    PRIMARY KEY (topic, partition)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS messages (
    topic TEXT, partition INTEGER, position INTEGER, key TEXT NOT NULL, value BLOB NOT NULL,
    headers TEXT NOT NULL, published_s REAL NOT NULL,
    PRIMARY KEY (topic, partition, position));
CREATE TABLE IF NOT EXISTS generations (
    consumers TEXT PRIMARY KEY, generation INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS members (
    id INTEGER PRIMARY KEY AUTOINCREMENT, consumers TEXT NOT NULL, topics TEXT NOT NULL,
    beats INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS commits (
    consumers TEXT, topic TEXT, partition INTEGER, next_offset INTEGER NOT NULL,
    PRIMARY KEY (consumers, topic, partition)) WITHOUT ROWID;
"""
_MIGRATIONS = (
    _FIRST_SCHEMA,
    "ALTER TABLE topics ADD COLUMN compacted INTEGER NOT NULL DEFAULT 0",
)
"""Each takes a file from the schema of its place, from 0, to the next."""
SCHEMA_VERSION = len(_MIGRATIONS)
_PAUSE_S = 0.02


class SqliteFile:
    """One connection; not for two threads at once."""

    def __init__(self, path: Path, *, durable: bool, busy_timeout_s: float) -> None:
        """Open the file, creating it where missing.

        `durable` makes a commit survive a power cut (the log is synced); without it a commit
        survives only a crash of the process, which is enough for heartbeats and offsets.

        Raises:
            Unavailable: the file cannot be opened or stays locked.
            InvalidInput: a newer version of Athanor wrote it.
        """
        self.path = path
        self._busy_timeout_s = busy_timeout_s
        with _translated(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(
                path, timeout=busy_timeout_s, isolation_level=None, check_same_thread=False
            )
            self._use_write_ahead_log()
            level = "FULL" if durable else "NORMAL"
            self._connection.execute(f"PRAGMA synchronous = {level}")
        self._create_tables()

    def rows(self, sql: str, *values: object) -> list[Any]:
        """Return every row of a query, or of a statement none."""
        with _translated(self.path):
            return self._connection.execute(sql, values).fetchall()

    def change(self, sql: str, *values: object) -> int:
        """Run a statement and return how many rows it changed."""
        with _translated(self.path):
            return self._connection.execute(sql, values).rowcount

    def change_many(self, sql: str, values: list[tuple[object, ...]]) -> None:
        """Run a statement once a tuple."""
        with _translated(self.path):
            self._connection.executemany(sql, values)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Make the block one transaction that holds the write lock from its start.

        Raises:
            Unavailable: another writer held the lock for the whole busy timeout.
            Busy: the disk is full.
        """
        with _translated(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                # A failed COMMIT may have rolled back already.
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def version(self) -> int:
        """Return a number that is another one once a different connection has committed."""
        return int(self.rows("PRAGMA data_version")[0][0])

    def close(self) -> None:
        """Close the connection; idempotent."""
        self._connection.close()

    def _use_write_ahead_log(self) -> None:
        # SQLite does not wait for locks while it changes the journal mode, so we do.
        give_up = time.monotonic() + self._busy_timeout_s
        while True:
            try:
                self._connection.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if not _is_locked(error) or time.monotonic() > give_up:
                    raise
                time.sleep(_PAUSE_S)

    def _create_tables(self) -> None:
        version = self._schema()
        if version > SCHEMA_VERSION:
            raise InvalidInput(f"{self.path}: schema {version} is newer than {SCHEMA_VERSION}")
        if version < SCHEMA_VERSION:
            with self.writing():
                self._migrate()

    def _migrate(self) -> None:
        # Asked again: another process may have done it since.
        for migration in _MIGRATIONS[self._schema() :]:
            for statement in filter(str.strip, migration.split(";")):
                self.change(statement)
        self.change(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def _schema(self) -> int:
        return int(self.rows("PRAGMA user_version")[0][0])


def _is_locked(error: sqlite3.Error) -> bool:
    return _primary_code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _primary_code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    """Raise SQLite's failures of the outside world as errors of ours; bugs stay as they are."""
    try:
        yield
    except OSError as error:
        raise Unavailable(f"bus {path}: cannot be opened, {error}") from error
    except sqlite3.Error as error:
        known = _error_of(error, path)
        if known is None:
            raise
        raise known from error


def _error_of(error: sqlite3.Error, path: Path) -> ServiceError | None:
    code = _primary_code(error)
    if code == sqlite3.SQLITE_FULL:
        return Busy(f"bus {path}: the disk is full")
    if _is_locked(error):
        return Unavailable(f"bus {path}: stayed locked by another process")
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return Corrupt(f"bus {path}: expected an intact SQLite file, got {error}")
    if code in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
        return Unavailable(f"bus {path}: {error}")
    return None
