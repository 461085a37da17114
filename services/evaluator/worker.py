"""The evaluator's long calls: artifacts in, core, artifacts out."""

import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from athanor.evaluator.v1 import evaluator_pb2 as pb
from athanor.evaluator.v1 import events_pb2

from libs.artifacts import Artifact
from libs.blobs.port import Blobs
from libs.blocks import write_blocks
from libs.bus import events
from libs.bus.port import Bus
from libs.digests import file_sha256
from libs.errors import Conflict, InvalidInput
from libs.formats import PASSAGES, QUERIES, read_json, read_rows, write_json, write_table
from libs.lm.port import Lm
from libs.operations.record import Result
from libs.operations.step import Made, Step, Work
from services.evaluator import report
from services.evaluator.build_items import DEFAULT_MAX_ITEMS, MIN_ITEMS, build_items, passage_of
from services.evaluator.compare import compare
from services.evaluator.diagnose import DEFAULT_MAX_TOPICS, Rule, diagnose, missed, seed_row
from services.evaluator.exam_files import Terms, registration_of, write_exam, write_exam_set
from services.evaluator.exams import DEFAULT_MAX_DECISIONS, check_name, register, registered
from services.evaluator.import_items import import_items
from services.evaluator.intervals import DEFAULT_NUM_DRAWS, Bootstrap, Difference
from services.evaluator.items import Half, halved, read_items
from services.evaluator.metrics import ITEMS_PER_SECOND, ROUNDS_ENDED
from services.evaluator.notes import exam_notes, rule_notes
from services.evaluator.power import DEFAULT_DISCORDANCE, DEFAULT_GAIN, DEFAULT_POWER
from services.evaluator.score import DEFAULT_BATCH_SIZE, batches, score
from services.evaluator.sitting import open_sitting, sit, write_sitting
from services.evaluator.topics import EXAMS_REGISTERED, EXAMS_SCORED
from services.evaluator.weak import DEFAULT_MIN_ITEMS

_HALVES = {pb.HALF_DIAGNOSIS: Half.DIAGNOSIS, pb.HALF_DECISION: Half.DECISION}


def steps(*, blobs: Blobs, bus: Bus, lm: Lm) -> tuple[Step, ...]:
    """Return the long calls of the service."""
    announce_exam = partial(_announce_exam, blobs, bus)
    return (
        Step(
            method="BuildExam",
            request=pb.BuildExamRequest,
            kind="exam",
            version=1,
            run=_build_exam,
            check=_check_build_exam,
            announce=announce_exam,
        ),
        Step(
            method="ImportExam",
            request=pb.ImportExamRequest,
            kind="exam",
            version=1,
            run=_import_exam,
            check=_check_import_exam,
            announce=announce_exam,
        ),
        Step(
            method="FreezeExams",
            request=pb.FreezeExamsRequest,
            kind="exam_set",
            version=1,
            run=partial(_freeze_exams, blobs),
        ),
        Step(
            method="Examine",
            request=pb.ExamineRequest,
            kind="responses",
            version=2,
            run=partial(_examine, lm),
            check=_check_examine,
            announce=partial(_announce_responses, bus),
        ),
        Step(
            method="Diagnose",
            request=pb.DiagnoseRequest,
            kind="diagnosis",
            version=2,
            run=_diagnose,
            check=_check_diagnose,
        ),
        Step(
            method="Compare",
            request=pb.CompareRequest,
            kind="comparison",
            version=2,
            run=_compare,
            check=_check_compare,
        ),
    )


def _check_build_exam(request: pb.BuildExamRequest) -> Sequence[str]:
    check_name(request.name)
    if request.max_items and request.max_items < MIN_ITEMS:
        raise InvalidInput(f"max_items must be 0 or at least {MIN_ITEMS}, got {request.max_items}")
    return ()


