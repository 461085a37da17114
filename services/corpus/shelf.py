"""Keeps the passages that were searched last open, each with a search index built on demand.

An index is a copy of an artifact and may be lost at any time: it is built again when its number of
entries is not the artifact's.
"""

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

from libs.artifacts import Artifact
from libs.formats import PASSAGES, read_rows
from libs.search.port import Entry, Index, Search
from services.corpus import metrics
from services.corpus.records import Row


@dataclass(frozen=True, kw_only=True)
class Opened:
    """The passages of one artifact, by id, and the index over exactly those."""

    passages: Mapping[str, Row]
    index: Index


class Shelf:
    """Opened passages by artifact id; threads may share it."""

    def __init__(self, search: Search, *, max_indexes: int) -> None:
        self._search, self._max_indexes = search, max_indexes
        self._opened: OrderedDict[str, Opened] = OrderedDict()
        self._lock = threading.Lock()

    def open(self, artifact: Artifact) -> Opened:
        """Return the passages of an artifact of kind `passages`, ready to be searched.

        Raises:
            Corrupt: bytes do not match their digests.
        """
        with self._lock:
            if artifact.id not in self._opened:
                self._opened[artifact.id] = self._load(artifact)
            self._opened.move_to_end(artifact.id)
            while len(self._opened) > self._max_indexes:
                # Whoever still searches it goes on: an open index needs no file's name.
                self._search.drop(self._opened.popitem(last=False)[0])
            return self._opened[artifact.id]

    def _load(self, artifact: Artifact) -> Opened:
        rows = read_rows(artifact.path("passages.parquet"), PASSAGES)
        index = self._search.index(artifact.id)
        if len(index) != len(rows):
            self._search.drop(artifact.id)
            index = self._search.index(artifact.id)
            index.add(Entry(row["passage_id"], row["text"]) for row in rows)
            metrics.PASSAGES_INDEXED.inc(len(rows))
        return Opened(passages={row["passage_id"]: row for row in rows}, index=index)
