"""The port `Lm` met by Triton: one model for each digest, on one or several replicas.

A call names the weights by digest, goes to the model `lm-<12 digits>` of the next replica, and is
answered with the digest that the model computed of its tensors. A replica that does not hold the
model, or holds other weights, is told to load and is not asked for them before it has; questions
travel in pieces as to the lm host, so the bits are the same.
"""

import logging
from collections.abc import Sequence
from itertools import count
from types import TracebackType
from typing import Self

import numpy as np

from libs import telemetry
from libs.artifacts import Artifacts
from libs.blobs.port import Blobs
from libs.errors import Corrupt, Unavailable
from libs.lm import weights
from libs.lm.port import BATCH_SIZE, PIECE, OptionScore, Question
from libs.lm.triton.replica import Absent, Replica, Tensors
from libs.lm.triton.repository import CANDIDATE, Repository, model_name

_log = logging.getLogger(__name__)


class TritonLm:
    """An `Lm`; for use by any thread."""

    def __init__(
        self,
        addresses: Sequence[str],
        *,
        blobs: Blobs,
        models: Blobs,
        key: str = "",
        timeout_s: float = 120.0,
        max_models: int = 4,
    ) -> None:
        """Talk to the replicas at `addresses`, `host:port` each.

        Args:
            blobs: where checkpoints are registered and stored.
            models: where the replicas' model repository lies.
            key: opens their repository endpoint.
            timeout_s: for one piece, or one load.
            max_models: candidates that a replica holds; the one asked longest ago leaves first.
        """
        self._replicas = [Replica(address, key=key) for address in addresses]
        self._blobs = blobs
        self._artifacts = Artifacts(blobs)
        self._repository = Repository(models)
        self._timeout_s = timeout_s
        self._max_models = max_models
        self._turns = count()

    def load(self, weights_digest: str) -> None:
        """Hold the weights ready on every replica; see `Lm.load`."""
        name = self._publish(weights_digest)
        for replica in self._replicas:
            if self._held(replica, name) != weights_digest:
                self._load(replica, name, weights_digest)

    def log_likelihood(
        self, weights_digest: str, questions: Sequence[Question]
    ) -> list[list[OptionScore]]:
        """Score every option of every question; see `Lm.log_likelihood`."""
        answers: list[list[OptionScore]] = []
        for first in range(0, len(questions), PIECE):
            piece = questions[first : first + PIECE]
            answers += _scores(self._asked(weights_digest, _asking(piece)), piece)
        return answers

    def close(self) -> None:
        """Close the channels."""
        for replica in self._replicas:
            replica.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _asked(self, digest: str, tensors: Tensors) -> Tensors:
        """Return the one answer of a replica that holds the weights; the next if one is down."""
        name = model_name(digest)
        down: list[Unavailable] = []
        for _ in self._replicas:
            replica = self._replicas[next(self._turns) % len(self._replicas)]
            try:
                return self._answer(replica, name, digest, tensors)
            except Unavailable as error:
                _log.warning("%s is passed over: %s", replica.address, error)
                down.append(error)
        raise down[-1]

    def _answer(self, replica: Replica, name: str, digest: str, tensors: Tensors) -> Tensors:
        try:
            answer = self._first(replica, name, tensors)
        except Absent:
            answer = None
        if answer is None or _digest(answer) != digest:
            _log.info("%s does not hold weights %s yet", replica.address, digest[:12])
            self._load(replica, self._publish(digest), digest)
            answer = self._first(replica, name, tensors)
        _check(digest, _digest(answer))
        return answer

    def _first(self, replica: Replica, name: str, tensors: Tensors) -> Tensors:
        answers = replica.infer(name, tensors, timeout_s=self._timeout_s)
        return next(answers)

    def _held(self, replica: Replica, name: str) -> str:
        """Return the digest of the weights that a replica answers with; empty: no such model."""
        try:
            return _digest(self._first(replica, name, {"call": ["describe"]}))
        except Absent:
            return ""

    def _load(self, replica: Replica, name: str, digest: str) -> None:
        """Load a model, and let go of those beyond the limit that were asked longest ago."""
        replica.load(name, timeout_s=self._timeout_s)
        candidates = [each for each in replica.ready() if each.startswith(CANDIDATE)]
        for idle in candidates[: -self._max_models]:
            replica.unload(idle, timeout_s=self._timeout_s)
        held = self._held(replica, name)
        if not held:  # by another client that had more models to ask than the replica holds
            raise Unavailable(f"Triton at {replica.address}: {name} was let go of as it was loaded")
        _check(digest, held)

    def _publish(self, digest: str) -> str:
        """Put the weights into the repository, unless they are there; return the model's name."""
        checkpoint = self._artifacts.open(weights.find(self._blobs, digest), kind="checkpoint")
        files = {file.name: checkpoint.path(file.name) for file in checkpoint.manifest.files}
        name = model_name(digest)
        self._repository.publish(name, digest, files)
        return name


def _asking(questions: Sequence[Question]) -> Tensors:
    options = [option for question in questions for option in question.options]
    sizes = np.array([len(question.options) for question in questions], dtype=np.int32)
    asking = {
        "call": ["score"],
        "stems": [question.stem for question in questions],
        "num_options": sizes,
        "batch_size": np.array([BATCH_SIZE], dtype=np.int32),
    }
    # Triton takes no tensor of no elements.
    return asking | ({"options": options} if options else {})


def _scores(answer: Tensors, questions: Sequence[Question]) -> list[list[OptionScore]]:
    expected = sum(len(question.options) for question in questions)
    found = len(answer["log_likelihoods"])
    if found != expected or len(answer["num_stem_tokens_cut"]) != len(questions):
        raise Corrupt(f"expected the scores of {expected} options, got {found}")
    scores = zip(answer["log_likelihoods"].tolist(), answer["num_tokens"].tolist(), strict=True)
    return [
        [OptionScore(*next(scores), cut) for _ in question.options]
        for question, cut in zip(questions, answer["num_stem_tokens_cut"].tolist(), strict=True)
    ]


def _digest(answer: Tensors) -> str:
    (digest,) = answer["weights_digest"]
    return str(digest)


def _check(expected: str, actual: str) -> None:
    if actual != expected:
        telemetry.WEIGHTS_MISMATCHES.inc()
        raise Corrupt(f"expected an answer of weights {expected}, got one of {actual or 'none'}")
