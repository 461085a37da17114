"""Commands in, artifacts out: tokenize, cluster, plan."""

import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from athanor.sampler.v1 import events_pb2, sampler_pb2

from libs.artifacts import Artifact, Artifacts
from libs.blocks import write_blocks
from libs.bus.events import publish
from libs.bus.port import Bus
from libs.errors import Conflict, InvalidInput
from libs.formats import write_json
from libs.operations.record import Result
from libs.operations.step import Made, Step, Work
from services.sampler import metrics, report
from services.sampler.cluster import (
    Clustering,
    Floats,
    default_num_clusters,
    spherical_kmeans,
)
from services.sampler.embed import embed, top_terms
from services.sampler.labels import read_labels, read_terms, write_clustering
from services.sampler.plan import (
    DEFAULT_CLIP,
    Plan,
    PlanSpec,
    Source,
    Starved,
    Weighting,
    make_plan,
)
from services.sampler.tokens import (
    Tokens,
    certified_passages,
    open_tokens,
    passage_ids,
    write_tokens,
)
from services.sampler.topics import PLANS_MADE

STARVED = "starved"
_DEFAULT_DIMENSIONS = 256
_DEFAULT_PASSES = 50
_LIMITS = {"num_clusters": 65_535, "dimensions": 4_096, "max_iterations": 10_000}
_WEIGHTINGS = {
    sampler_pb2.WEIGHTING_CLUSTER_CLIP: Weighting.CLUSTER_CLIP,
    sampler_pb2.WEIGHTING_UNIFORM: Weighting.UNIFORM,
    sampler_pb2.WEIGHTING_PROPORTIONAL: Weighting.PROPORTIONAL,
}


def steps(bus: Bus) -> tuple[Step, ...]:
    """Return the sampler's long calls; plans are announced on `bus`."""

    def announce(artifact: Artifact, result: Result) -> None:
        if result.outcome != STARVED:
            event = _plan_made(artifact, result)
            publish(bus, PLANS_MADE.name, artifact.id, event, source="sampler")

    return (
        Step(
            method="Tokenize",
            request=sampler_pb2.TokenizeRequest,
            kind="tokens",
            version=1,
            run=tokenize,
        ),
        Step(
            method="Cluster",
            request=sampler_pb2.ClusterRequest,
            kind="clustering",
            version=3,
            run=cluster,
            check=check_cluster,
        ),
        Step(
            method="Plan",
            request=sampler_pb2.PlanRequest,
            kind="plan",
            version=1,
            run=plan,
            check=check_plan,
            announce=announce,
        ),
    )


def tokenize(request: sampler_pb2.TokenizeRequest, work: Work) -> Made:
    """Encode certified passages. Raises as `tokens.write_tokens`."""
    started = time.perf_counter()
    info = write_tokens(
        work.artifacts.open(request.passages_id, kind="passages"),
        work.artifacts.open(request.tokenizer_id, kind=("tokenizer", "checkpoint")),
        work.out,
        tokenizer_id=request.tokenizer_id,
        on_progress=lambda done, total: work.progress(done, total, "passages"),
    )
    rate = info.num_tokens / (time.perf_counter() - started)
    metrics.TOKENS.labels("Tokenize").inc(info.num_tokens)
    metrics.TOKENS_PER_SECOND.labels("Tokenize").set(rate)
    return Made(figures={"num_tokens": info.num_tokens}, measured={"tokens_per_second": rate})


def check_cluster(request: sampler_pb2.ClusterRequest) -> Sequence[str]:
    """Refuse what no passages could satisfy."""
    for name, limit in _LIMITS.items():
        if getattr(request, name) > limit:
            raise InvalidInput(f"{name} must lie in [0, {limit}], got {getattr(request, name)}")
    return ()


def cluster(request: sampler_pb2.ClusterRequest, work: Work) -> Made:
    """Embed and cluster certified passages; none at all is the outcome `starved`."""
    passages = certified_passages(work.artifacts.open(request.passages_id, kind="passages"))
    if not len(passages):
        return _starved("There is no passage to cluster.", work)
    started = time.perf_counter()
    work.progress(0, 0, "passes", f"embedding {len(passages):,} passages")
    dimensions = request.dimensions or _DEFAULT_DIMENSIONS
    embedding = embed(passages["text"].to_pylist(), dimensions=dimensions, seed=request.seed)
    embedded = time.perf_counter()
    found = _clustered(request, embedding.vectors, work)
    measured = {
        "embedded_per_second": len(passages) / (embedded - started),
        "seconds_per_pass": (time.perf_counter() - embedded) / len(found.losses),
    }
    terms = top_terms(embedding, found.labels)
    write_clustering(work.out, passages["passage_id"], found, terms)
    write_blocks(work.out, report.clustering_blocks(found, terms))
    metrics.CLUSTERINGS_MADE.inc()
    return Made(figures=report.clustering_figures(found), measured=measured)


def _clustered(request: sampler_pb2.ClusterRequest, vectors: Floats, work: Work) -> Clustering:
    max_passes = request.max_iterations or _DEFAULT_PASSES
    return spherical_kmeans(
        vectors,
        request.num_clusters or default_num_clusters(len(vectors)),
        seed=request.seed,
        max_passes=max_passes,
        on_pass=lambda done, loss: work.progress(done, max_passes, "passes", f"loss {loss:.4f}"),
    )


def _starved(reason: str, work: Work) -> Made:
    write_blocks(work.out, report.starved_blocks(reason))
    return Made(outcome=STARVED, reason=reason)


