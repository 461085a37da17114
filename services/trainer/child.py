"""Runs a function in a process of its own that ends with its parent, whatever ends that.

Training starves threads and may be killed for memory; the service's leases and calls must not
notice. Processes come from a fork server that has torch and transformers loaded, so that one starts
in a tenth of a second. A child ends when the pipe to its parent closes: a parent killed by
`kill -9` leaves none behind.
"""

import logging
import multiprocessing
import os
import queue
import signal
import threading
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, NamedTuple, Self

from libs.errors import ServiceError, Unavailable, scarce

_PRELOAD = ["services.trainer.checkpoint", "transformers.models.llama.modeling_llama"]
_TICK_S = 0.25
_PATIENCE_S = 5.0
_log = logging.getLogger(__name__)


class _Failed(NamedTuple):
    """Why a child ended."""

    error: ServiceError | None
    """One of the eight, None for a bug."""
    traceback: str


class CrashError(RuntimeError):
    """A bug in a child; the message is its traceback."""


class Mailbox:
    """The child's end: what the parent sends, in order."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._received: queue.SimpleQueue[Any] = queue.SimpleQueue()
        threading.Thread(target=self._listen, name="parent", daemon=True).start()

    def receive(self) -> Any:
        """Wait for the next message."""
        return self._received.get()

    def send(self, message: Any) -> None:
        """Send a message to the parent."""
        self._connection.send(message)

    def _listen(self) -> None:
        while True:
            try:
                self._received.put(self._connection.recv())
            except (EOFError, OSError):
                os._exit(1)  # the parent is gone: nobody wants the result


class Child:
    """The parent's end. Leaving the block ends the process."""

    def __init__(self, target: Callable[[Any, Mailbox], None], job: Any) -> None:
        """Prepare to run `target(job, mailbox)`; both must be picklable."""
        self._connection, theirs = multiprocessing.Pipe()
        self._process = _context().Process(target=_main, args=(theirs, target, job), daemon=True)
        self._theirs = theirs

    def __enter__(self) -> Self:
        self._process.start()
        self._theirs.close()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.terminate()
        self._process.join(_PATIENCE_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._process.close()
        self._connection.close()

    def send(self, message: Any) -> None:
        """Send a message; one to a child that has ended is lost, `receive` says why it ended."""
        try:
            self._connection.send(message)
        except OSError:
            _log.info("a message to a child that has ended is lost")

    def receive(self, tick: Callable[[], None]) -> Any:
        """Wait for the child's next message, calling `tick` a few times a second.

        Raises:
            ServiceError: what the child raised.
            CrashError: a bug in the child.
            Unavailable: the child was killed; a new one may go on from its snapshot.
        """
        tick()
        while not self._connection.poll(_TICK_S):
            tick()
        try:
            message = self._connection.recv()
        except (EOFError, OSError):
            self._process.join(_PATIENCE_S)
            raise Unavailable(
                f"the process that computes ended with exit code {self._process.exitcode} before "
                "its result; if it was killed for memory, give it more or a smaller batch"
            ) from None
        if isinstance(message, _Failed):
            raise message.error or CrashError(message.traceback)
        return message


def warm_up() -> None:
    """Start the fork server, which then loads torch while the service does other things."""
    _context()
    from multiprocessing import forkserver

    forkserver.ensure_running()


def _context() -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOAD)
    return context


def _main(connection: Connection, target: Callable[[Any, Mailbox], None], job: Any) -> None:
    # Control-C at a terminal reaches every process of it: the parent decides what ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    mailbox = Mailbox(connection)
    try:
        target(job, mailbox)
    except ServiceError as error:
        mailbox.send(_Failed(error, ""))
    except OSError as error:
        mailbox.send(_Failed(scarce(error), traceback.format_exc()))
    except Exception:  # noqa: BLE001 - the process edge: the parent raises and logs it
        mailbox.send(_Failed(None, traceback.format_exc()))
