"""A training from end to end: a child learns, its parent feeds it and hears how far it is.

The parent reads the stream and stays a few batches ahead; the child steps, takes snapshots and at
the end writes the checkpoint's files. Killed at any time, either or both, the same call goes on
from the last snapshot and ends with the same bits.
"""

# Torch is imported in functions that run in the child: the service itself never loads it.

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from libs.errors import Conflict, InvalidInput
from services.trainer.child import Child, Mailbox
from services.trainer.ports import Batch, Batches
from services.trainer.schedule import Schedule

if TYPE_CHECKING:
    from services.trainer.learning import Learner

_AHEAD = 4
"""Batches that wait in the child's mailbox, so that it never waits for the stream."""
_SNAPSHOT_SHARE = 0.05
"""Of the time that snapshots may take; large models are saved less often than asked for."""


@dataclass(frozen=True, kw_only=True)
class Weights:
    """What is known of a model's weights."""

    digest: str
    num_parameters: int


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a child is to do; picklable."""

    schedule: Schedule
    begin: Path
    """Folder to begin from: a checkpoint, or with `config_json` a tokenizer."""
    config_json: str = ""
    """Configuration of new weights; empty: those in `begin`."""
    out: Path
    """Empty folder for the checkpoint's files."""
    scratch: Path
    """Folder for snapshots, which survives."""
    snapshot_s: float = 10.0
    """Seconds between snapshots, at least."""


class Ready(NamedTuple):
    """The child holds the model."""

    position: int
    """Sequences learned before, when it goes on from a snapshot."""


class Stepped(NamedTuple):
    """The child made a step."""

    step: int
    """From 0."""
    loss: float
    """Nats per token."""
    position: int
    """Sequences learned, those of this step included."""
    num_positions: int


class Trained(NamedTuple):
    """The child has written the checkpoint."""

    weights: Weights
    losses: list[float]
    """Nats per token, one a step."""
    num_positions: int


def train(
    job: Job,
    batches: Batches,
    plan_id: str,
    *,
    tick: Callable[[], None],
    stepped: Callable[[Stepped], None],
) -> Trained:
    """Run a training, or go on with one that was killed.

    Args:
        job: what to train.
        batches: where the plan's sequences come from.
        plan_id: which plan.
        tick: called a few times a second; what it raises ends the child.
        stepped: called after every step of this attempt; so does what it raises.

    Raises:
        InvalidInput: the plan is shorter than a sequence, the training diverged, or the
            configuration or the sequences' length do not fit the model.
        Corrupt: the weights to begin from are broken.
        Conflict: the stream is not the one that the snapshot was taken of.
        Unavailable, DeadlineExceeded: the stream or the child broke off; trying again goes on.
    """
    with Child(learn, job) as child:
        ready: Ready = child.receive(tick)
        stream = batches.batches(
            plan_id,
            sequence_length=job.schedule.sequence_length,
            batch_size=job.schedule.batch_size,
            from_position=ready.position,
        )
        with closing(stream):
            for _ in range(_AHEAD):
                child.send(next(stream, None))
            while isinstance(message := child.receive(tick), Stepped):
                stepped(message)
                child.send(next(stream, None))
        assert isinstance(message, Trained)
        return message


def inspect(folder: Path, *, tick: Callable[[], None]) -> Weights:
    """Load a checkpoint's folder in a child and say what it holds.

    Raises:
        InvalidInput: no causal model, no tokenizer, or one with more ids than the model knows.
        Corrupt: weights are truncated, or do not fit the configuration.
    """
    with Child(_inspect, folder) as child:
        weights: Weights = child.receive(tick)
        return weights


def learn(job: Job, mailbox: Mailbox) -> None:
    """Train in the child; `train` says what is raised."""
    from services.trainer import checkpoint

    learner, num_positions = _begun(job)
    mailbox.send(Ready(learner.position))
    snapshots = _Snapshots(job)
    for batch in _received(mailbox):
        _check_batch(batch, learner.position, num_positions or batch.num_positions)
        num_positions = batch.num_positions
        loss = _step(learner, batch)
        snapshots.take(learner, num_positions)
        mailbox.send(Stepped(len(learner.losses) - 1, loss, learner.position, num_positions))
    if not num_positions:
        raise InvalidInput(
            f"the plan must hold a sequence of {job.schedule.sequence_length} tokens, it is shorter"
        )
    if learner.position != num_positions:
        raise Conflict(
            f"the stream must give {num_positions} sequences, it ended at {learner.position}"
        )
    weights = checkpoint.save(learner.model, job.out)
    mailbox.send(Trained(weights, learner.losses, num_positions))


def _begun(job: Job) -> "tuple[Learner, int]":
    """Return the learner and the length of its stream, 0 while unknown."""
    from services.trainer import checkpoint, snapshot
    from services.trainer.learning import Learner, fix_arithmetic

    fix_arithmetic(job.schedule.num_threads, job.schedule.seed)
    model = (
        checkpoint.new_model(job.config_json, job.begin)
        if job.config_json
        else checkpoint.stored_model(job.begin)
    )
    learner = Learner(model, job.schedule)
    state = snapshot.load(job.scratch)
    if state is None:
        return learner, 0
    learner.restore(state)
    return learner, state["num_positions"]


def _received(mailbox: Mailbox) -> Iterator[Batch]:
    while (batch := mailbox.receive()) is not None:
        yield batch


def _step(learner: "Learner", batch: Batch) -> float:
    import torch

    tokens = torch.from_numpy(batch.tokens.astype(np.int64))
    return learner.step(tokens, batch.num_positions)


def _check_batch(batch: Batch, position: int, num_positions: int) -> None:
    if (batch.position, batch.num_positions) != (position, num_positions):
        raise Conflict(
            f"the stream must go on at sequence {position} of {num_positions}, got "
            f"{batch.position} of {batch.num_positions}"
        )


class _Snapshots:
    """Takes one when it is time."""

    def __init__(self, job: Job) -> None:
        self._folder, self._every_s = job.scratch, job.snapshot_s
        self._taken = time.monotonic()

    def take(self, learner: "Learner", num_positions: int) -> None:
        from services.trainer import snapshot

        begin = time.monotonic()
        if begin - self._taken < self._every_s:
            return
        snapshot.save(self._folder, learner.state() | {"num_positions": num_positions})
        self._taken = time.monotonic()
        if self._every_s:
            self._every_s = max(self._every_s, (self._taken - begin) / _SNAPSHOT_SHARE)


def _inspect(folder: Path, mailbox: Mailbox) -> None:
    from services.trainer import checkpoint

    mailbox.send(checkpoint.inspect(folder))
