"""Keeps what users ask as `live` at what the registry says, while servers restart and fall behind.

Here because a move of `live` tells the servers once, and one that is down hears nothing of it.
"""

import logging
import threading
from types import TracebackType
from typing import Self

from libs.errors import NotFound, ServiceError
from services.loop.ports import Front
from services.loop.registry import Models

_log = logging.getLogger(__name__)


class Keeper:
    """Looks every few seconds, on a thread of its own, within a `with` block."""

    def __init__(self, front: Front, models: Models, *, period_s: float = 10.0) -> None:
        """Keep `front` at the live one of `models`."""
        self._front = front
        self._models = models
        self._period_s = period_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)
        self._said = ""

    def look(self) -> None:
        """Bring back what fell behind; what cannot be mended now is said once and tried again."""
        try:
            self._front.converge(lambda: self._models.read().live.weights_digest)
            self._said = ""
        except NotFound as nothing:
            _log.debug("no weights are kept: %s", nothing)
        except ServiceError as error:
            if str(error) != self._said:
                _log.warning("not every server answers with the live weights: %s", error)
            self._said = str(error)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended.set()

    def _run(self) -> None:
        while not self._ended.wait(self._period_s):
            self.look()
