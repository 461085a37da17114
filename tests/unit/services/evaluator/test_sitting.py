"""A sitting: kept batch by batch, written down, opened only as what it is."""

import pytest

from libs.artifacts import Artifacts
from libs.blobs.folder import FolderBlobs
from libs.errors import Conflict
from libs.formats import read_json
from libs.lm.port import OptionScore
from libs.manifest import Request
from services.evaluator.intervals import wilson
from services.evaluator.items import Half
from services.evaluator.score import batches, score
from services.evaluator.sitting import open_sitting, sit, write_sitting


class KilledError(Exception):
    """Stands for a process that dies."""


def answering(asked, die_at=None):
    def ask(questions):
        if len(asked) == die_at:
            raise KilledError
        asked.append(len(questions))
        return [[OptionScore(-1.0 / 3, 1), OptionScore(-1.0, 3)] for _ in questions]

    return lambda batch: score(batch, ask, "digest")


def test_a_killed_sitting_goes_on_with_the_same_answers(items_of, tmp_path):
    cut = batches(items_of(["a"] * 10), 3)
    first, second, third = [], [], []
    (tmp_path / "kept").mkdir()
    (tmp_path / "fresh").mkdir()
    with pytest.raises(KilledError):
        sit(cut, answering(first, die_at=2), tmp_path / "kept", lambda done: None)
    resumed = sit(cut, answering(second), tmp_path / "kept", lambda done: None)
    assert (first, second) == ([3, 3], [3, 1])
    assert resumed == sit(cut, answering(third), tmp_path / "fresh", lambda done: None)


def test_progress_is_told_before_each_batch_and_at_the_end(items_of, tmp_path):
    told = []
    sit(batches(items_of(["a"] * 5), 2), answering([]), tmp_path, told.append)
    assert told == [0, 2, 4, 5]


def test_a_sitting_is_summed_up_by_topic(respond, tmp_path):
    responses = respond([("a", True), ("a", False), ("b", True)], "digest")
    figures = write_sitting(tmp_path, "exam", Half.DECISION, responses)
    accuracy = read_json(tmp_path / "accuracy.json")
    assert (accuracy["exam_id"], accuracy["half"]) == ("exam", "decision")
    assert accuracy["topics"]["a"] == {
        "num_items": 2,
        "num_right": 1,
        **wilson(1, 2)._asdict(),
    }
    assert figures["accuracy"] == accuracy["overall"]["estimate"] == 2 / 3


@pytest.mark.parametrize(("exam_id", "half"), [("other", Half.DECISION), ("exam", Half.DIAGNOSIS)])
def test_responses_to_another_exam_or_half_are_a_conflict(respond, tmp_path, exam_id, half):
    responses = respond([("a", True)], "digest")
    (tmp_path / "out").mkdir()
    write_sitting(tmp_path / "out", "exam", Half.DECISION, responses)
    artifacts = Artifacts(FolderBlobs(tmp_path / "blobs"))
    request = Request(kind="responses", inputs={}, parameters={}, recipe_version=1)
    made = artifacts.create(request, tmp_path / "out", run={})
    assert open_sitting(artifacts, made, "exam", Half.DECISION) == responses
    with pytest.raises(Conflict, match="expected"):
        open_sitting(artifacts, made, exam_id, half)
