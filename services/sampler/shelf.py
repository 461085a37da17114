"""Keeps the plans that were streamed last open, so that a reader who resumes waits for nothing."""

import threading
from collections import OrderedDict

from libs.artifacts import Artifacts
from libs.formats import read_json
from services.sampler.stream import PackedStream, open_stream
from services.sampler.tokens import open_tokens

_KEPT = 8


class Shelf:
    """Opened plans by artifact id; safe for many threads."""

    def __init__(self, artifacts: Artifacts) -> None:
        self._artifacts = artifacts
        self._open: OrderedDict[str, PackedStream] = OrderedDict()
        self._lock = threading.Lock()

    def open(self, plan_id: str) -> PackedStream:
        """Return the stream of a plan.

        Raises:
            NotFound: there is no such plan, or not what it draws from.
            InvalidInput: the artifact is no plan.
            Conflict: the plan is starved.
            Corrupt: bytes do not match their digests.
        """
        with self._lock:
            if plan_id not in self._open:
                self._open[plan_id] = self._load(plan_id)
            self._open.move_to_end(plan_id)
            while len(self._open) > _KEPT:
                self._open.popitem(last=False)
            return self._open[plan_id]

    def _load(self, plan_id: str) -> PackedStream:
        plan = self._artifacts.open(plan_id, kind="plan")
        described = read_json(plan.path("plan.json"))
        target = open_tokens(self._artifacts.open(described["tokens_id"], kind="tokens"))
        replay_id = described["replay_tokens_id"]
        replay = open_tokens(self._artifacts.open(replay_id, kind="tokens")) if replay_id else None
        return open_stream(plan, target, replay)
