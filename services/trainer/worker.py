"""The trainer's steps: bus -> core -> bus."""

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from athanor.trainer.v1 import events_pb2, trainer_pb2

from libs import formats
from libs.artifacts import Artifact, Artifacts
from libs.blobs.port import Blobs
from libs.bus import events
from libs.bus.port import Bus
from libs.lm import weights
from libs.operations.record import Result
from libs.operations.step import Made, Step, Work
from services.trainer import (
    configuration,
    foreign,
    metrics,
    report,
    running,
    tokenizer,
    topics,
)
from services.trainer.admission import check_plan, tokenizer_sha256
from services.trainer.ports import Batches
from services.trainer.running import Job, Stepped
from services.trainer.schedule import Schedule

_VERSION = 1
_EVENT_S = 2.0
"""Seconds of losses in an event."""


def steps(
    *, blobs: Blobs, artifacts: Artifacts, bus: Bus, batches: Batches, snapshot_s: float = 10.0
) -> tuple[Step, ...]:
    """Return the long calls of the trainer."""
    announce = partial(_announce, blobs, bus)
    training = Training(artifacts=artifacts, batches=batches, bus=bus, snapshot_s=snapshot_s)
    return (
        Step(
            method="TrainTokenizer",
            request=trainer_pb2.TrainTokenizerRequest,
            kind="tokenizer",
            version=_VERSION,
            run=_train_tokenizer,
            check=_check_tokenizer,
        ),
        Step(
            method="ExtractTokenizer",
            request=trainer_pb2.ExtractTokenizerRequest,
            kind="tokenizer",
            version=_VERSION,
            run=_extract_tokenizer,
        ),
        Step(
            method="ImportCheckpoint",
            request=trainer_pb2.ImportCheckpointRequest,
            kind="checkpoint",
            version=_VERSION,
            run=_import_checkpoint,
            check=_check_import,
            announce=announce,
        ),
        Step(
            method="Pretrain",
            request=trainer_pb2.PretrainRequest,
            kind="checkpoint",
            version=_VERSION,
            run=training.pretrain,
            check=training.check_pretrain,
            announce=announce,
        ),
        Step(
            method="Train",
            request=trainer_pb2.TrainRequest,
            kind="checkpoint",
            version=_VERSION,
            run=training.train,
            check=training.check_train,
            announce=announce,
        ),
    )


def _check_tokenizer(request: trainer_pb2.TrainTokenizerRequest) -> Sequence[str]:
    tokenizer.check_vocabulary_size(_vocabulary_size(request))
    return ()


def _train_tokenizer(request: trainer_pb2.TrainTokenizerRequest, work: Work) -> Made:
    passages = work.artifacts.open(request.passages_id, kind="passages")
    texts = formats.read_table(passages.path("passages.parquet"), formats.PASSAGES)["text"]
    work.progress(0, len(texts), "passages", "training a tokenizer")
    trained = tokenizer.train(texts.to_pylist(), _vocabulary_size(request))
    tokenizer.save(trained, work.out)
    return Made(figures={"entries": tokenizer.size(work.out), "passages": len(texts)})


def _vocabulary_size(request: trainer_pb2.TrainTokenizerRequest) -> int:
    return request.vocabulary_size or tokenizer.DEFAULT_VOCABULARY_SIZE


def _extract_tokenizer(request: trainer_pb2.ExtractTokenizerRequest, work: Work) -> Made:
    checkpoint = work.artifacts.open(request.checkpoint_id, kind="checkpoint")
    tokenizer.copy(checkpoint.folder(), work.out)
    return Made(figures={"entries": tokenizer.size(work.out)})


def _check_import(request: trainer_pb2.ImportCheckpointRequest) -> Sequence[str]:
    foreign.check_folder(request.path)
    return ()


def _import_checkpoint(request: trainer_pb2.ImportCheckpointRequest, work: Work) -> Made:
    work.progress(0, 0, "files", "copying the checkpoint")
    folder = foreign.check_folder(request.path)
    foreign.copy(folder, work.out)
    held = running.inspect(work.out, tick=work.check)
    card = _write_card(work.out, held, num_tokens=0)
    report.write_card_block(work.out, card, name=folder.name)
    return Made(figures={"parameters": held.num_parameters})


