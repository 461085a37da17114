"""Rounds in a world where the truth is known end as they must.

The base model learned three topics and never saw the fourth, `tides`.
"""

import random
from pathlib import Path
from typing import Any

import pytest
from athanor.common.v1 import artifacts_pb2
from athanor.loop.v1 import loop_pb2

from deploy.examples.train_on_a_plan import train
from libs import launcher
from tests.e2e import world
from tests.e2e.conftest import TOPICS, Rounds

WORLD = world.topics(TOPICS)
KNOWN = WORLD[:-1]
COUNTS = {"ores": 150, "songs": 150, "sails": 150, "tides": 60}


@pytest.fixture(scope="session")
def base(learned: Any) -> Path:
    draw = random.Random(7)
    texts = [world.passage(draw, topic) for _ in range(900) for topic in KNOWN]
    return learned(texts)


@pytest.fixture(scope="session")
def exam(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return world.write_exam(
        tmp_path_factory.mktemp("exam") / "exam.jsonl", WORLD, items=120, seed=3
    )


@pytest.fixture(scope="session")
def true_texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return world.write_texts(tmp_path_factory.mktemp("true") / "texts", COUNTS, WORLD, seed=4)


def given(base: Path, exam: Path, folder: Path, **more: Any) -> dict[str, Any]:
    return {
        "checkpoint": str(base),
        "exam": str(exam),
        "folder": str(folder),
        "hoped_gain": 0.3,
        "budget_tokens": 60_000,
        "sequence_length": 96,
        "batch_size": 8,
        "learning_rate": 2e-3,
        "clip": 20,
        "replay_share": 0.3,
        "max_passages": 60,
        **more,
    }


@pytest.fixture(scope="session")
def promoted(rounds: Rounds, base: Path, exam: Path, true_texts: Path) -> Any:
    return rounds.run("own-folder", given(base, exam, true_texts), name="teach")


def artifact(seen: Any, step: str) -> str:
    return next(each.artifact_id for each in seen.steps if each.name == step)


def test_documents_that_teach_the_missing_topic_promote_by_their_targeting(promoted):
    assert promoted.outcome == loop_pb2.OUTCOME_PROMOTED, promoted
    assert "targeting" in promoted.attribution


def test_live_is_the_promoted_model(promoted, rounds):
    live = rounds.client.loop.ResolveLive(loop_pb2.ResolveLiveRequest())
    assert live.checkpoint_id == artifact(promoted, "train")


def test_lineage_leads_from_the_candidate_to_queries_items_and_the_base(promoted, rounds):
    request = artifacts_pb2.GetLineageRequest(artifact_id=artifact(promoted, "train"))
    nodes = {node.kind: node for node in rounds.client.artifacts.GetLineage(request).nodes}
    assert nodes.keys() >= {"plan", "tokens", "passages", "diagnosis", "responses", "exam"}
    ids = {node.artifact_id for node in rounds.client.artifacts.GetLineage(request).nodes}
    assert artifact(promoted, "base") in ids
    assert artifact(promoted, "collect") in ids


def test_a_repeated_round_is_answered_from_its_artifacts(promoted, rounds, base, exam, true_texts):
    again = rounds.run("own-folder", given(base, exam, true_texts), name="teach-again")
    assert again.artifact_id == promoted.artifact_id
    assert again.outcome == promoted.outcome


def test_documents_that_spoil_the_rest_are_rejected(rounds, base, exam, tmp_path):
    counts = {"tides": 200}
    folder = world.write_texts(tmp_path / "texts", counts, WORLD, seed=5, spoilt="tides")
    seen = rounds.run(
        "own-folder",
        given(base, exam, folder, replay_share=0.0, learning_rate=4e-3, max_passages=200),
        name="spoil",
    )
    assert seen.outcome == loop_pb2.OUTCOME_REJECTED, seen


def test_too_few_items_end_before_training(rounds, base, true_texts, tmp_path):
    few = world.write_exam(tmp_path / "exam.jsonl", WORLD, items=30, seed=6)
    seen = rounds.run(
        "own-folder",
        given(base, few, true_texts, exam_name="few", min_items_per_topic=10, hoped_gain=0.08),
        name="few",
    )
    assert seen.outcome == loop_pb2.OUTCOME_UNDERPOWERED, seen
    assert artifact(seen, "train") == ""
    assert "items" in seen.reason


def test_an_even_model_has_nothing_weak(rounds, base, true_texts, tmp_path):
    known = world.write_exam(tmp_path / "exam.jsonl", KNOWN, items=120, seed=8)
    seen = rounds.run("own-folder", given(base, known, true_texts, exam_name="known"), name="even")
    assert seen.outcome == loop_pb2.OUTCOME_NOTHING_WEAK, seen


def test_a_budget_above_what_the_clip_allows_is_starved(rounds, base, exam, true_texts):
    seen = rounds.run(
        "own-folder", given(base, exam, true_texts, clip=2, budget_tokens=900_000), name="starve"
    )
    assert seen.outcome == loop_pb2.OUTCOME_STARVED, seen


def test_an_exam_that_lies_in_the_corpus_stops_the_round(rounds, base, exam, tmp_path):
    folder = tmp_path / "texts"
    world.write_texts(folder, {"tides": 20}, WORLD, seed=9)
    (folder / "leak.txt").write_text(exam.read_text())
    seen = rounds.run("own-folder", given(base, exam, folder), name="leak")
    assert seen.outcome in (loop_pb2.OUTCOME_FAILED, loop_pb2.OUTCOME_STARVED), seen
    assert artifact(seen, "train") == ""


def test_with_manual_promotion_a_person_approves(rounds, base, exam, true_texts):
    seen = rounds.run("own-folder", given(base, exam, true_texts, manual=True), name="manual")
    assert seen.outcome == loop_pb2.OUTCOME_AWAITING_APPROVAL, seen


def test_another_program_trains_on_the_plan_by_a_plain_loop(promoted, rounds, base):
    sampler = next(each for each in launcher.reports(rounds.home) if each.name == "sampler")
    losses = train(f"127.0.0.1:{sampler.port}", artifact(promoted, "plan"), str(base))
    assert len(losses) == 60_000 // 64 // 8 + 1
    assert sum(losses[-10:]) < sum(losses[:10])
