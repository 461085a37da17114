"""One training: a causal language model learns a stream of packed sequences, step by step.

AdamW on the mean cross-entropy, float32, deterministic. Its state is weights, optimizer, random
numbers, position and losses; restored from it, a training goes on as if it had never stopped, to
the last bit. What was tried for speed, with numbers, is in `LOG.md`.

Shapes: B sequences, L tokens of each, T = L - 1 predictions, V the vocabulary.
"""

# ruff: noqa: N803, N806 - tensors carry their shape in capitals

import math
from typing import Any

import torch

from libs.errors import InvalidInput
from services.trainer.cross_entropy import mean_cross_entropy
from services.trainer.schedule import Schedule, learning_rate, num_steps

BETAS = (0.9, 0.95)
EPSILON = 1e-8


def fix_arithmetic(num_threads: int, seed: int) -> None:
    """Make what this process computes from now on a function of its inputs alone."""
    torch.set_num_threads(num_threads)
    torch.use_deterministic_algorithms(True)
    # Filling fresh memory helps to find bugs; it costs 3 % and no operation here reads it.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.manual_seed(seed)


class Learner:
    """A model that learns, and how far it is."""

    def __init__(self, model: Any, schedule: Schedule) -> None:
        """Take a transformers causal LM in float32 and begin at position 0.

        Raises:
            InvalidInput: sequences are longer than the model's context.
        """
        _check_context(model, schedule.sequence_length)
        self.model = model.train()
        self.schedule = schedule
        self.position = 0
        """Sequences learned."""
        self.losses: list[float] = []
        """Mean cross-entropy of each step before it was made, nats per token."""
        self._optimizer = torch.optim.AdamW(
            _groups(model, schedule.weight_decay), betas=BETAS, eps=EPSILON, fused=True
        )

    def step(self, tokens_BL: torch.Tensor, num_positions: int) -> float:
        """Learn one batch of a stream of `num_positions` sequences; return its loss.

        Raises:
            InvalidInput: the loss or the gradient is not finite: the training diverged.
        """
        rate = learning_rate(
            self.schedule, len(self.losses), num_steps(num_positions, self.schedule.batch_size)
        )
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        loss = _loss(self.model, tokens_BL)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(
            self.model.parameters(), self.schedule.max_grad_norm or math.inf, foreach=True
        )
        value = loss.item()
        if not (math.isfinite(value) and math.isfinite(norm.item())):
            raise InvalidInput(
                f"the training diverged at step {len(self.losses)}: loss {value}, gradient norm "
                f"{norm.item()}; lower the learning rate, now {self.schedule.learning_rate}"
            )
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self.position += len(tokens_BL)
        self.losses.append(value)
        return value

    def state(self) -> dict[str, Any]:
        """Return everything that decides what comes next; not copied."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "random": torch.get_rng_state(),
            "position": self.position,
            "losses": self.losses,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned; the state belongs to the learner from now on."""
        self.model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["random"])
        self.position = state["position"]
        self.losses = state["losses"]


def _loss(model: Any, tokens_BL: torch.Tensor) -> torch.Tensor:
    """Return the mean of -log P(token | those before it in its sequence), nats.

    The last token is not fed in, so that logits need no shifted copy.
    """
    logits_BTV = model(input_ids=tokens_BL[:, :-1], use_cache=False).logits
    return mean_cross_entropy(logits_BTV.flatten(0, 1), tokens_BL[:, 1:].flatten())


def _groups(model: Any, weight_decay: float) -> list[dict[str, Any]]:
    parameters = [each for each in model.parameters() if each.requires_grad]
    matrices = [each for each in parameters if each.ndim >= 2]
    others = [each for each in parameters if each.ndim < 2]
    groups = [(matrices, weight_decay), (others, 0.0)]
    return [{"params": some, "weight_decay": decay} for some, decay in groups if some]


def _check_context(model: Any, sequence_length: int) -> None:
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if limit and sequence_length > limit:
        raise InvalidInput(
            f"sequence_length must lie within the model's context of {limit}, got {sequence_length}"
        )