class Training:
    """The two steps that train: from new weights, and from a checkpoint."""

    def __init__(
        self, *, artifacts: Artifacts, batches: Batches, bus: Bus, snapshot_s: float
    ) -> None:
        self._artifacts = artifacts
        self._batches = batches
        self._bus = bus
        self._snapshot_s = snapshot_s

    def check_pretrain(self, request: trainer_pb2.PretrainRequest) -> Sequence[str]:
        """Check schedule, configuration, certificate and tokenizer without running."""
        schedule_of(request.schedule)
        configuration.parse(request.config_json)
        begin = self._artifacts.open(request.tokenizer_id, kind="tokenizer")
        return self._check(request, begin)

    def check_train(self, request: trainer_pb2.TrainRequest) -> Sequence[str]:
        """Check schedule, certificate and tokenizer without running."""
        schedule_of(request.schedule)
        return self._check(request, self._artifacts.open(request.checkpoint_id, kind="checkpoint"))

    def pretrain(self, request: trainer_pb2.PretrainRequest, work: Work) -> Made:
        """Train from new weights."""
        begin = work.artifacts.open(request.tokenizer_id, kind="tokenizer")
        return self._run(request, begin, work, config_json=request.config_json)

    def train(self, request: trainer_pb2.TrainRequest, work: Work) -> Made:
        """Train a checkpoint further."""
        begin = work.artifacts.open(request.checkpoint_id, kind="checkpoint")
        return self._run(request, begin, work, config_json="")

    def _check(
        self, request: trainer_pb2.PretrainRequest | trainer_pb2.TrainRequest, begin: Artifact
    ) -> Sequence[str]:
        check_plan(
            self._artifacts,
            request.plan_id,
            exam_set_id=request.exam_set_id,
            tokenizer_sha256=tokenizer_sha256(begin.folder()),
        )
        return ()

    def _run(
        self,
        request: trainer_pb2.PretrainRequest | trainer_pb2.TrainRequest,
        begin: Artifact,
        work: Work,
        *,
        config_json: str,
    ) -> Made:
        self._check(request, begin)
        schedule = schedule_of(request.schedule)
        job = Job(
            schedule=schedule,
            begin=begin.folder(),
            config_json=config_json,
            out=work.out,
            scratch=work.scratch,
            snapshot_s=self._snapshot_s,
        )
        meter = _Meter("Pretrain" if config_json else "Train", schedule, work, self._bus)
        with metrics.RUNNING.labels(meter.method).track_inprogress():
            trained = running.train(
                job, self._batches, request.plan_id, tick=work.check, stepped=meter.stepped
            )
        meter.publish()
        tokenizer.copy(job.begin, work.out)
        num_tokens = trained.num_positions * schedule.sequence_length
        _write_card(work.out, trained.weights, num_tokens=num_tokens)
        report.write_losses(work.out, trained.losses, schedule)
        report.write_curve(
            work.out,
            trained.losses,
            label=f"plan {request.plan_id[:8]}",
            step_tokens=schedule.batch_size * schedule.sequence_length,
        )
        return Made(
            figures={
                "final_loss_nats_per_token": report.final_loss(trained.losses),
                "tokens": num_tokens,
                "steps": len(trained.losses),
            },
            measured={"tokens_per_second": meter.tokens_per_second},
        )


class _Meter:
    """Hears of steps and tells everybody: progress, metrics, events."""

    def __init__(self, method: str, schedule: Schedule, work: Work, bus: Bus) -> None:
        self.method = method
        self.tokens_per_second = 0.0
        """Of this attempt, its first step left out: that one waits for the stream."""
        self._schedule = schedule
        self._work = work
        self._bus = bus
        self._pending: list[Stepped] = []
        self._first: tuple[float, int] | None = None
        self._published = time.monotonic()

    def stepped(self, step: Stepped) -> None:
        length, now = self._schedule.sequence_length, time.monotonic()
        tokens = step.position * length
        if self._first is None:
            self._first = (now, tokens)
        elif now > self._first[0]:
            self.tokens_per_second = (tokens - self._first[1]) / (now - self._first[0])
        new = step.position - step.step * self._schedule.batch_size
        metrics.TOKENS.labels(self.method).inc(new * length)
        metrics.TOKENS_PER_SECOND.labels(self.method).set(self.tokens_per_second)
        metrics.LOSS.labels(self.method).set(step.loss)
        self._pending.append(step)
        if now - self._published >= _EVENT_S:
            self.publish()
        message = f"loss {step.loss:.3f}, {self.tokens_per_second:,.0f} tokens/s"
        self._work.progress(tokens, step.num_positions * length, "tokens", message)

    def publish(self) -> None:
        """Publish the losses that were not published yet."""
        self._published = time.monotonic()
        if not self._pending:
            return
        event = events_pb2.LossesMeasured(
            operation=self._work.operation,
            first_step=self._pending[0].step,
            losses=[each.loss for each in self._pending],
        )
        self._pending = []
        topic = topics.LOSSES_MEASURED.name
        events.publish(self._bus, topic, self._work.operation, event, source="trainer")


def schedule_of(message: trainer_pb2.Schedule) -> Schedule:
    """Read a schedule. Raises `InvalidInput` when its numbers make no sense."""
    return Schedule(
        batch_size=message.batch_size,
        sequence_length=message.sequence_length,
        learning_rate=message.learning_rate,
        warmup_steps=message.warmup_steps,
        weight_decay=message.weight_decay,
        max_grad_norm=message.max_grad_norm,
        num_threads=message.num_threads or 1,
        seed=message.seed,
    )


def _write_card(folder: Path, held: running.Weights, *, num_tokens: int) -> report.Card:
    card = report.Card(
        weights_digest=held.digest,
        num_parameters=held.num_parameters,
        num_tokens=num_tokens,
        tokenizer_sha256=tokenizer_sha256(folder),
    )
    card.write(folder)
    return card


def _announce(blobs: Blobs, bus: Bus, checkpoint: Artifact, result: Result) -> None:
    """Make the weights findable by their digest and tell that they are there."""
    card = formats.read_json(checkpoint.path("checkpoint.json"))
    weights.register(blobs, card["weights_digest"], checkpoint.id)
    event = events_pb2.CheckpointSaved(
        artifact_id=checkpoint.id,
        weights_digest=card["weights_digest"],
        num_tokens=card["num_tokens"],
    )
    topic = topics.CHECKPOINTS_SAVED.name
    events.publish(bus, topic, checkpoint.id, event, source="trainer")
