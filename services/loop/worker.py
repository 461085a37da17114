"""The loop's long calls: drive a round, decide, serve, collect garbage."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict

from athanor.common.v1 import artifacts_pb2
from athanor.loop.v1 import events_pb2, loop_pb2

from libs.artifacts import Artifact
from libs.blobs.port import Blobs
from libs.blocks import Block, Interval, write_blocks
from libs.bus.events import publish
from libs.bus.port import Bus
from libs.errors import KINDS, RETRYABLE, Conflict, ServiceError
from libs.formats import read_json, write_json
from libs.operations.record import Result, operation_name
from libs.operations.step import Cancelled, Made, Step, Work
from services.loop import metrics, wear
from services.loop.binding import Bound
from services.loop.collection import Collector
from services.loop.drive import Driver, World
from services.loop.garbage import check_days
from services.loop.intake import Intake
from services.loop.outcome import Contrasts, Outcome, Rule, decide, rule_of
from services.loop.registry import Entry
from services.loop.report import Time, render
from services.loop.rounds import RoundRecord, resumed_id
from services.loop.schedule import StepState
from services.loop.serving import Serving, candidate_of, digest_of
from services.loop.summary import measured, report_document, round_document
from services.loop.topics import MODELS_PROMOTED, ROUNDS_ENDED, WEIGHTS_PUBLISHED

_ENDED = (StepState.SUCCEEDED, StepState.FAILED, StepState.CANCELLED, StepState.SKIPPED)
_log = logging.getLogger(__name__)


class RoundFailed(Conflict):
    """A step failed, and with it the round; the step's own error is in the message."""


