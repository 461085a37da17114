"""Several Triton servers as one: whoever holds the weights answers, whoever is behind catches up.

A replica is behind when it does not hold a model, or answers with other weights than were named. It
is visible (metric and log), told to load, and not asked for those weights before it holds them.
"""

import logging
from collections.abc import Generator, Sequence
from contextlib import closing
from itertools import count
from typing import NamedTuple

from libs.errors import Corrupt, ServiceError, Unavailable
from libs.lm.pieces import check_digest
from libs.lm.publish import Publisher
from libs.lm.triton import metrics
from libs.lm.triton.replica import Absent, Replica, Tensors, digest_of
from libs.lm.triton.repository import model_name

_log = logging.getLogger(__name__)


class _Begun(NamedTuple):
    """The first answer to a call, its digest checked, and those to come."""

    first: Tensors
    rest: Generator[Tensors, None, None]


class Fleet:
    """The replicas that a publisher publishes to, asked in turn; for use by any thread."""

    def __init__(self, publisher: Publisher, *, timeout_s: float) -> None:
        """Ask the replicas of `publisher`; `timeout_s` is for one call."""
        self._publisher = publisher
        self._replicas = publisher.replicas
        self._timeout_s = timeout_s
        self._turns = count()

    def hold(self, digest: str) -> None:
        """Have every replica that answers hold a candidate.

        Raises:
            NotFound, Corrupt: as `Publisher.hold`.
            Unavailable: no replica answers.
        """
        down: list[Unavailable] = []
        for replica in self._replicas:
            try:
                held = replica.weights_digest(model_name(digest), timeout_s=self._timeout_s)
                if held != digest:
                    self._publisher.hold(replica, digest)
            except Unavailable as error:
                _log.warning("%s does not hold %s: %s", replica.address, digest[:12], error)
                down.append(error)
        if len(down) == len(self._replicas):
            raise down[-1]

    def answer(self, digest: str, tensors: Tensors) -> Tensors:
        """Return the one answer to a call. Raises as `answers`."""
        answers = list(self.answers(digest, tensors))
        if len(answers) != 1:
            raise Corrupt(f"expected one answer of weights {digest}, got {len(answers)}")
        return answers[0]

    def answers(self, digest: str, tensors: Tensors) -> Generator[Tensors, None, None]:
        """Yield the answers of one replica to a call; closing the generator cancels it.

        Raises:
            NotFound: no registered checkpoint has the digest.
            Corrupt: the stored weights, or those of an answer, have another digest.
            Unavailable: no replica answers; or the one that did has gone, after its first answer.
        """
        first, rest = self._begun(digest, tensors)
        with closing(rest):
            yield first
            for answer in rest:
                check_digest(digest, digest_of(answer))
                yield answer

    def _begun(self, digest: str, tensors: Tensors) -> _Begun:
        """Return the answers of a replica that holds the weights, or else of one that loads them.

        Those that are behind are told to load meanwhile, and are not asked before they have.
        """
        name = model_name(digest)
        behind: list[Replica] = []
        down: list[Unavailable] = []
        for replica in self._in_turn():
            try:
                begun = self._tried(replica, name, digest, tensors)
            except Unavailable as error:
                _passed_over(replica, "unavailable", error)
                down.append(error)
                continue
            if begun:
                self._catch_up(behind, digest)
                return begun
            behind.append(replica)
        return self._begun_after_load(behind, down, digest, tensors)

    def _begun_after_load(
        self, behind: list[Replica], down: list[Unavailable], digest: str, tensors: Tensors
    ) -> _Begun:
        for replica in behind:
            _log.info("%s does not hold weights %s yet", replica.address, digest[:12])
            try:
                self._publisher.hold(replica, digest)
                begun = self._tried(replica, model_name(digest), digest, tensors)
            except Unavailable as error:
                _passed_over(replica, "unavailable", error)
                down.append(error)
                continue
            if begun:
                return begun
            down.append(Unavailable(f"Triton at {replica.address} let go of {digest[:12]} at once"))
        raise down[-1]

    def _tried(self, replica: Replica, name: str, digest: str, tensors: Tensors) -> _Begun | None:
        """Ask a replica; None if it does not hold the weights."""
        answers = replica.infer(name, tensors, timeout_s=self._timeout_s)
        try:
            first = next(answers, None)
        except Absent:
            return None
        if first is None:
            raise Unavailable(f"Triton at {replica.address}: a call ended without an answer")
        if digest_of(first) == digest:
            return _Begun(first, answers)
        answers.close()
        return None

    def _catch_up(self, behind: Sequence[Replica], digest: str) -> None:
        for replica in behind:
            metrics.BEHIND.labels(replica.address).set(1)
            _passed_over(replica, "behind", f"it does not hold {digest[:12]}")
            try:
                self._publisher.begin_hold(replica, digest)
            except ServiceError as error:  # the call itself is answered by another
                _log.warning("%s is not told to load: %s", replica.address, error)

    def _in_turn(self) -> list[Replica]:
        first = next(self._turns) % len(self._replicas)
        return [*self._replicas[first:], *self._replicas[:first]]


def _passed_over(replica: Replica, why: str, cause: object) -> None:
    metrics.PASSED_OVER.labels(replica.address, why).inc()
    _log.warning("%s is passed over: %s", replica.address, cause)