def check_plan(request: sampler_pb2.PlanRequest) -> Sequence[str]:
    """Refuse what no tokens could satisfy; note what will have no effect."""
    spec = spec_of(request)
    if spec.weighting is not Weighting.PROPORTIONAL and not request.clustering_id:
        raise InvalidInput(f"weighting {spec.weighting} needs clustering_id, got none")
    if spec.replay_share and not request.replay_tokens_id:
        raise InvalidInput(f"replay_share {spec.replay_share} needs replay_tokens_id, got none")
    notes = []
    if request.replay_tokens_id and not spec.replay_share:
        notes.append("replay_tokens_id has no effect: replay_share is 0")
    if spec.weighting is Weighting.UNIFORM and request.clip:
        notes.append("clip has no effect: uniform weighting is unclipped")
    return notes


def spec_of(request: sampler_pb2.PlanRequest) -> PlanSpec:
    """Translate a request.

    Raises:
        InvalidInput: a parameter is out of range.
    """
    if request.weighting not in _WEIGHTINGS:
        known = ", ".join(sampler_pb2.Weighting.keys()[1:])
        raise InvalidInput(f"weighting must be one of {known}, got {request.weighting}")
    return PlanSpec(
        weighting=_WEIGHTINGS[request.weighting],
        budget_tokens=request.budget_tokens,
        clip=request.clip or DEFAULT_CLIP,
        replay_share=request.replay_share,
        seed=request.seed,
    )


def plan(request: sampler_pb2.PlanRequest, work: Work) -> Made:
    """Plan a stream; a budget above what the clip allows is the outcome `starved`.

    Raises:
        Conflict: the clustering is of other passages than the tokens, or replay has another
            tokenizer.
    """
    check_plan(request)
    spec = spec_of(request)
    tokens = work.artifacts.open(request.tokens_id, kind="tokens")
    replay = (
        work.artifacts.open(request.replay_tokens_id, kind="tokens") if spec.replay_tokens else None
    )
    target, terms = _target(request, spec, tokens, work.artifacts)
    work.progress(0, spec.budget_tokens, "tokens", "planning")
    started = time.perf_counter()
    made = make_plan(spec, target, _replay(replay, open_tokens(tokens)))
    took_s = time.perf_counter() - started
    metrics.PLANS_MADE.inc()
    described = _described(request, spec, replay)
    if isinstance(made, Starved):
        write_json(work.out / "plan.json", described | {"starved": made.reason})
        return _starved(made.reason, work)
    shutil.copyfile(tokens.path("certificate.json"), work.out / "certificate.json")
    if replay is not None:
        shutil.copyfile(replay.path("certificate.json"), work.out / "certificate_replay.json")
    shares = report.cluster_shares(made, target, terms)
    _write_plan(work.out, made, shares, described)
    figures = report.plan_figures(made, target, shares)
    write_blocks(work.out, report.plan_blocks(spec, shares, figures))
    return Made(
        figures=figures | {"budget_tokens": spec.budget_tokens},
        measured={"draws_per_second": len(made.draws) / took_s},
    )


def _target(
    request: sampler_pb2.PlanRequest, spec: PlanSpec, tokens: Artifact, artifacts: Artifacts
) -> tuple[Source, list[list[str]]]:
    """Return what is drawn from, and the top terms of its clusters."""
    lengths = open_tokens(tokens).draw_lengths
    if not request.clustering_id:
        return Source.unclustered(lengths), []
    clustering = artifacts.open(request.clustering_id, kind="clustering")
    labels = read_labels(clustering, passage_ids(tokens))
    if spec.weighting is Weighting.PROPORTIONAL:
        return Source.unclustered(lengths), []
    return Source(lengths=lengths, labels=labels), read_terms(clustering)


def _replay(replay: Artifact | None, target: Tokens) -> Source | None:
    if replay is None:
        return None
    tokens = open_tokens(replay)
    if tokens.info.tokenizer_sha256 != target.info.tokenizer_sha256:
        raise Conflict(
            f"expected replay tokens of tokenizer {target.info.tokenizer_sha256}, got "
            f"{tokens.info.tokenizer_sha256}"
        )
    return Source.unclustered(tokens.draw_lengths)


def _described(
    request: sampler_pb2.PlanRequest, spec: PlanSpec, replay: Artifact | None
) -> dict[str, Any]:
    return {
        "tokens_id": request.tokens_id,
        "replay_tokens_id": replay.id if replay is not None else "",
        "clustering_id": request.clustering_id,
        "weighting": spec.weighting,
        "clip": spec.limit,
        "budget_tokens": spec.budget_tokens,
        "replay_share": spec.replay_share,
        "seed": spec.seed,
        "water_level": None,
        "starved": "",
        "clusters": [],
    }


def _write_plan(
    out: Path, made: Plan, shares: Sequence[report.ClusterShare], described: dict[str, Any]
) -> None:
    np.save(out / "draws.npy", made.draws)
    np.save(out / "ends.npy", made.ends)
    filled = {
        "water_level": float(made.allocation.level),
        "clusters": [asdict(share) for share in shares],
    }
    write_json(out / "plan.json", described | filled)


def _plan_made(artifact: Artifact, result: Result) -> events_pb2.PlanMade:
    return events_pb2.PlanMade(
        artifact_id=artifact.id,
        budget_tokens=int(result.figures["budget_tokens"]),
        num_clipped_clusters=int(result.figures["num_clipped_clusters"]),
    )
