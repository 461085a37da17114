"""Whole trainings in child processes, disturbed and undisturbed."""

import dataclasses
import json
import multiprocessing
import os
import random
import signal
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from transformers import AutoModelForCausalLM

from libs.errors import Conflict, InvalidInput, Unavailable
from libs.lm.digest import folder_digest
from services.trainer import running
from services.trainer.adapters import ArrayBatches
from services.trainer.running import Job, train

PLAN = "p" * 64
NUM_STEPS = 15
SURE_STEPS = 8
"""The child is up to 3 steps ahead of what its parent has heard. Interrupted before here, the next
attempt's first step is at most 11, before the stream's end is sent: its child is still at work."""


class Desk:
    """Where trainings of one stream run, each in folders of its own."""

    def __init__(self, root, begin, config_json, schedule, stream_tokens):
        self.root = root
        self.fields = {
            "begin": begin,
            "config_json": config_json,
            "schedule": schedule,
            "snapshot_s": 0.0,
        }
        self.batches = ArrayBatches({PLAN: stream_tokens})

    def job(self, name, **fields):
        """Return a job with an empty `out`, as every attempt gets, and the scratch of `name`."""
        scratch = self.root / name
        scratch.mkdir(exist_ok=True)
        out = self.root / f"{name}-out-{len(list(self.root.iterdir()))}"
        out.mkdir()
        return Job(out=out, scratch=scratch, **self.fields | fields)

    def run(self, job, stepped=lambda step: None, batches=None):
        return train(job, batches or self.batches, PLAN, tick=lambda: None, stepped=stepped)


@pytest.fixture(scope="module")
def desk(tmp_path_factory, tokenizer_folder, config_json, schedule, stream_tokens):
    root = tmp_path_factory.mktemp("trainings")
    return Desk(root, tokenizer_folder, config_json, schedule, stream_tokens)


@pytest.fixture(scope="module")
def undisturbed(desk):
    job = desk.job("undisturbed")
    return desk.run(job), {path.name: path.read_bytes() for path in job.out.iterdir()}


class Stop(Exception):
    """The operation was cancelled, or the lease lost."""


def at(step, act):
    """Return a hearer of steps that acts once, at `step` or the first heard after it."""
    acts = iter([act])

    def stepped(heard):
        if heard.step >= step:
            next(acts, lambda: None)()

    return stepped


def stop():
    raise Stop


def kill_child():
    (child,) = multiprocessing.active_children()
    os.kill(child.pid, signal.SIGKILL)


def test_a_training_leaves_a_checkpoint_that_transformers_opens(desk, undisturbed):
    trained, files = undisturbed
    job = desk.job("opened")
    for name, content in files.items():
        (job.out / name).write_bytes(content)
    model = AutoModelForCausalLM.from_pretrained(str(job.out), local_files_only=True)
    assert sum(each.numel() for each in model.parameters()) == trained.weights.num_parameters
    assert folder_digest(job.out) == trained.weights.digest
    assert model.config.eos_token_id == model.config.bos_token_id == 0
    assert len(trained.losses) == NUM_STEPS
    assert trained.num_positions == 58


def test_every_step_is_told_with_its_position(desk):
    heard = []
    trained = desk.run(desk.job("heard"), heard.append)
    assert [each.position for each in heard] == [*range(4, 57, 4), 58]
    assert [each.loss for each in heard] == trained.losses


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_interrupted_at_random_steps_a_training_ends_with_the_same_bits(desk, undisturbed, seed):
    chance = random.Random(seed)
    name, snapshot_s = f"interrupted{seed}", chance.choice([0.0, 0.02])
    for step in sorted(chance.sample(range(SURE_STEPS), 2)):
        act, error = chance.choice([(stop, Stop), (kill_child, Unavailable)])
        with pytest.raises(error):
            desk.run(desk.job(name, snapshot_s=snapshot_s), at(step, act))
    job = desk.job(name)
    trained, files = undisturbed
    assert desk.run(job) == trained
    assert {path.name: path.read_bytes() for path in job.out.iterdir()} == files


def test_a_training_goes_on_from_its_snapshot_and_not_from_the_start(desk):
    with pytest.raises(Stop):
        desk.run(desk.job("goes-on"), at(9, stop))
    heard = []
    desk.run(desk.job("goes-on"), heard.append)
    assert heard[0].step >= 10


def test_a_training_that_had_ended_ends_again(desk, undisturbed):
    desk.run(desk.job("ended"))
    heard = []
    assert desk.run(desk.job("ended"), heard.append) == undisturbed[0]
    assert heard == []


def test_two_trainings_side_by_side_do_not_change_each_others_bits(desk, undisturbed):
    with ThreadPoolExecutor(2) as threads:
        jobs = [desk.job("left"), desk.job("right")]
        assert list(threads.map(desk.run, jobs)) == [undisturbed[0]] * 2


def test_a_checkpoint_is_trained_further_from_its_weights(desk, undisturbed, make_checkpoint):
    folder = make_checkpoint(desk.root / "base", max_position_embeddings=16)
    job = desk.job("further", begin=folder, config_json="")
    before = folder_digest(folder)
    trained = desk.run(job)
    assert trained.weights.digest not in (before, undisturbed[0].weights.digest)
    assert folder_digest(folder) == before


def test_a_stream_that_changed_since_the_snapshot_is_a_conflict(desk, stream_tokens):
    with pytest.raises(Stop):
        desk.run(desk.job("changed"), at(3, stop))
    shorter = ArrayBatches({PLAN: stream_tokens[: 40 * 16]})
    with pytest.raises(Conflict, match="of 58"):
        desk.run(desk.job("changed"), batches=shorter)


def test_a_plan_shorter_than_a_sequence_is_refused(desk):
    empty = ArrayBatches({PLAN: np.zeros(15, np.uint32)})
    with pytest.raises(InvalidInput, match="16 tokens"):
        desk.run(desk.job("short"), batches=empty)


@pytest.mark.parametrize(
    "change",
    [{"model_type": "no-such"}, {"model_type": "clip"}, {"num_attention_heads": 0}],
    ids=str,
)
def test_a_configuration_of_no_model_is_refused(desk, config_json, change):
    bad = json.dumps(json.loads(config_json) | change)
    with pytest.raises(InvalidInput, match="config_json"):
        desk.run(desk.job(f"config-{'-'.join(map(str, change.values()))}", config_json=bad))


def test_a_diverged_training_is_an_error_and_not_a_retry(desk, schedule):
    wild = dataclasses.replace(schedule, learning_rate=1e30, warmup_steps=0)
    with pytest.raises(InvalidInput, match="diverged"):
        desk.run(desk.job("wild", schedule=wild))


def test_an_inspected_folder_tells_its_digest(tmp_path, make_checkpoint):
    folder = make_checkpoint(tmp_path / "model")
    held = running.inspect(folder, tick=lambda: None)
    assert held.digest == folder_digest(folder)


def test_a_tokenizer_with_more_ids_than_the_model_knows_is_refused(tmp_path, make_checkpoint):
    folder = make_checkpoint(tmp_path / "model", vocab_size=100)
    with pytest.raises(InvalidInput, match="the model knows 100"):
        running.inspect(folder, tick=lambda: None)