class Steps:
    """The functions behind the loop's steps."""

    def __init__(
        self, *, world: World, intake: Intake, serving: Serving, blobs: Blobs, bus: Bus
    ) -> None:
        self._world = world
        self._intake = intake
        self._serving = serving
        self._blobs = blobs
        self._bus = bus

    def all(self) -> tuple[Step, ...]:
        """Return the steps as the framework takes them."""
        return (
            Step(
                method="StartRound",
                request=loop_pb2.StartRoundRequest,
                kind="round",
                version=1,
                run=self.run_round,
                check=self.check_round,
                announce=self.announce_round,
                waits=True,
            ),
            Step(
                method="Decide",
                request=loop_pb2.DecideRequest,
                kind="decision",
                version=2,
                run=self.decide,
                check=check_decide,
                announce=self.announce_decision,
            ),
            Step(
                method="Serve",
                request=loop_pb2.ServeRequest,
                kind="serving",
                version=1,
                run=self.serve,
            ),
        )

    # StartRound

    def check_round(self, request: loop_pb2.StartRoundRequest) -> list[str]:
        """Raise `InvalidInput` with every fault of the recipe."""
        return [f"runs {' -> '.join(self._intake.bound(request.recipe_yaml).steps)}"]

    def run_round(self, request: loop_pb2.StartRoundRequest, work: Work) -> Made:
        """Drive the round to its end, and sum it up.

        Raises:
            Cancelled: a person asked for it.
            RoundFailed: a step failed in a way that trying again does not mend.
        """
        bound = self._intake.bound(request.recipe_yaml)
        record = self._world.rounds.get(_round_id(request.request_id))
        with _counted(record) as show:
            driver = Driver(self._world, bound, record)
            record = driver.run(lambda: _is_cancelled(work), lambda seen: _show(work, seen, show))
            show(record)
        metrics.ROUNDS_ENDED.labels(str(record.outcome)).inc()
        metrics.ROUND_DURATION.observe(record.duration_s)
        self._write_page(bound, record)
        if record.outcome is Outcome.CANCELLED:
            raise Cancelled(record.reason)
        if record.outcome is Outcome.FAILED:
            raise _failure(record)
        report = report_document(bound, record, work.artifacts)
        write_json(work.out / "round.json", round_document(bound, record))
        write_json(work.out / "report.json", report)
        (work.out / "report.html").write_bytes(render(report))
        return Made(outcome=str(record.outcome), reason=record.reason, measured=measured(record))

    def announce_round(self, artifact: Artifact, result: Result) -> None:
        """Publish that the round ended."""
        name = str(artifact.run()["round"])
        event = events_pb2.RoundEnded(
            round=name, outcome=result.outcome, reason=result.reason, artifact_id=artifact.id
        )
        publish(self._bus, ROUNDS_ENDED.name, name, event, source="loop")

    def _write_page(self, bound: Bound, record: RoundRecord) -> None:
        """Write the page for a person, with times: outside the artifact, and for failures too."""
        try:
            report = report_document(bound, record, self._world.artifacts)
        except KINDS as error:
            # A page less is no reason to lose a round that may have failed for the same reason.
            _log.warning("%s: no report: %s", record.name, error)
            return
        times = [
            Time(step.name, step.duration_s, step.cached)
            for step in record.steps
            if step.state is StepState.SUCCEEDED
        ]
        write_page(self._blobs, record.id, render(report, times))

    # Decide

    def decide(self, request: loop_pb2.DecideRequest, work: Work) -> Made:
        """Decide from a comparison, and count the decision against the exam.

        Raises:
            Conflict: the decision half has served as many decisions as it may, or the comparison is
                on another exam.
        """
        rule = _rule(request)
        comparison = work.artifacts.open(request.comparison_id, kind="comparison")
        found = Contrasts.of(read_json(comparison.path("comparison.json")))
        candidate = candidate_of(comparison, work.artifacts, exam_id=request.exam_id)
        exam = read_json(work.artifacts.open(request.exam_id, kind="exam").path("exam.json"))
        limit = exam.get("max_decisions") or wear.DEFAULT_MAX_DECISIONS
        # Two exams that ask the same wear out together.
        half = exam.get("decision_sha256") or request.exam_id
        count = wear.spend(self._blobs, half, work.request.digest, limit=limit)
        decision = decide(found, rule)
        contrasts = {name: value for name, value in asdict(found).items() if value is not None}
        document = {
            "outcome": decision.outcome,
            "reason": decision.reason,
            "cause": decision.cause,
            "attribution": decision.attribution,
            "contrasts": contrasts,
            "rule": asdict(rule) | {"require": sorted(rule.require)},
            "checkpoint_id": candidate.id,
            "weights_digest": digest_of(candidate),
        }
        write_json(work.out / "decision.json", document)
        write_blocks(work.out, _decision_blocks(decision.reason, found))
        return Made(
            outcome=decision.outcome,
            reason=decision.reason,
            figures={"gain_points": round(100 * found.gain.estimate, 2)},
            measured={"round": _round_of_step(request.request_id), "num_decisions": count},
        )

    def announce_decision(self, artifact: Artifact, result: Result) -> None:
        """Register the candidate."""
        self._serving.register(artifact, str(artifact.run().get("round", "")), "loop")

    # Serve

    def serve(self, request: loop_pb2.ServeRequest, work: Work) -> Made:
        """Load the candidate, and move `live` to it."""
        checkpoint = work.artifacts.open(request.checkpoint_id, kind="checkpoint")
        decision = work.artifacts.open(request.decision_id, kind="decision")
        entry = self._serving.serve(checkpoint, decision, request.who)
        document = {
            "weights_digest": entry.weights_digest,
            "checkpoint_id": checkpoint.id,
            "decision_id": decision.id,
        }
        write_json(work.out / "serving.json", document)
        return Made(measured={"previous_weights_digest": entry.previous, "who": entry.who})


def collection(collector: Collector) -> Step:
    """Return the long call that deletes garbage; it makes no artifact, which would be garbage."""

    def check(request: artifacts_pb2.CollectGarbageRequest) -> Sequence[str]:
        check_days(request.rounds_older_than_days)
        return ()

    def run(request: artifacts_pb2.CollectGarbageRequest, work: Work) -> Made:
        done = collector.collect(
            work.operation,
            tell=lambda seen: work.progress(seen.num_deleted, seen.num_due, "artifacts"),
            rounds_older_than_days=request.rounds_older_than_days,
        )
        figures = {"num_artifacts": done.num_deleted, "size_bytes": done.size_bytes}
        return Made(figures=figures)

    return Step(
        method="CollectGarbage",
        request=artifacts_pb2.CollectGarbageRequest,
        kind="",
        version=1,
        run=run,
        check=check,
    )


def tell(bus: Bus, entry: Entry) -> None:
    """Publish that `live` moved, and count it."""
    event = events_pb2.ModelPromoted(
        weights_digest=entry.weights_digest,
        previous_weights_digest=entry.previous,
        who=entry.who,
        why=entry.why,
    )
    # The same model may truly become live twice; the moment tells the moves apart.
    event_id = f"{entry.weights_digest[:32]}.{entry.when}"
    topic = MODELS_PROMOTED.name
    publish(bus, topic, entry.weights_digest, event, source="loop", event_id=event_id)
    metrics.LIVE_MOVES.labels(entry.action).inc()


