import errno
import json
import logging

import pytest
from prometheus_client import REGISTRY

from libs import telemetry
from libs.errors import Busy, Conflict, Corrupt, InvalidInput, NotFound, ServiceError, Unavailable
from libs.operations.record import State
from libs.operations.runner import MAX_DEATHS, Runner
from libs.operations.step import Cancelled, Made


@pytest.fixture
def run(stage):
    """Run one operation by one step, and return its record and the pauses that were made."""

    def run_one(step, name=None, *, during_pause=lambda: None):
        pauses = []

        def wait(seconds: float) -> None:
            pauses.append(seconds)
            during_pause()

        name = name or stage.submit()
        runner = Runner({step.method: step}, stage.artifacts, stage.folders, wait=wait)
        runner.run(stage.take(name))
        return stage.operations.get(name), pauses

    return run_one


def writes(text: str = "a", **made):
    def step(request, work) -> Made:
        (work.out / "text").write_text(text)
        return Made(**made)

    return step


def raises(*errors: Exception, then=writes()):  # noqa: B008 - a function without state
    left = list(errors)

    def step(request, work) -> Made:
        if left:
            raise left.pop(0)
        return then(request, work)

    return step


def test_the_files_become_the_artifact_and_what_was_said_the_result(stage, run, announced) -> None:
    said = {"outcome": "starved", "reason": "None.", "figures": {"pages": 2.0}}
    record, _ = run(stage.step(writes(**said, measured={"rate": 3}), announce=announced))
    assert record.state is State.SUCCEEDED
    artifact = stage.artifacts.open(record.result.artifact_id, kind="documents")
    assert artifact.path("text").read_text() == "a"
    assert json.loads(artifact.path("result.json").read_bytes()) == said
    assert artifact.run()["rate"] == 3
    assert artifact.run()["operation"] == record.name
    assert (record.result.outcome, record.result.cached) == ("starved", False)
    assert announced.results == [(artifact.id, record.result)]


def test_a_request_answered_before_is_cached_and_announced_again(stage, run, announced) -> None:
    first, _ = run(stage.step(writes(figures={"pages": 2.0}), announce=announced))
    again, _ = run(stage.step(raises(NotFound("must not run")), announce=announced))
    assert again.result.cached
    assert not first.result.cached
    assert again.result.artifact_id == first.result.artifact_id
    assert again.result.figures == {"pages": 2.0}
    assert len(announced.results) == 2


def test_an_artifact_made_by_an_attempt_that_was_killed_is_not_called_cached(stage, run) -> None:
    name = stage.submit()

    def die(artifact, result) -> None:
        raise KeyboardInterrupt  # stands for the kill: nothing after it runs

    with pytest.raises(KeyboardInterrupt):
        run(stage.step(writes(), announce=die), name)
    assert stage.operations.get(name).state is State.RUNNING
    record, _ = run(stage.step(raises(NotFound("must not run"))), name)
    assert record.state is State.SUCCEEDED
    assert not record.result.cached


def test_a_step_without_artifact_ends_with_what_it_said(stage, run) -> None:
    record, _ = run(stage.step(lambda request, work: Made(outcome="promoted"), kind=""))
    assert (record.result.artifact_id, record.result.outcome) == ("", "promoted")


@pytest.mark.parametrize("kind", [InvalidInput, NotFound, Conflict, Corrupt])
def test_an_error_that_no_repeat_can_mend_ends_the_operation(stage, run, kind) -> None:
    record, pauses = run(stage.step(raises(kind("expected x"))))
    assert record.state is State.FAILED
    assert (record.error.kind, record.error.message) == (kind.__name__, "expected x")
    assert pauses == []


def test_a_retryable_error_is_tried_again_with_growing_pauses(stage, run) -> None:
    record, pauses = run(stage.step(raises(*[Unavailable("lm down")] * 3)))
    assert record.state is State.SUCCEEDED
    assert record.retries == 3
    assert sum(pauses) == pytest.approx(0.5 + 1 + 2, abs=0.3)


