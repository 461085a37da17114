"""The training loop beside transformers' Trainer: same weights, packed data, optimizer, threads.

Ours is what the service runs: a child process fed through a pipe, deterministic, snapshots taken.
The Trainer runs in this process with its defaults, but for the data's order. Both report the loss
of every step; the clock runs from the end of the first step to the end of the last.
"""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import (
    AutoModelForCausalLM,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)
from transformers.utils import logging

from services.trainer import running
from services.trainer.learning import BETAS, EPSILON
from services.trainer.ports import Batch
from services.trainer.schedule import Schedule, learning_rate
from tests.bench import environment, limits, tiny
from tests.bench.measure import interleaved
from tests.bench.table import Row

_BATCH = 32
_STEP_TOKENS = _BATCH * tiny.CONTEXT
_CLOSE = 2e-3
"""Nats that the losses of a step may differ by: the sums are not made in the same order."""


def run(quick: bool) -> list[Row]:
    num_steps, repeats = (6, 2) if quick else (24, 5)
    torch.set_num_threads(environment.num_threads())
    logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as name:
        sides = _Sides(Path(name), num_steps)
        figures = interleaved({"ours": sides.ours, "peer": sides.peer}, repeats=repeats)
        far = np.abs(np.subtract(sides.losses["ours"], sides.losses["peer"])).max()
        multiplied = tiny.num_multiplied(sides.model())
    return [
        Row(
            benchmark="training",
            unit="tokens/s",
            peer_name="transformers `Trainer`, fused AdamW",
            limit=limits.exactly(limits.torch_flops() / (6 * multiplied)),
            limit_name="its products of matrices alone",
            goal="not slower, losses of all steps agree",
            met=bool(figures["ours"].median >= figures["peer"].median and far <= _CLOSE),
            threads=environment.num_threads(),
            notes=(
                f"{num_steps} steps of {_BATCH} x {tiny.CONTEXT} tokens, {multiplied / 1e6:.1f} M "
                f"parameters; losses from {sides.losses['ours'][0]:.3f} to "
                f"{sides.losses['ours'][-1]:.3f}, those of a step differ by {far:.1e} at most"
            ),
            **figures,
        )
    ]


class _Sides:
    """Both trainings, from the same folder and the same tokens."""

    def __init__(self, folder: Path, num_steps: int) -> None:
        self._folder, self._num_steps = folder, num_steps
        self._tokens = _tokens(num_steps * _BATCH)
        self._schedule = Schedule(
            batch_size=_BATCH,
            sequence_length=tiny.CONTEXT,
            learning_rate=1e-3,
            warmup_steps=num_steps // 10,
            weight_decay=0.1,
            max_grad_norm=1.0,
            num_threads=environment.num_threads(),
        )
        self.losses: dict[str, list[float]] = {}
        tiny.model().save_pretrained(folder / "begin")

    def model(self) -> Any:
        return AutoModelForCausalLM.from_pretrained(
            str(self._folder / "begin"), dtype=torch.float32
        ).train()

    def ours(self) -> float:
        """Train once; return tokens a second."""
        with tempfile.TemporaryDirectory(dir=self._folder) as name:
            out, scratch = Path(name) / "out", Path(name) / "scratch"
            out.mkdir()
            scratch.mkdir()
            job = running.Job(
                schedule=self._schedule, begin=self._folder / "begin", out=out, scratch=scratch
            )
            times: list[float] = []
            trained = running.train(
                job,
                _Packed(self._tokens),
                "plan",
                tick=lambda: None,
                stepped=lambda _step: times.append(time.perf_counter()),
            )
        self.losses["ours"] = trained.losses
        return self._rate(times)

    def peer(self) -> float:
        """Train once; return tokens a second."""
        model, clock = self.model(), _Clock()
        with tempfile.TemporaryDirectory(dir=self._folder) as out:
            trainer = Trainer(
                model=model,
                args=_arguments(out),
                train_dataset=[{"input_ids": row, "labels": row} for row in self._tokens],
                optimizers=_optimizer(model, self._schedule, self._num_steps),
                callbacks=[clock],
            )
            trainer.remove_callback(PrinterCallback)
            trainer.train()
        history = trainer.state.log_history
        self.losses["peer"] = [entry["loss"] for entry in history if "loss" in entry]
        return self._rate(clock.times)

    def _rate(self, times: list[float]) -> float:
        assert len(times) == self._num_steps, f"expected {self._num_steps} steps, got {len(times)}"
        return (len(times) - 1) * _STEP_TOKENS / (times[-1] - times[0])


class _Clock(TrainerCallback):
    def __init__(self) -> None:
        self.times: list[float] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.times.append(time.perf_counter())


class _Packed:
    """`Batches` from memory."""

    def __init__(self, tokens: torch.Tensor) -> None:
        self._tokens = tokens.numpy().astype(np.uint32)

    def batches(
        self, plan_id: str, *, sequence_length: int, batch_size: int, from_position: int
    ) -> Iterator[Batch]:
        for first in range(from_position, len(self._tokens), batch_size):
            yield Batch(first, self._tokens[first : first + batch_size], len(self._tokens))


def _arguments(out: str) -> TrainingArguments:
    return TrainingArguments(
        output_dir=out,
        per_device_train_batch_size=_BATCH,
        num_train_epochs=1,
        max_grad_norm=1.0,
        train_sampling_strategy="sequential",
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
    )


def _optimizer(model: Any, schedule: Schedule, num_steps: int) -> tuple[Any, Any]:
    """Return the optimizer and the rates of our schedule, for the Trainer."""
    matrices = [each for each in model.parameters() if each.ndim >= 2]
    gains = [each for each in model.parameters() if each.ndim < 2]
    optimizer = torch.optim.AdamW(
        [
            {"params": matrices, "weight_decay": schedule.weight_decay},
            {"params": gains, "weight_decay": 0.0},
        ],
        lr=1.0,
        betas=BETAS,
        eps=EPSILON,
        fused=True,
    )
    rates = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: learning_rate(schedule, min(step, num_steps - 1), num_steps)
    )
    return optimizer, rates


def _tokens(num_sequences: int) -> torch.Tensor:
    """Return sequences that can be learned a little: words by Zipf's law, each often followed by
    the same other, shape (num_sequences, context)."""
    rng = np.random.default_rng(0)
    shape = num_sequences, tiny.CONTEXT
    tokens = np.minimum(rng.zipf(1.3, shape), tiny.VOCABULARY - 1)
    follows = rng.permutation(tiny.VOCABULARY)
    for column in range(1, tiny.CONTEXT):
        follow = rng.random(num_sequences) < 0.5
        tokens[follow, column] = follows[tokens[follow, column - 1]]
    return torch.from_numpy(tokens)
