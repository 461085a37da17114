"""Say of an artifact what a person wants to read of it when walking a lineage, a line each.

Here so that a checkpoint can be followed back to documents, queries and the exam items that asked
for them without opening a file. Only files of the formats that services share are read.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from libs.artifacts import Artifact
from libs.errors import Corrupt, NotFound
from libs.formats import HITS, QUERIES, read_json, read_rows, read_table

_MOST = 12
_WIDTH = 90


def notes_of(artifact: Artifact) -> list[str]:
    """Return the notes of an artifact, none for a kind that has none.

    A file that is gone, damaged or of another form is a note too: the walk goes on beyond it.
    """
    notes = _NOTES.get(artifact.manifest.kind)
    try:
        return list(notes(artifact)) if notes else []
    except (KeyError, TypeError, NotFound, Corrupt) as error:
        return [f"its notes cannot be read: {error!r}"]


def _has(artifact: Artifact, name: str) -> bool:
    return any(file.name == name for file in artifact.manifest.files)


def _figures(artifact: Artifact) -> Sequence[str]:
    figures: Mapping[str, float] = read_json(artifact.path("result.json")).get("figures", {})
    return [f"{name}: {value:g}" for name, value in sorted(figures.items())]


def _passages(artifact: Artifact) -> list[str]:
    certificate = read_json(artifact.path("certificate.json"))
    said = [
        f"{certificate['num_passages']} passages kept, {certificate['num_dropped']} dropped for an "
        f"overlap with {certificate['num_items']} exam items"
    ]
    if not _has(artifact, "queries.parquet"):
        return said
    queries = read_rows(artifact.path("queries.parquet"), QUERIES)
    hits = read_table(artifact.path("hits.parquet"), HITS).num_rows
    said.append(f"found by {len(queries)} queries with {hits} hits")
    return said + _some([_query(query) for query in _by_item(queries)], "queries")


def _by_item(queries: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Order queries so that those with an exam item behind them come first."""
    return sorted(queries, key=lambda query: (not query["item_id"], query["query_id"]))


def _query(query: Mapping[str, Any]) -> str:
    asked = f", asked for by exam item {query['item_id'][:12]}" if query["item_id"] else ""
    return f"{query['kind']} query on {query['topic'] or 'no topic'}{asked}: {_cut(query['text'])}"


def _plan(artifact: Artifact) -> list[str]:
    plan = read_json(artifact.path("plan.json"))
    said = [
        f"{plan['budget_tokens']} tokens, weighted {plan['weighting']}, clip {plan['clip']}, "
        f"replay share {plan['replay_share']:g}, seed {plan['seed']}"
    ]
    return said + _some([_cluster(each) for each in plan["clusters"]], "clusters")


def _cluster(cluster: Mapping[str, Any]) -> str:
    known = {name: value for name, value in sorted(cluster.items()) if value not in ("", [], None)}
    number = known.pop("cluster", "")
    said = ", ".join(f"{name.replace('_', ' ')} {_short(value)}" for name, value in known.items())
    return f"cluster {number}: {said}"


def _checkpoint(artifact: Artifact) -> list[str]:
    checkpoint = read_json(artifact.path("checkpoint.json"))
    return [
        f"weights {checkpoint['weights_digest']}",
        f"{checkpoint['num_parameters']} parameters, {checkpoint['num_tokens']} tokens trained on",
    ]


def _diagnosis(artifact: Artifact) -> list[str]:
    diagnosis = read_json(artifact.path("diagnosis.json"))
    return [
        f"aims at {', '.join(diagnosis['target_topics']) or 'no topic'}",
        f"weak: {', '.join(diagnosis['weak_topics']) or 'none'}",
    ]


def _exam(artifact: Artifact) -> list[str]:
    exam = read_json(artifact.path("exam.json"))
    return [f"exam {exam['name']}, {exam['num_items']} items"]


def _exam_set(artifact: Artifact) -> list[str]:
    exams = read_json(artifact.path("exam_set.json"))["exams"]
    return [f"exam {exam['name']}: {exam['exam_id']}" for exam in exams]


def _decision(artifact: Artifact) -> list[str]:
    decision = read_json(artifact.path("decision.json"))
    return [f"{decision['outcome']}: {decision['reason']}", decision["attribution"]]


def _round(artifact: Artifact) -> list[str]:
    document = read_json(artifact.path("round.json"))
    return [f"{document['recipe']}: {document['outcome']}: {document['reason']}"]


def _some(lines: Sequence[str], what: str) -> list[str]:
    left = len(lines) - _MOST
    return [*lines[:_MOST], *([f"and {left} more {what}"] if left > 0 else [])]


def _short(value: Any) -> str:
    if isinstance(value, list):
        return _cut(" ".join(str(each) for each in value))
    return f"{value:g}" if isinstance(value, float) else _cut(str(value))


def _cut(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= _WIDTH else f"{flat[: _WIDTH - 3]}..."


def _tombstone(artifact: Artifact) -> list[str]:
    stone = read_json(artifact.path("tombstone.json"))
    replaced = [
        f"{each['kind']} {each['artifact_id'][:12]} gave way to {each['replacement_id'][:12]}"
        for each in stone["replaced"]
    ]
    held = [
        f"{kind} {id_[:12]} was made from it and still stands"
        for kind, ids in sorted(stone["held_by"].items(), reverse=True)
        for id_ in ids
    ]
    return [f"document {id_[:12]} is forgotten" for id_ in stone["document_ids"]] + replaced + held


_NOTES: Mapping[str, Callable[[Artifact], Sequence[str]]] = {
    "checkpoint": _checkpoint,
    "clustering": _figures,
    "comparison": _figures,
    "decision": _decision,
    "diagnosis": _diagnosis,
    "documents": _figures,
    "exam": _exam,
    "exam_set": _exam_set,
    "passages": _passages,
    "plan": _plan,
    "responses": _figures,
    "round": _round,
    "tombstone": _tombstone,
    "tokens": _figures,
}