def _build_exam(request: pb.BuildExamRequest, work: Work) -> Made:
    documents = work.artifacts.open(request.documents_id, kind="documents")
    rows = read_rows(documents.path("passages.parquet"), PASSAGES)
    work.progress(0, len(rows), "passages", "looking for passages that nothing repeats")
    built = build_items(
        [passage_of(row) for row in rows],
        max_items=request.max_items or DEFAULT_MAX_ITEMS,
        seed=request.seed,
    )
    work.progress(len(rows), len(rows), "passages")
    return Made(figures=write_exam(work.out, _terms(request), built.items, built.holdout))


def _check_import_exam(request: pb.ImportExamRequest) -> Sequence[str]:
    check_name(request.name)
    return exam_notes(halved(import_items(Path(request.path))))


def _import_exam(request: pb.ImportExamRequest, work: Work) -> Made:
    path = Path(request.path)
    items = import_items(path)
    work.progress(len(items), len(items), "items")
    figures = write_exam(work.out, _terms(request), items, [], source_sha256=file_sha256(path))
    return Made(figures=figures)


def _terms(request: pb.BuildExamRequest | pb.ImportExamRequest) -> Terms:
    return Terms(name=request.name, max_decisions=request.max_decisions or DEFAULT_MAX_DECISIONS)


def _announce_exam(blobs: Blobs, bus: Bus, artifact: Artifact, result: Result) -> None:
    exam = registration_of(artifact)
    register(blobs, exam)
    event = events_pb2.ExamRegistered(artifact_id=artifact.id, name=exam.name)
    events.publish(bus, EXAMS_REGISTERED.name, artifact.id, event, source="evaluator")


def _freeze_exams(blobs: Blobs, request: pb.FreezeExamsRequest, work: Work) -> Made:
    asked = work.artifacts.open(request.exam_id, kind="exam")
    ids = sorted({asked.id, *(exam.exam_id for exam in registered(blobs))})
    work.progress(0, len(ids), "exams")
    exams = [work.artifacts.open(exam_id, kind="exam") for exam_id in ids]
    return Made(figures=write_exam_set(work.out, exams))


def _check_examine(request: pb.ExamineRequest) -> Sequence[str]:
    if request.half not in _HALVES:
        raise InvalidInput(f"half must be HALF_DIAGNOSIS or HALF_DECISION, got {request.half}")
    return ()


def _examine(lm: Lm, request: pb.ExamineRequest, work: Work) -> Made:
    checkpoint = work.artifacts.open(request.checkpoint_id, kind="checkpoint")
    digest = str(read_json(checkpoint.path("checkpoint.json"))["weights_digest"])
    exam = work.artifacts.open(request.exam_id, kind="exam")
    half = _HALVES[request.half]
    items = read_items(exam.path("items.parquet"))[half]
    lm.load(digest)
    started = time.monotonic()
    responses = sit(
        batches(items, request.batch_size or DEFAULT_BATCH_SIZE),
        lambda batch: score(batch, partial(lm.log_likelihood, digest), digest),
        work.scratch,
        lambda done: work.progress(done, len(items), "items"),
    )
    rate = len(items) / max(time.monotonic() - started, 1e-9)
    ITEMS_PER_SECOND.set(rate)
    figures = write_sitting(work.out, exam.id, half, responses)
    return Made(figures=figures, measured={"items_per_second": round(rate, 2)})


def _announce_responses(bus: Bus, artifact: Artifact, result: Result) -> None:
    accuracy = read_json(artifact.path("accuracy.json"))
    event = events_pb2.ExamScored(
        artifact_id=artifact.id,
        weights_digest=accuracy["weights_digest"],
        num_items=accuracy["overall"]["num_items"],
        accuracy=accuracy["overall"]["estimate"],
    )
    events.publish(bus, EXAMS_SCORED.name, artifact.id, event, source="evaluator")


def _check_diagnose(request: pb.DiagnoseRequest) -> Sequence[str]:
    return rule_notes(_rule(request))