def test_attempts_made_again_are_counted_by_the_class_of_the_error(stage, run) -> None:
    def counted(kind: str) -> float:
        labels = {"service": "corpus", "method": "Crawl", "error": kind}
        return REGISTRY.get_sample_value("athanor_operation_retries_total", labels) or 0.0

    before = [counted("Unavailable"), counted("Internal")]
    run(stage.step(raises(Unavailable("lm down"), Unavailable("lm down"), KeyError("bug"))))
    assert [counted("Unavailable"), counted("Internal")] == [before[0] + 2, before[1] + 1]


def test_eight_retryable_errors_end_it(stage, run) -> None:
    record, _ = run(stage.step(raises(*[Busy("disk full")] * 8)))
    assert record.state is State.FAILED
    assert (record.error.kind, record.error.message) == ("Busy", "disk full")


@pytest.mark.parametrize("bug", [ZeroDivisionError("x"), ServiceError("none of the eight")])
def test_a_bug_is_tried_three_times_and_logged_with_its_traceback(
    stage, run, caplog: pytest.LogCaptureFixture, bug: Exception
) -> None:
    record, _ = run(stage.step(raises(*[bug] * 3)))
    assert record.state is State.FAILED
    assert record.error.kind == "Internal"
    assert record.error.message == f"internal: {type(bug).__name__}: {bug}"
    bugs = [line for line in caplog.records if line.levelno == logging.ERROR]
    assert [line.exc_info[1] for line in bugs] == [bug] * 3


def test_a_full_disk_is_waited_for_and_no_bug(stage, run) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    record, pauses = run(stage.step(raises(*[full] * 4)))
    assert record.state is State.SUCCEEDED
    assert (record.retries, record.faults) == (4, 0)
    assert sum(pauses) > 5


def test_two_bugs_and_then_success_is_success(stage, run) -> None:
    record, _ = run(stage.step(raises(ZeroDivisionError(), ZeroDivisionError())))
    assert record.state is State.SUCCEEDED


def test_an_operation_that_kills_its_workers_is_given_up(stage, run) -> None:
    name = stage.submit()
    for _ in range(MAX_DEATHS):
        stage.take(name)
    record, _ = run(stage.step(raises(AssertionError("must not run"))), name)
    assert record.error.message == "internal: its worker died 20 times"


def test_a_method_without_a_step_fails(stage, run) -> None:
    name = stage.submit()
    Runner({}, stage.artifacts, stage.folders).run(stage.take(name))
    assert stage.operations.get(name).error.kind == "InvalidInput"


@pytest.mark.parametrize(
    ("step", "state", "error"),
    [
        (lambda: writes(), "succeeded", ""),
        (lambda: raises(*[Unavailable("lm down")] * 8), "failed", "Unavailable"),
        (lambda: raises(*[ZeroDivisionError()] * 3), "failed", "Internal"),
        (lambda: raises(Cancelled("asked for")), "cancelled", ""),
    ],
)
def test_an_end_is_counted_once_by_method_state_and_kind_of_error(
    stage, run, step, state, error
) -> None:
    before = ends_counted()
    run(stage.step(step()))
    new = {labels: count - before.get(labels, 0) for labels, count in ends_counted().items()}
    assert {labels: count for labels, count in new.items() if count} == {
        ("corpus", "Crawl", state, error): 1
    }


def ends_counted() -> dict[tuple[str, ...], float]:
    (family,) = telemetry.OPERATIONS_ENDED.collect()
    names = ("service", "method", "state", "error")
    return {
        tuple(sample.labels[name] for name in names): sample.value
        for sample in family.samples
        if sample.name.endswith("_total")
    }


def test_one_whose_lease_was_lost_is_not_counted(stage, run) -> None:
    name = stage.submit()

    def step(request, work) -> Made:
        stage.take(name, "two")
        raise NotFound("must not be told")

    before = ends_counted()
    run(stage.step(step), name)
    assert ends_counted() == before


def test_cancellation_ends_it_without_an_artifact(stage, run, announced) -> None:
    name = stage.submit()

    def step(request, work) -> Made:
        stage.operations.cancel(name)
        writes()(request, work)
        stage.clock.monotonic_s += 20  # the keeper's next look, made by hand
        work.progress(1, 2, "pages")
        return Made()

    record, _ = run(stage.step(step, announce=announced), name)
    assert record.state is State.CANCELLED
    assert list(stage.artifacts.list()) == announced.results == []


