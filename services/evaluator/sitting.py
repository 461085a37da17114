"""One model sits one half of an exam: batch after batch, kept as it goes, and written down.

An examination of minutes that a kill would throw away would be sat again from the start; here the
next attempt goes on after the last batch that was answered, with the same bits.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from libs.artifacts import Artifacts
from libs.blocks import write_blocks
from libs.errors import Conflict
from libs.formats import read_json, write_json
from services.evaluator.accuracy import TopicAccuracy, accuracy_by_topic, topic_accuracy
from services.evaluator.items import Half, Item
from services.evaluator.metrics import ITEMS_ANSWERED, ITEMS_RESUMED
from services.evaluator.report import accuracy_blocks
from services.evaluator.score import Response, read_responses, response_of, write_responses


def sit(
    cut: Sequence[Sequence[Item]],
    answer: Callable[[Sequence[Item]], Sequence[Response]],
    kept: Path,
    tell: Callable[[int], None],
) -> list[Response]:
    """Answer batch after batch, in order; a batch whose answers are kept is not asked again.

    Args:
        cut: the batches.
        kept: folder of this sitting's answers, a file a batch; it survives attempts.
        tell: called with the items answered so far, before each batch and at the end.
    """
    responses: list[Response] = []
    for index, batch in enumerate(cut):
        tell(len(responses))
        marker = kept / f"batch-{index:05}.json"
        if marker.exists():
            ITEMS_RESUMED.inc(len(batch))
            responses += [response_of(row) for row in read_json(marker)]
            continue
        answered = answer(batch)
        ITEMS_ANSWERED.inc(len(batch))
        responses += answered
        part = marker.with_suffix(".part")
        write_json(part, [vars(each) for each in answered])
        part.replace(marker)
    tell(len(responses))
    return responses


def write_sitting(
    out: Path, exam_id: str, half: Half, responses: Sequence[Response]
) -> dict[str, float]:
    """Write the files of an examination, of at least one response, and return its figures."""
    overall = topic_accuracy("", sum(each.correct for each in responses), len(responses))
    topics = accuracy_by_topic(responses)
    digest = responses[0].weights_digest
    accuracy = {
        "exam_id": exam_id,
        "half": half,
        "weights_digest": digest,
        "overall": _accuracy(overall),
        "topics": {each.topic: _accuracy(each) for each in topics},
    }
    write_responses(out / "responses.parquet", responses)
    write_json(out / "accuracy.json", accuracy)
    write_blocks(out, accuracy_blocks(half, digest, overall, topics))
    return {
        "num_items": overall.num_items,
        "accuracy": overall.share.estimate,
        "accuracy_low": overall.share.low,
        "accuracy_high": overall.share.high,
        "num_items_with_cut_stem": sum(each.num_stem_tokens_cut > 0 for each in responses),
    }


def open_sitting(
    artifacts: Artifacts, responses_id: str, exam_id: str, half: Half
) -> list[Response]:
    """Return the responses of an artifact, by item id.

    Raises:
        Conflict: they are responses to another exam or half.
    """
    artifact = artifacts.open(responses_id, kind="responses")
    accuracy = read_json(artifact.path("accuracy.json"))
    for name, expected in (("exam_id", exam_id), ("half", half)):
        if accuracy[name] != expected:
            raise Conflict(
                f"responses {responses_id}: expected {name} {expected}, got {accuracy[name]}"
            )
    return read_responses(artifact.path("responses.parquet"))


def _accuracy(accuracy: TopicAccuracy) -> dict[str, float]:
    counts = {"num_items": accuracy.num_items, "num_right": accuracy.num_right}
    return {**counts, **accuracy.share._asdict()}