def _rule(request: pb.DiagnoseRequest) -> Rule:
    return Rule(
        min_items=request.min_items_per_topic or DEFAULT_MIN_ITEMS,
        max_topics=request.max_topics or DEFAULT_MAX_TOPICS,
        hoped_gain=request.hoped_gain or DEFAULT_GAIN,
        discordance=request.assumed_discordance or DEFAULT_DISCORDANCE,
        power=request.power or DEFAULT_POWER,
    )


def _diagnose(request: pb.DiagnoseRequest, work: Work) -> Made:
    exam = work.artifacts.open(request.exam_id, kind="exam")
    responses = open_sitting(work.artifacts, request.responses_id, exam.id, Half.DIAGNOSIS)
    items = read_items(exam.path("items.parquet"))
    diagnosis = diagnose(responses, items[Half.DECISION], _rule(request))
    wrong = list(missed(responses, diagnosis.target_topics))
    stems = {item.item_id: item.stem for item in items[Half.DIAGNOSIS]}
    seeds = [seed_row(each, stems[each.item_id]) for each in wrong]
    write_table(
        work.out / "seeds.parquet", QUERIES, sorted(seeds, key=lambda row: str(row["query_id"]))
    )
    write_json(work.out / "diagnosis.json", diagnosis.to_json(exam.id))
    write_blocks(work.out, report.diagnosis_blocks(diagnosis, wrong))
    if diagnosis.outcome:
        ROUNDS_ENDED.labels(diagnosis.outcome).inc()
    figures = {
        "mean_accuracy": diagnosis.mean_accuracy,
        "num_weak_topics": len(diagnosis.weak_topics),
        "num_target_topics": len(diagnosis.target_topics),
        "num_seeds": len(seeds),
        **{f"power_of_{each.contrast}": each.power for each in diagnosis.contrasts},
    }
    return Made(outcome=diagnosis.outcome or "", reason=diagnosis.reason, figures=figures)


def _check_compare(request: pb.CompareRequest) -> Sequence[str]:
    _bootstrap(request)
    return ()


def _bootstrap(request: pb.CompareRequest) -> Bootstrap:
    return Bootstrap(num_draws=request.num_draws or DEFAULT_NUM_DRAWS, seed=request.seed)


def _compare(request: pb.CompareRequest, work: Work) -> Made:
    found = work.artifacts.open(request.diagnosis_id, kind="diagnosis")
    diagnosis = read_json(found.path("diagnosis.json"))
    exam_id, targets = diagnosis["exam_id"], diagnosis["target_topics"]
    opened = partial(open_sitting, work.artifacts, exam_id=exam_id, half=Half.DECISION)
    old, candidate = opened(request.old_id), opened(request.candidate_id)
    control = opened(request.control_id) if request.control_id else None
    if old[0].weights_digest != diagnosis["weights_digest"]:
        raise Conflict(
            f"expected the old checkpoint to be the one diagnosed, weights "
            f"{diagnosis['weights_digest']}, got {old[0].weights_digest}"
        )
    work.progress(0, len(old), "items", "comparing")
    comparison = compare(old, candidate, control, targets, _bootstrap(request))
    exam = read_json(work.artifacts.open(exam_id, kind="exam").path("exam.json"))
    wear = {name: exam[name] for name in ("decision_sha256", "max_decisions")}
    write_json(work.out / "comparison.json", comparison.to_json() | {"exam_id": exam_id} | wear)
    write_blocks(work.out, report.comparison_blocks(comparison))
    contrasts = {
        "gain": comparison.gain,
        "guard": comparison.guard,
        "targeting": comparison.targeting,
        "control_gain": comparison.control_gain,
    }
    return Made(figures=_figures({name: each for name, each in contrasts.items() if each}))


def _figures(contrasts: Mapping[str, Difference]) -> dict[str, float]:
    return {
        f"{name}{suffix}": value
        for name, each in contrasts.items()
        for suffix, value in (("", each.estimate), ("_low", each.low), ("_high", each.high))
    }
