"""Holds a few models by the digest of their weights and computes with them, one item at a time.

All arithmetic runs on one thread of its own with a fixed number of torch threads and deterministic
algorithms, so what other callers do at the time changes no bit of an answer. Weights are digested
after they are loaded: a store that rotted is an error, never a score.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import Any, TypeVar

import torch

from libs import telemetry
from libs.artifacts import Artifacts
from libs.blobs.port import Blobs
from libs.errors import Corrupt, DeadlineExceeded, InvalidInput
from libs.lm import generation, metrics, scoring, states, weights
from libs.lm.digest import weights_digest
from libs.lm.folder import load_model, load_tokenizer
from libs.lm.port import BATCH_SIZE, OptionScore, Question
from libs.lm.prompts import Generated, Prompt, Sampling, UnusableError
from libs.lm.turns import Turns

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Held:
    """One model in memory, its arithmetic in float32 whatever its weights are stored in."""

    model: Any
    tokenizer: Any
    num_parameters: int


@dataclass(frozen=True, kw_only=True)
class Call:
    """How a call is answered: its batches, its time, and whether anybody waits still."""

    batch_size: int = BATCH_SIZE
    timeout_s: float | None = None
    """For all of it, from its arrival on; None: forever."""
    is_wanted: Callable[[], bool] = field(default=lambda: True)
    """Asked between questions, texts and tokens; once it says no, the rest is not computed."""


class Host:
    """Models by weights digest; every call may come from any thread and waits for its turns.

    A model that leaves while a call computes with it stays in memory until that call has ended.
    """

    def __init__(
        self, blobs: Blobs, artifacts: Artifacts, *, num_threads: int = 2, max_models: int = 4
    ) -> None:
        self._blobs = blobs
        self._artifacts = artifacts
        self._max_models = max_models
        self._held: OrderedDict[str, Held] = OrderedDict()
        # A copy for readers on other threads.
        self._digests: tuple[str, ...] = ()
        # The thread count of OpenMP is the thread's own.
        self._turns = Turns(partial(_prepare_thread, num_threads))

    def load(self, digest: str, *, timeout_s: float | None = None) -> Held:
        """Hold the weights, loading and digesting them if they are not held.

        Raises:
            NotFound: no registered checkpoint has the digest.
            Corrupt: the stored weights have another digest, or are truncated.
            DeadlineExceeded: it was not loaded within `timeout_s`.
        """
        return self._turns.run(lambda: self._load(digest), f"loading {digest[:12]}", timeout_s)

    def log_likelihood(
        self, digest: str, questions: Sequence[Question], call: Call, *, prompt: Any = None
    ) -> list[list[OptionScore]]:
        """Score every option, in fixed batches in the order given; see `GenerativeLm`.

        Raises as `load`, and `InvalidInput` for a question that cannot be scored.
        """
        scores = self._scores(digest, questions, call, prompt)
        return self._all(scores, f"scoring {len(questions)} questions", call)

    def generate(
        self, digest: str, prompts: Sequence[Prompt], sampling: Sampling, call: Call
    ) -> Iterator[list[Generated]]:
        """Yield what is generated, turn by turn; see `GenerativeLm`. Raises as it says."""
        pieces = self._pieces(digest, prompts, sampling, call)
        return self._turns.share(pieces, f"generating for {len(prompts)} prompts", call.timeout_s)

    def embed(
        self, digest: str, texts: Sequence[str], call: Call, *, normalize: bool = False
    ) -> list[Any]:
        """Return float32 (D) for each text; see `GenerativeLm`. Raises as it says."""
        embed = partial(states.embed, normalize=normalize)
        vectors = self._states("Embed", digest, embed, texts, call)
        return self._all(vectors, f"embedding {len(texts)} texts", call)

    def hidden_states(
        self,
        digest: str,
        texts: Sequence[str],
        call: Call,
        *,
        layers: Sequence[int],
        last_only: bool = False,
    ) -> Iterator[list[Any]]:
        """Yield float32 (L, T, D) for each text, turn by turn; see `GenerativeLm`."""
        show = partial(states.hidden_states, layers=layers, last_only=last_only)
        found = self._states("ReadHiddenStates", digest, show, texts, call)
        return self._turns.share(found, f"reading {len(texts)} texts", call.timeout_s)

    def digests(self) -> list[str]:
        """Return the digests of the weights held, most recently used first."""
        return list(self._digests)

    def close(self) -> None:
        """Stop after the turn under way; what waits is dropped."""
        self._turns.close()

    def _all(self, items: Iterator[T], what: str, call: Call) -> list[T]:
        return list(chain.from_iterable(self._turns.share(items, what, call.timeout_s)))

    def _load(self, digest: str) -> Held:
        if digest not in self._held:
            # Room is made first, so that never more than `max_models` are held.
            while len(self._held) >= self._max_models:
                self._held.popitem(last=False)
            self._held[digest] = self._read(digest)
        self._held.move_to_end(digest)
        self._digests = tuple(reversed(self._held))
        metrics.MODELS_HELD.set(len(self._held))
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

    # What follows runs on the thread of the arithmetic, where the models are.

    def _scores(
        self, digest: str, questions: Sequence[Question], call: Call, prompt: Any
    ) -> Iterator[list[OptionScore]]:
        held = self._load(digest)
        found = scoring.score(held.model, held.tokenizer, questions, call.batch_size, prompt)
        with metrics.counted("ScoreOptions") as count:
            for scores in _wanted(found, call.is_wanted, "questions"):
                cut = scores.num_stem_tokens_cut
                metrics.OPTIONS_SCORED.inc(len(scores.options))
                count(scores.num_stem_tokens + sum(each.num_tokens for each in scores.options))
                yield [OptionScore(*option, cut) for option in scores.options]

    def _pieces(
        self, digest: str, prompts: Sequence[Prompt], sampling: Sampling, call: Call
    ) -> Iterator[Generated]:
        held = self._load(digest)
        found = generation.generate(
            held.model,
            held.tokenizer,
            prompts,
            sampling,
            batch_size=call.batch_size,
            is_wanted=call.is_wanted,
        )
        read: set[int] = set()
        with metrics.counted("Generate") as count:
            for piece in _usable(found):
                new = piece.token_ids and piece.index not in read
                count(len(piece.token_ids) + (piece.num_prompt_tokens if new else 0))
                read.add(piece.index)
                yield piece

    def _states(
        self,
        method: str,
        digest: str,
        compute: Callable[..., Iterator[states.States]],
        texts: Sequence[str],
        call: Call,
    ) -> Iterator[Any]:
        held = self._load(digest)
        found = compute(held.model, held.tokenizer, texts, batch_size=call.batch_size)
        with metrics.counted(method) as count:
            for values, num_tokens in _wanted(found, call.is_wanted, "texts"):
                count(num_tokens)
                yield values.numpy()


def _wanted(items: Iterator[T], is_wanted: Callable[[], bool], what: str) -> Iterator[T]:
    """Yield usable items until the caller has left. Raises `DeadlineExceeded` then."""
    for number, item in enumerate(_usable(items), start=1):
        yield item
        if not is_wanted():
            raise DeadlineExceeded(f"the caller left after {number} {what}")


def _usable(items: Iterator[T]) -> Iterator[T]:
    try:
        yield from items
    except UnusableError as error:
        raise InvalidInput(str(error)) from error


def _prepare_thread(num_threads: int) -> None:
    torch.set_num_threads(num_threads)
    torch.use_deterministic_algorithms(True)