def test_a_cancellation_ends_the_wait_for_the_next_attempt(stage, run) -> None:
    name = stage.submit()

    def cancel() -> None:
        stage.operations.cancel(name)
        stage.clock.monotonic_s += 20

    record, pauses = run(stage.step(raises(*[Unavailable("down")] * 8)), name, during_pause=cancel)
    assert record.state is State.CANCELLED
    assert len(pauses) == 1


def test_one_that_lost_its_lease_while_it_worked_makes_and_announces_nothing(
    stage, run, announced
) -> None:
    name = stage.submit()

    def step(request, work) -> Made:
        stage.take(name, "two")
        return writes()(request, work)

    record, _ = run(stage.step(step, announce=announced), name)
    assert (record.state, record.holder) == (State.RUNNING, "two")
    assert list(stage.artifacts.list()) == announced.results == []


def test_a_late_worker_that_stumbles_is_no_bug_of_the_new_one(stage, run) -> None:
    name = stage.submit()

    def step(request, work) -> Made:
        stage.take(name, "two")
        raise FileNotFoundError

    record, _ = run(stage.step(step), name)
    assert (record.holder, record.faults) == ("two", 0)


def test_the_end_is_written_however_long_the_store_is_away(
    stage, run, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish, failures = stage.operations.write, [Unavailable("store down")] * 12

    def write(stored, record):
        if record.ended and failures:
            raise failures.pop()
        return finish(stored, record)

    monkeypatch.setattr(stage.operations, "write", write)
    record, pauses = run(stage.step(writes()))
    assert record.state is State.SUCCEEDED
    assert len(pauses) == 12
    assert max(pauses) == 30


def test_scratch_survives_attempts_and_goes_with_the_end_and_out_is_empty_each_time(
    stage, run
) -> None:
    seen = []

    def step(request, work) -> Made:
        seen.append((sorted(work.scratch.iterdir()), sorted(work.out.iterdir())))
        (work.scratch / f"marker-{len(seen)}").touch()
        (work.out / f"part-{len(seen)}").touch()
        if len(seen) == 1:
            raise Unavailable("down")
        return Made()

    record, _ = run(stage.step(step))
    folder = stage.home / "work" / "corpus"
    assert [[len(paths) for paths in each] for each in seen] == [[0, 0], [1, 0]]
    assert list(folder.iterdir()) == []
    names = {file.name for file in stage.artifacts.open(record.result.artifact_id).manifest.files}
    assert names == {"part-2", "result.json"}


def test_an_attempt_runs_inside_the_trace_of_the_submit(stage, run) -> None:
    traces = []

    def step(request, work) -> Made:
        traces.append(telemetry.trace_id())
        return writes()(request, work)

    with telemetry.span("caller") as trace_id:
        name = stage.submit()
    record, _ = run(stage.step(step), name)
    assert traces == [trace_id] == [record.trace_id]
    assert stage.artifacts.open(record.result.artifact_id).run()["trace_id"] == trace_id


def test_text_that_utf8_cannot_carry_does_not_stop_the_record(stage, run) -> None:
    def step(request, work) -> Made:
        work.progress(1, 2, "pages", "at \ud800")
        raise NotFound("expected \ud800")

    record, _ = run(stage.step(step))
    assert (record.progress.message, record.error.message) == ("at ?", "expected ?")


def test_progress_that_is_no_number_is_a_bug_of_the_step(stage, run) -> None:
    def step(request, work) -> Made:
        work.progress(float("nan"), 2, "pages")
        return Made()

    record, _ = run(stage.step(step))
    assert record.error.message.startswith("internal: ValueError: progress must be finite")


def test_a_store_that_is_away_while_an_attempt_is_counted_is_waited_for(
    stage, run, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, failures = stage.operations.write, [Unavailable("store down")] * 3

    def write_later(stored, record):
        if record.retries and failures:
            raise failures.pop()
        return write(stored, record)

    monkeypatch.setattr(stage.operations, "write", write_later)
    record, _ = run(stage.step(raises(Unavailable("lm down"))))
    assert (record.state, record.retries) == (State.SUCCEEDED, 1)
