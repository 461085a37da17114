"""The trainer as it runs: stores in a folder, calls over a real channel, children that train."""

import shutil
import threading
import uuid
from dataclasses import dataclass
from typing import Any

import pytest
from athanor.common.v1 import operations_pb2
from athanor.trainer.v1 import events_pb2, trainer_pb2, trainer_pb2_grpc
from google.longrunning import operations_pb2 as longrunning
from google.longrunning import operations_pb2_grpc as longrunning_grpc
from transformers import AutoModelForCausalLM, AutoTokenizer

from libs import rpc
from libs.blocks import read_blocks
from libs.bus import events
from libs.bus.sqlite import SqliteBus
from libs.clock import Clock
from libs.errors import Conflict, InvalidInput, NotFound
from libs.formats import LOSSES, read_json, read_rows
from libs.lm import weights
from libs.lm.digest import folder_digest
from libs.operations.record import UNMADE
from services.trainer import topics
from services.trainer.adapters import ArrayBatches
from services.trainer.app import build
from services.trainer.config import Config

DEADLINE_S = 60.0
SCHEDULE = trainer_pb2.Schedule(
    batch_size=4, sequence_length=16, learning_rate=1e-2, warmup_steps=2, max_grad_norm=1.0, seed=5
)


class AnyPlan(ArrayBatches):
    """Streams the same tokens for every plan."""

    def __init__(self, tokens):
        self.tokens = tokens
        self.asked_from = []

    def batches(self, plan_id, **where):
        self.asked_from.append(where["from_position"])
        return ArrayBatches({plan_id: self.tokens}).batches(plan_id, **where)


@dataclass
class Running:
    """A trainer, the world it stores in, and channels to it."""

    world: Any
    service: Any
    bus: SqliteBus
    batches: AnyPlan
    config_json: str

    def __post_init__(self):
        self.channel = rpc.connect(self.service.address)
        self.stub = trainer_pb2_grpc.TrainerServiceStub(self.channel)
        self.operations = longrunning_grpc.OperationsStub(self.channel)

    def close(self, *, release=True):
        self.channel.close()
        self.service.stop(0.0, release=release)
        self.bus.close()

    def start(self, method, **fields):
        request = getattr(trainer_pb2, f"{method}Request")(request_id=uuid.uuid4().hex, **fields)
        return getattr(self.stub, method)(request, timeout=DEADLINE_S)

    def wait(self, name):
        wait = longrunning.WaitOperationRequest(name=name)
        done = self.operations.WaitOperation(wait, timeout=DEADLINE_S)
        assert done.done
        return done

    def ended(self, method, **fields):
        return self.wait(self.start(method, **fields).name)

    def result(self, method, **fields):
        result = operations_pb2.StepResult()
        done = self.ended(method, **fields)
        assert done.response.Unpack(result), done.error.message
        return result

    def pretrain(self, **fields):
        return self.result("Pretrain", **self.pretraining() | fields)

    def pretraining(self):
        world = self.world
        return {
            "plan_id": world.plan(),
            "tokenizer_id": world.tokenizer_id,
            "exam_set_id": world.exam_set_id,
            "config_json": self.config_json,
            "schedule": SCHEDULE,
        }

    def folder(self, result):
        return self.world.artifacts.open(result.artifact_id, kind=result.kind).folder()

    def told(self, topic, kind):
        """Return the payloads of a topic so far."""
        with self.bus.subscribe([topic.name], group=uuid.uuid4().hex) as consumer:
            read = []
            while (message := consumer.poll(1.0)) is not None:
                read.append(events.parse(message, kind).payload)
                consumer.commit(message)
        return read


def running(world, batches, config_json):
    bus = SqliteBus(world.root / "bus.sqlite")
    home = world.root / "home"
    config = Config(home=home, sampler_address="unused:1", snapshot_s=0.0, lease_s=1.0)
    service = build(config, blobs=world.blobs, bus=bus, clock=Clock(), batches=batches)
    service.start()
    return Running(world, service, bus, batches, config_json)


@pytest.fixture
def trainer(world, stream_tokens, config_json):
    trainer = running(world, AnyPlan(stream_tokens), config_json)
    yield trainer
    trainer.close()


def test_a_pretrained_checkpoint_is_registered_told_and_can_be_trained_further(trainer, tmp_path):
    base = trainer.pretrain()
    folder = trainer.folder(base)
    card = read_json(folder / "checkpoint.json")
    assert card["weights_digest"] == folder_digest(folder)
    assert card["num_tokens"] == 58 * 16
    assert weights.find(trainer.world.blobs, card["weights_digest"]) == base.artifact_id
    assert AutoTokenizer.from_pretrained(str(folder), local_files_only=True).eos_token_id == 0
    losses = read_rows(folder / "losses.parquet", LOSSES)
    assert [row["step"] for row in losses] == list(range(15))
    assert [block.anchor for block in read_blocks(folder / "blocks.json")] == ["training-loss"]
    assert base.figures["tokens"] == 58 * 16

    further = trainer.result(
        "Train",
        checkpoint_id=base.artifact_id,
        plan_id=trainer.world.plan(),
        exam_set_id=trainer.world.exam_set_id,
        schedule=SCHEDULE,
    )
    assert further.figures["final_loss_nats_per_token"] < base.figures["final_loss_nats_per_token"]
    assert AutoModelForCausalLM.from_pretrained(str(trainer.folder(further)))

    saved = trainer.told(topics.CHECKPOINTS_SAVED, events_pb2.CheckpointSaved)
    assert {each.artifact_id for each in saved} == {base.artifact_id, further.artifact_id}
    measured = trainer.told(topics.LOSSES_MEASURED, events_pb2.LossesMeasured)
    told = {
        (each.operation, each.first_step + index): loss
        for each in measured
        for index, loss in enumerate(each.losses)
    }
    assert len(told) == 30
    assert {row["loss"] for row in losses} <= set(told.values())


