"""Which drills there are, what a sample takes, and the table of their results."""

from dataclasses import replace

import pytest

from tests.drills import results
from tests.drills.matrix import SERVERS, Drill, Kind, Recipe, matrix, sample
from tests.drills.results import Result, Verdict
from tests.drills.state import Left, differences

RPCS = {
    "documents": "corpus.ReadFolder",
    "exam": "evaluator.ImportExam",
    "base": "trainer.TrainBase",
    "examine": "evaluator.Examine",
    "train": "trainer.Train",
    "collect": "corpus.Collect",
    "examine_candidate": "evaluator.Examine",
}
SERVICES = ("lm", "corpus", "trainer", "evaluator")
DRILLS = matrix(RPCS, SERVICES, seed=1)
LEFT = Left(
    outcome="promoted",
    artifact_id="f0",
    steps={"train": "aa"},
    blobs={"artifacts/aa/manifest.json": "12"},
    audit=(("promoted", "d1", ""),),
)
RESULT = Result(
    drill="kill-corpus-in-documents",
    verdict=Verdict.PASSED,
    done_to="corpus",
    step="documents",
    fraction=0.5,
    shown_by="corpus.ReadFolder epoch 1 to 2",
    seconds=14.6,
    code="c0de",
    commit="abc1234",
    date="2026-01-02T03:04:05+00:00",
    machine="a processor, 2 cores",
)


def test_every_service_and_the_launcher_are_killed_in_every_step():
    killed = {(d.victims, d.step) for d in DRILLS if d.kind is Kind.KILL and _on_folder(d)}
    assert killed == {((service,), step) for service in SERVICES for step in RPCS}
    launcher = [d.step for d in DRILLS if d.kind is Kind.KILL_LAUNCHER and _on_folder(d)]
    assert launcher == list(RPCS)


def test_every_pair_is_killed_at_once_in_a_step_of_one_of_them():
    pairs = [drill for drill in DRILLS if drill.kind is Kind.KILL_TWO]
    assert len({drill.victims for drill in pairs}) == len(pairs) == 6
    assert all(RPCS[drill.step].partition(".")[0] in drill.victims for drill in pairs)


def test_names_name_one_drill_each():
    assert len({drill.name for drill in DRILLS}) == len(DRILLS)


@pytest.mark.parametrize(
    ("drill", "name"),
    [
        (Drill(kind=Kind.KILL, step="exam", victims=("lm",)), "kill-lm-in-exam"),
        (Drill(kind=Kind.KILL_TWO, step="exam", victims=("a", "b")), "kill-a-and-b-in-exam"),
        (Drill(kind=Kind.KILL_LAUNCHER, step="exam"), "kill-launcher-in-exam"),
        (
            Drill(kind=Kind.KILL, step="exam", victims=("lm",), recipe=Recipe.SITE),
            "site-kill-lm-in-exam",
        ),
    ],
)
def test_a_name_says_what_is_done_where(drill, name):
    assert drill.name == name


def test_no_drill_names_a_step_that_the_round_lacks():
    assert {drill.step for drill in DRILLS} <= set(RPCS)


def test_a_sample_of_six_has_one_of_each_stratum():
    for seed in range(20):
        assert sorted(each.stratum for each in sample(DRILLS, 6, seed=seed)) == [*range(6)]


def test_every_server_and_service_is_killed_and_stopped_on_the_cluster():
    done = {
        kind: {
            victim
            for drill in DRILLS
            if (drill.kind, drill.recipe) == (kind, Recipe.CLUSTER)
            for victim in drill.victims
        }
        for kind in (Kind.KILL_SERVER, Kind.KILL, Kind.STOP)
    }
    assert done[Kind.KILL_SERVER] == {*SERVERS}
    assert done[Kind.KILL] == {*SERVICES} - {"lm"}
    assert done[Kind.STOP] == done[Kind.KILL_SERVER] | done[Kind.KILL]


def test_the_same_seed_is_the_same_sample_and_another_seed_another():
    assert sample(DRILLS, 8, seed=1) == sample(DRILLS, 8, seed=1)
    assert sample(DRILLS, 8, seed=1) != sample(DRILLS, 8, seed=2)


def test_a_sample_as_large_as_the_matrix_has_every_drill_once():
    everything = sample(DRILLS, len(DRILLS), seed=3)
    assert sorted(each.name for each in everything) == sorted(each.name for each in DRILLS)


def test_rounds_that_left_the_same_do_not_differ():
    assert differences(LEFT, replace(LEFT)) == []


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"outcome": "failed"}, "outcome: expected promoted, got failed"),
        ({"steps": {"train": "bb"}}, "steps: train: expected aa, got bb"),
        ({"blobs": {}}, "blobs: artifacts/aa/manifest.json: expected 12, got none"),
        (
            {"blobs": {**LEFT.blobs, "requests/r": "34"}},
            "blobs: requests/r: expected none, got 34",
        ),
        (
            {"audit": LEFT.audit * 2},
            f"audit: expected {LEFT.audit}, got {LEFT.audit * 2}",
        ),
    ],
)
def test_anything_lost_changed_or_done_twice_is_a_difference(change, line):
    assert differences(LEFT, replace(LEFT, **change)) == [line]


def test_what_is_kept_is_read_again_without_the_line_that_a_kill_cut_off(tmp_path):
    path = tmp_path / "kept" / "results.jsonl"
    results.append(path, RESULT)
    with path.open("a") as file:
        file.write('{"drill": "kill-lm')
    results.append(path, RESULT)
    assert results.read(path) == [RESULT, RESULT]


def test_only_the_last_result_with_this_code_counts():
    failed = replace(RESULT, verdict=Verdict.FAILED)
    other = replace(RESULT, code="0ther")
    assert results.latest([failed, other, RESULT, other], "c0de") == {RESULT.drill: RESULT}


def test_the_table_counts_verdicts_and_keeps_a_row_on_one_line():
    failed = replace(RESULT, drill="b", verdict=Verdict.FAILED, shown_by="a | b\nsee there")
    page = results.table([RESULT, failed])
    assert "Commit abc1234, 2026-01-02, a processor, 2 cores: 1 passed, 1 failed" in page
    row = "| kill-corpus-in-documents | passed | corpus | documents | 50% |"
    assert f"{row} corpus.ReadFolder epoch 1 to 2 | 0 | 15 |" in page
    assert "| b | failed | corpus | documents | 50% | a / b | 0 | 15 |" in page


def _on_folder(drill):
    return drill.recipe is Recipe.FOLDER
