"""Opens what a training is to begin from and checks it before a model is made."""

from pathlib import Path
from typing import Any

import numpy as np

from libs import formats
from libs.artifacts import Artifact, Artifacts
from libs.digests import file_sha256
from libs.errors import NotFound
from libs.formats import Certificate
from services.trainer.certificate import Source, check_draws, check_source


def check_plan(
    artifacts: Artifacts, plan_id: str, *, exam_set_id: str, tokenizer_sha256: str
) -> None:
    """Check that a model with this tokenizer may learn this plan in a round with these exams.

    Raises:
        NotFound: an artifact is absent.
        InvalidInput: an artifact is of another kind.
        Conflict: see `certificate`.
    """
    artifacts.open(exam_set_id, kind="exam_set")
    plan = artifacts.open(plan_id, kind="plan")
    sources = _sources(artifacts, plan)
    for source in sources:
        check_source(source, exam_set_id=exam_set_id, tokenizer_sha256=tokenizer_sha256)
    draws = np.load(plan.path("draws.npy"))
    if len(draws):
        total = sum(len(source.passage_ids) for source in sources)
        check_draws(int(draws.min()), int(draws.max()), total)


def tokenizer_sha256(folder: Path) -> str:
    """Return the digest that tells one tokenizer from another: of `tokenizer.json`."""
    return file_sha256(folder / "tokenizer.json")


def _sources(artifacts: Artifacts, plan: Artifact) -> list[Source]:
    fields = formats.read_json(plan.path("plan.json"))
    sources = [_source(artifacts, plan, "target", fields["tokens_id"], "certificate.json")]
    if replay_id := fields.get("replay_tokens_id"):
        sources.append(_source(artifacts, plan, "replay", replay_id, "certificate_replay.json"))
    return sources


def _source(
    artifacts: Artifacts, plan: Artifact, name: str, tokens_id: str, certificate: str
) -> Source:
    tokens = artifacts.open(tokens_id, kind="tokens")
    counts = formats.read_table(tokens.path("token_counts.parquet"), formats.TOKEN_COUNTS)
    made_by: dict[str, Any] = formats.read_json(tokens.path("tokens.json"))
    return Source(
        name=name,
        passage_ids=counts["passage_id"].to_pylist(),
        tokenizer_sha256=made_by["tokenizer_sha256"],
        certificate=_certificate(plan, certificate),
    )


def _certificate(plan: Artifact, name: str) -> Certificate | None:
    try:
        path = plan.path(name)
    except NotFound:
        return None
    return Certificate.read(path)