def tell_published(bus: Bus, model: str, version: int, weights_digest: str) -> None:
    """Publish that the store holds weights which servers are about to load."""
    event = events_pb2.WeightsPublished(model=model, version=version, weights_digest=weights_digest)
    publish(bus, WEIGHTS_PUBLISHED.name, model, event, source="loop")


def page_name(round_id: str) -> str:
    """Return the name of the blob with a round's page for a person."""
    return f"reports/{round_id}.html"


def write_page(blobs: Blobs, round_id: str, page: bytes) -> None:
    """Store the page, in the place of an earlier one of a round that was resumed."""
    try:
        blobs.create(page_name(round_id), page)
    except Conflict:
        blobs.replace_if(page_name(round_id), page, etag=blobs.stat(page_name(round_id)).etag)


def _round_id(request_id: str) -> str:
    name = operation_name("loop", "StartRound", request_id)
    return resumed_id(request_id) or name.rpartition("/")[2]


def _round_of_step(request_id: str) -> str:
    """Return the round that asked for a step, by the form of its request ids; empty: none did."""
    parts = request_id.split(".")
    return f"rounds/{parts[0]}" if len(parts) == 3 and len(parts[0]) == 32 else ""


def _is_cancelled(work: Work) -> bool:
    try:
        work.check()
    except Cancelled:
        return True
    return False


def _show(work: Work, record: RoundRecord, count: Callable[[RoundRecord], None]) -> None:
    count(record)
    ended = [
        step for step in record.steps if step.state in (StepState.SUCCEEDED, StepState.SKIPPED)
    ]
    running = [step for step in record.steps if step.state is StepState.RUNNING]
    message = ", ".join(
        f"{step.name} {step.completed:,.0f}/{step.total:,.0f} {step.unit}"
        if step.total
        else step.name
        for step in running
    )
    try:
        work.progress(len(ended), len(record.steps), "steps", message)
    except Cancelled:
        return  # seen again before the next look, where it is answered


@contextmanager
def _counted(record: RoundRecord) -> Iterator[Callable[[RoundRecord], None]]:
    """Count the steps that end, and those that run, from what is shown of a round."""
    before = [record]
    metrics.STEPS_RUNNING.inc(_num_running(record))

    def count(seen: RoundRecord) -> None:
        metrics.STEPS_RUNNING.inc(_num_running(seen) - _num_running(before[0]))
        for old, new in zip(before[0].steps, seen.steps, strict=True):
            if old.state is not new.state and new.state in _ENDED:
                metrics.STEPS_ENDED.labels(new.rpc, new.state).inc()
        before[0] = seen

    try:
        yield count
    finally:
        metrics.STEPS_RUNNING.dec(_num_running(before[0]))


def _num_running(record: RoundRecord) -> int:
    return sum(step.state is StepState.RUNNING for step in record.steps)


def _failure(record: RoundRecord) -> ServiceError:
    """Return the error that the round's operation fails with: the step's own, or `RoundFailed`.

    One that could be tried again is not, here: the round has waited for as long as it waits, and
    a person resumes it.
    """
    kinds = {kind.__name__: kind for kind in KINDS if kind not in RETRYABLE}
    if record.error is not None and record.error.kind in kinds:
        return kinds[record.error.kind](record.reason)
    kind = record.error.kind if record.error else "unknown"
    return RoundFailed(f"{record.reason} ({kind}); resume the round once that is mended")


def _decision_blocks(reason: str, found: Contrasts) -> list[Block]:
    named = {
        "gain": found.gain,
        "guard": found.guard,
        "targeting": found.targeting,
        "control gain": found.control_gain,
    }
    intervals = [
        Interval(name, each.estimate, each.low, each.high, f"{each.num_discordant} discordant")
        for name, each in named.items()
        if each is not None
    ]
    return [
        Block(
            kind="intervals",
            title="What was decided",
            text=reason,
            intervals=intervals,
            x_label="difference in share of right answers",
            zero_line=True,
        )
    ]


def check_decide(request: loop_pb2.DecideRequest) -> Sequence[str]:
    """Refuse a rule that no comparison could be decided by."""
    _rule(request)
    return []


def _rule(request: loop_pb2.DecideRequest) -> Rule:
    return rule_of(
        request.require, request.guard_margin, request.min_discordant_pairs, request.manual
    )
