"""Holds a few models by the digest of their weights and scores with them, one forward at a time.

All arithmetic runs on one thread of its own with a fixed number of torch threads and deterministic
algorithms, so what other callers do at the time changes no bit of an answer. Weights are digested
after they are loaded: a store that rotted is an error, never a score.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from libs import telemetry
from libs.artifacts import Artifacts
from libs.blobs.port import Blobs
from libs.errors import Corrupt, DeadlineExceeded, InvalidInput
from libs.lm import scoring, weights
from libs.lm.digest import weights_digest
from libs.lm.folder import load_model, load_tokenizer
from libs.lm.port import BATCH_SIZE, OptionScore, Question

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Held:
    """One model in memory, its arithmetic in float32 whatever its weights are stored in."""

    model: Any
    tokenizer: Any
    num_parameters: int


class Host:
    """Models by weights digest; every call may come from any thread and waits for its turn."""

    def __init__(
        self, blobs: Blobs, artifacts: Artifacts, *, num_threads: int = 2, max_models: int = 4
    ) -> None:
        self._blobs = blobs
        self._artifacts = artifacts
        self._max_models = max_models
        self._held: OrderedDict[str, Held] = OrderedDict()
        # A copy for readers on other threads.
        self._digests: tuple[str, ...] = ()
        # One thread: a queue of forwards, and the thread count of OpenMP is the thread's own.
        self._thread = ThreadPoolExecutor(
            1, thread_name_prefix="lm", initializer=_prepare_thread, initargs=(num_threads,)
        )

    def load(self, digest: str, *, timeout_s: float | None = None) -> Held:
        """Hold the weights, loading and digesting them if they are not held.

        Raises:
            NotFound: no registered checkpoint has the digest.
            Corrupt: the stored weights have another digest, or are truncated.
            DeadlineExceeded: it was not loaded within `timeout_s`.
        """
        return self._run(lambda: self._load(digest), f"loading {digest[:12]}", timeout_s)

    def log_likelihood(
        self,
        digest: str,
        questions: Sequence[Question],
        *,
        batch_size: int = BATCH_SIZE,
        timeout_s: float | None = None,
        is_wanted: Callable[[], bool] = lambda: True,
    ) -> list[list[OptionScore]]:
        """Score every option, in fixed batches in the order given.

        `is_wanted` is asked between batches; once it says no, the rest is not computed.
        Raises as `load`, and `InvalidInput` for a question that cannot be scored.
        """
        return self._run(
            lambda: self._score(digest, questions, batch_size, is_wanted),
            f"scoring {len(questions)} questions",
            timeout_s,
        )

    def digests(self) -> list[str]:
        """Return the digests of the weights held, most recently used first."""
        return list(self._digests)

    def close(self) -> None:
        """Stop after the forward under way; what waits is dropped."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _run(self, work: Callable[[], T], what: str, timeout_s: float | None) -> T:
        future: Future[T] = self._thread.submit(work)
        try:
            return future.result(timeout_s)
        except FutureTimeout:
            future.cancel()
            raise DeadlineExceeded(f"{what} did not end within {timeout_s:.1f} s") from None

    def _load(self, digest: str) -> Held:
        if digest not in self._held:
            # Room is made first, so that never more than `max_models` are in memory.
            while len(self._held) >= self._max_models:
                self._held.popitem(last=False)
            self._held[digest] = self._read(digest)
        self._held.move_to_end(digest)
        self._digests = tuple(reversed(self._held))
        return self._held[digest]

    def _read(self, digest: str) -> Held:
        artifact = self._artifacts.open(weights.find(self._blobs, digest), kind="checkpoint")
        folder = artifact.folder()
        model = load_model(folder)
        if (actual := weights_digest(model)) != digest:
            telemetry.WEIGHTS_MISMATCHES.inc()
            raise Corrupt(f"checkpoint {artifact.id} must hold weights {digest}, holds {actual}")
        return Held(
            model=model.float(),
            tokenizer=load_tokenizer(folder),
            num_parameters=sum(each.numel() for each in model.parameters()),
        )

    def _score(
        self,
        digest: str,
        questions: Sequence[Question],
        batch_size: int,
        is_wanted: Callable[[], bool],
    ) -> list[list[OptionScore]]:
        held = self._load(digest)
        answers: list[list[OptionScore]] = []
        try:
            for scores in scoring.score(held.model, held.tokenizer, questions, batch_size):
                cut = scores.num_stem_tokens_cut
                answers.append([OptionScore(*option, cut) for option in scores.options])
                if not is_wanted():
                    raise DeadlineExceeded(f"the caller left after {len(answers)} questions")
        except scoring.UnscorableError as error:
            raise InvalidInput(str(error)) from error
        return answers


def _prepare_thread(num_threads: int) -> None:
    torch.set_num_threads(num_threads)
    torch.use_deterministic_algorithms(True)
