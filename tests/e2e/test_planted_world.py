"""Rounds in a world where the truth is known end as they must.

The base model learned three topics and never saw the fourth, `tides`.
"""

import json
import random
import re
import time
from pathlib import Path
from typing import Any

import pytest
from athanor.client.connection import chunks, open_channel
from athanor.common.v1 import artifacts_pb2
from athanor.evaluator.v1 import evaluator_pb2, evaluator_pb2_grpc
from athanor.loop.v1 import loop_pb2

from deploy.examples.train_on_a_plan import train
from libs import launcher
from tests.e2e import world
from tests.e2e.conftest import TOPICS, Rounds, launched

WORLD = world.topics(TOPICS)
KNOWN = WORLD[:-1]
COUNTS = {"ores": 900, "songs": 900, "sails": 900, "tides": 60}
"""Little enough about the tides that a model trained on everything alike hardly meets them."""


@pytest.fixture(scope="session")
def base(learned: Any) -> Path:
    draw = random.Random(7)
    texts = [world.passage(draw, topic) for _ in range(1500) for topic in KNOWN]
    return learned(texts)


@pytest.fixture(scope="session")
def exam(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return world.write_exam(
        tmp_path_factory.mktemp("exam") / "exam.jsonl", WORLD, items=200, seed=3
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
        "batch_size": 4,
        "learning_rate": 3e-3,
        "clip": 20,
        "replay_share": 0.5,
        "max_passages": 60,
        "max_decisions": 100,
        **more,
    }


@pytest.fixture(scope="session")
def promoted(rounds: Rounds, base: Path, exam: Path, true_texts: Path) -> Any:
    return rounds.run("own-folder", given(base, exam, true_texts), name="teach")


def artifact(seen: Any, step: str) -> str:
    return next(each.artifact_id for each in seen.steps if each.name == step)


def artifacts(seen: Any) -> dict[str, str]:
    return {step.name: step.artifact_id for step in seen.steps}


def test_documents_that_teach_the_missing_topic_promote_by_their_targeting(promoted):
    assert promoted.outcome == loop_pb2.OUTCOME_PROMOTED, promoted
    assert "targeting" in promoted.attribution


def test_live_is_the_promoted_model(promoted, rounds):
    live = rounds.client.loop.ResolveLive(loop_pb2.ResolveLiveRequest())
    assert live.checkpoint_id == artifact(promoted, "train")


def test_the_page_shows_what_decided_and_how_it_came_about(promoted, rounds):
    request = loop_pb2.ReadReportRequest(name=promoted.name)
    page = chunks(rounds.client.loop.ReadReport(request, timeout=60)).decode()
    titles = re.findall(r"<h3>(.+?)</h3>", page)
    shown = {
        "Paired differences",  # gain, guard, control and targeting
        "Paired difference by topic",
        "Accuracy decision",  # before and after, by topic
        "Training loss",
        "Clusters",
        "What is drawn",  # their weights
        "How passages were found",  # queries, and why each passage was kept or refused
    }
    assert shown <= set(titles), titles
    figures = re.findall(r'<script type="application/json" class="plot"[^>]*>(.+?)</script>', page)
    by_topic = [json.loads(text) for text in figures if "tides" in text]
    assert len(by_topic) >= 3
    assert re.search(r"<h2>Lineage</h2>\s*<div class=\"wide\"><svg", page)
    times = page[page.index("<h2>Time</h2>") : page.index("<h2>Steps</h2>")]
    assert "<td>train</td>" in times


def test_lineage_leads_from_the_candidate_to_queries_items_and_the_base(promoted, rounds):
    request = artifacts_pb2.GetLineageRequest(artifact_id=artifact(promoted, "train"))
    nodes = {node.artifact_id: node for node in rounds.client.artifacts.GetLineage(request).nodes}
    steps = ("plan", "tokens", "clusters", "collect", "diagnose", "examine", "exam", "exam_set")
    for step in (*steps, "passages", "documents", "index_tokens", "base"):
        assert artifact(promoted, step) in nodes, step
    notes = nodes[artifact(promoted, "collect")].notes
    assert any("seed query on tides, asked for by exam item tides-" in note for note in notes)


def test_a_repeated_round_is_answered_from_its_artifacts(promoted, rounds, base, exam, true_texts):
    again = rounds.run("own-folder", given(base, exam, true_texts), name="teach-again")
    assert again.artifact_id == promoted.artifact_id
    assert again.outcome == promoted.outcome


def test_every_step_of_another_round_that_asks_the_same_is_answered_from_its_artifact(
    promoted, rounds, base, exam, true_texts, tmp_path
):
    (tmp_path / "other.yaml").write_text("name: other\ninclude: own-folder\n")
    path = str(tmp_path / "other.yaml")
    seen = rounds.run(path, given(base, exam, true_texts), name="teach-otherwise")
    assert artifacts(seen) == artifacts(promoted)
    assert [step.name for step in seen.steps if not step.cached] == []


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
    known = world.write_exam(tmp_path / "exam.jsonl", KNOWN, items=200, seed=8)
    seen = rounds.run("own-folder", given(base, known, true_texts, exam_name="known"), name="even")
    assert seen.outcome == loop_pb2.OUTCOME_NOTHING_WEAK, seen


def test_a_budget_above_what_the_clip_allows_is_starved(rounds, base, exam, true_texts):
    seen = rounds.run(
        "own-folder", given(base, exam, true_texts, clip=2, budget_tokens=900_000), name="starve"
    )
    assert seen.outcome == loop_pb2.OUTCOME_STARVED, seen


def test_an_exam_that_lies_in_the_corpus_stops_the_round(rounds, base, exam, tmp_path):
    folder = world.write_texts(tmp_path / "texts", COUNTS, WORLD, seed=9)
    (folder / "leak.txt").write_text(exam.read_text())
    seen = rounds.run("own-folder", given(base, exam, folder), name="leak")
    assert seen.outcome == loop_pb2.OUTCOME_FAILED, seen
    assert "the exam lies in the corpus" in seen.reason
    collect = next(step for step in seen.steps if step.name == "collect")
    assert collect.message.startswith("InvalidInput: ")
    assert artifact(seen, "train") == ""


def test_documents_of_noise_do_not_promote(rounds, base, exam, tmp_path):
    folder = world.write_texts(tmp_path / "texts", COUNTS, WORLD, seed=10, noisy="tides")
    seen = rounds.run("own-folder", given(base, exam, folder), name="noise")
    assert seen.outcome in (loop_pb2.OUTCOME_UNDECIDED, loop_pb2.OUTCOME_REJECTED), seen
    assert artifact(seen, "serve") == ""


def test_a_promotion_can_demand_that_the_targeting_is_shown(rounds, base, exam, true_texts):
    require = ["gain", "guard", "targeting"]
    seen = rounds.run("own-folder", given(base, exam, true_texts, require=require), name="demand")
    assert seen.outcome == loop_pb2.OUTCOME_PROMOTED, seen


def test_too_few_changed_answers_decide_nothing(rounds, base, exam, true_texts):
    more = given(base, exam, true_texts, min_discordant_pairs=1000)
    seen = rounds.run("own-folder", more, name="unsure")
    assert seen.outcome == loop_pb2.OUTCOME_UNDECIDED, seen
    assert artifact(seen, "serve") == ""


def test_with_manual_promotion_a_person_approves(rounds, base, exam, true_texts):
    # Another seed, another candidate: the first one is live already.
    seen = rounds.run(
        "own-folder", given(base, exam, true_texts, manual=True, seed=2), name="manual"
    )
    assert seen.outcome == loop_pb2.OUTCOME_AWAITING_APPROVAL, seen
    before = rounds.client.loop.ResolveLive(loop_pb2.ResolveLiveRequest())
    models = rounds.client.loop.ListModels(loop_pb2.ListModelsRequest()).models
    waiting = next(each for each in models if each.checkpoint_id == artifact(seen, "train"))
    assert waiting.weights_digest != before.weights_digest
    request = loop_pb2.PromoteModelRequest(
        weights_digest=waiting.weights_digest, who="ada", why="It knows the tides."
    )
    rounds.client.loop.PromoteModel(request, timeout=60)
    live = rounds.client.loop.ResolveLive(loop_pb2.ResolveLiveRequest())
    assert live.weights_digest == waiting.weights_digest


def test_another_program_trains_on_the_plan_by_a_plain_loop(promoted, rounds, base):
    sampler = next(each for each in launcher.reports(rounds.home) if each.name == "sampler")
    losses = train(f"127.0.0.1:{sampler.port}", artifact(promoted, "plan"), str(base))
    assert len(losses) == 60_000 // 64 // 8 + 1
    assert sum(losses[-10:]) < sum(losses[:10])


def test_an_exam_refuses_a_sixth_decision_and_answers_the_first_again(
    rounds, base, true_texts, tmp_path
):
    path = world.write_exam(tmp_path / "exam.jsonl", WORLD, items=60, seed=11)

    def decided(least: int, name: str) -> Any:
        more = {"exam_name": "worn", "max_decisions": 5, "min_discordant_pairs": least}
        small = given(base, path, true_texts, budget_tokens=6_000, **more)
        return rounds.run("own-folder", small, name=name)

    for least in range(1, 6):
        assert artifact(decided(least, f"worn-{least}"), "decide")
    sixth = decided(6, "worn-6")
    assert sixth.outcome == loop_pb2.OUTCOME_FAILED, sixth
    assert "has served 5 decisions" in sixth.reason
    assert artifact(decided(5, "worn-again"), "decide")


def test_an_exam_registered_in_the_middle_of_a_round_changes_nothing_in_it(
    base, exam, true_texts, tmp_path
):
    # It quotes what the round learns from: whoever heeded it would learn from nothing.
    texts = [file.read_text() for file in sorted(true_texts.glob("tides-*.txt"))]
    late = [
        {"stem": stem, "options": [" yes", " no"], "key": 0}
        for text in texts
        for stem in text.strip().split("\n\n")
    ]
    (tmp_path / "late.jsonl").write_text("".join(f"{json.dumps(each)}\n" for each in late))
    asked = given(base, exam, true_texts)
    with launched(tmp_path / "undisturbed") as calm:
        expected = calm.run("own-folder", asked, name="calm")
    with launched(tmp_path / "disturbed") as rounds:
        name = rounds.start("own-folder", asked, name="calm")
        rounds.until(lambda seen: is_running(seen, "train"), name)
        register(rounds, tmp_path / "late.jsonl")
        assert not rounds.until(lambda seen: True, name).outcome
        seen = rounds.until(lambda seen: seen.outcome, name)
    assert artifacts(seen) == artifacts(expected)
    assert seen.artifact_id == expected.artifact_id


def is_running(seen: Any, step: str) -> bool:
    return any(each.name == step and each.state == "running" for each in seen.steps)


def register(rounds: Rounds, path: Path) -> None:
    """Register an exam, and see that it is."""
    port = next(each.port for each in launcher.reports(rounds.home) if each.name == "evaluator")
    with open_channel(f"127.0.0.1:{port}") as channel:
        evaluator = evaluator_pb2_grpc.EvaluatorServiceStub(channel)
        evaluator.ImportExam(
            evaluator_pb2.ImportExamRequest(
                request_id="late", path=str(path), as_of="late", name="late"
            )
        )
        ends_at = time.monotonic() + 30
        while "late" not in [each.name for each in exams_of(evaluator)]:
            assert time.monotonic() < ends_at
            time.sleep(0.02)


def exams_of(evaluator: Any) -> Any:
    return evaluator.ListExams(evaluator_pb2.ListExamsRequest()).exams