def test_the_same_request_again_is_answered_without_training(trainer):
    first, second = trainer.pretrain(), trainer.pretrain()
    assert (first.cached, second.cached) == (False, True)
    assert first.artifact_id == second.artifact_id
    assert len(trainer.batches.asked_from) == 1


def test_a_plan_that_is_not_certified_is_refused_at_once(trainer):
    for plan_id in (trainer.world.plan(certified=()), trainer.world.plan(certified=("p1",))):
        with pytest.raises(Conflict, match="certificate"):
            trainer.pretrain(plan_id=plan_id)
    assert trainer.batches.asked_from == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("config_json", "{"),
        ("config_json", '{"hidden_size": 3}'),
        ("schedule", trainer_pb2.Schedule(batch_size=0, sequence_length=16, learning_rate=1)),
    ],
)
def test_requests_that_can_never_succeed_are_refused_at_once(trainer, field, value):
    with pytest.raises(InvalidInput, match=r"config_json|batch_size"):
        trainer.pretrain(**{field: value})


def test_a_rehearsal_without_a_plan_judges_the_schedule_all_the_same(trainer):
    made = dict.fromkeys(("checkpoint_id", "plan_id", "exam_set_id"), UNMADE)
    dry = {"timeout": DEADLINE_S, "metadata": (("athanor-dry-run", "1"),)}
    assert trainer.stub.Train(trainer_pb2.TrainRequest(**made, schedule=SCHEDULE), **dry).done
    flat = trainer_pb2.Schedule(batch_size=0, sequence_length=16, learning_rate=1)
    with pytest.raises(InvalidInput, match="batch_size"):
        trainer.stub.Train(trainer_pb2.TrainRequest(**made, schedule=flat), **dry)


def test_a_tokenizer_is_trained_and_taken_out_of_a_checkpoint(trainer):
    trained = trainer.result(
        "TrainTokenizer",
        passages_id=trainer.world.passages(["one two one two"]),
        vocabulary_size=258,
    )
    assert trained.figures["entries"] == 258
    base = trainer.pretrain()
    taken = trainer.folder(trainer.result("ExtractTokenizer", checkpoint_id=base.artifact_id))
    given = (trainer.world.tokenizer_folder / "tokenizer.json").read_bytes()
    assert (taken / "tokenizer.json").read_bytes() == given


def test_an_imported_folder_becomes_a_checkpoint_with_the_digest_of_its_weights(
    trainer, tmp_path, make_checkpoint
):
    folder = make_checkpoint(tmp_path / "theirs")
    result = trainer.result("ImportCheckpoint", path=str(folder), as_of="today")
    card = read_json(trainer.folder(result) / "checkpoint.json")
    assert card["weights_digest"] == folder_digest(folder)
    assert weights.find(trainer.world.blobs, card["weights_digest"]) == result.artifact_id


def test_truncated_weights_are_data_loss(trainer, tmp_path, make_checkpoint):
    folder = make_checkpoint(tmp_path / "theirs")
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    done = trainer.ended("ImportCheckpoint", path=str(folder), as_of="today")
    assert done.error.code == 15  # DATA_LOSS
    assert "truncated" in done.error.message
    shutil.rmtree(folder)
    with pytest.raises(NotFound, match="no folder"):
        trainer.start("ImportCheckpoint", path=str(folder), as_of="today")


def test_a_cancelled_training_ends_as_cancelled(trainer, stream_tokens):
    trainer.batches.tokens = stream_tokens.repeat(2000)
    started = trainer.start("Pretrain", **trainer.pretraining())
    cancel = longrunning.CancelOperationRequest(name=started.name)
    trainer.operations.CancelOperation(cancel, timeout=DEADLINE_S)
    assert trainer.wait(started.name).error.code == 1  # CANCELLED


def test_a_trainer_that_was_killed_goes_on_from_its_snapshot(world, stream_tokens, config_json):
    tokens = stream_tokens.repeat(4)
    learned, killed = threading.Event(), threading.Event()

    class Breaking(AnyPlan):
        """Gives ten batches, tells, and hangs until the service is gone."""

        def batches(self, plan_id, **where):
            for number, batch in enumerate(super().batches(plan_id, **where)):
                if number == 20 and not killed.is_set():
                    learned.set()
                    killed.wait()
                yield batch

    first = running(world, Breaking(tokens), config_json)
    name = first.start("Pretrain", **first.pretraining()).name
    assert learned.wait(DEADLINE_S)
    first.close(release=False)
    killed.set()
    second = running(world, AnyPlan(tokens), config_json)
    result = operations_pb2.StepResult()
    assert second.wait(name).response.Unpack(result)
    assert second.batches.asked_from[0] >= 16 * 4
    losses = read_rows(second.folder(result) / "losses.parquet", LOSSES)

    same = trainer_pb2.Schedule(num_threads=1)  # what 0 means: another request, the same bits
    same.MergeFrom(SCHEDULE)
    undisturbed = second.pretrain(schedule=same)
    assert undisturbed.artifact_id != result.artifact_id
    assert losses == read_rows(second.folder(undisturbed) / "losses.parquet", LOSSES)
    assert folder_digest(second.folder(result)) == folder_digest(second.folder(undisturbed))
    second.close()
