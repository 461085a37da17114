"""Move `live`: load weights, read their digest back, change the registry, show them, tell all.

Here because a promotion by a round, a promotion by hand and a rollback are one movement in one
order: nothing is live that no host has loaded and digested.
"""

import logging
from collections.abc import Callable
from datetime import UTC, datetime

from libs.artifacts import Artifact, Artifacts
from libs.clock import Clock
from libs.errors import Conflict, ServiceError
from libs.formats import read_json
from libs.lm.port import Lm
from services.loop.outcome import Outcome
from services.loop.ports import Front
from services.loop.registry import (
    Entry,
    Model,
    Models,
    Registry,
    Signature,
    check_promotion,
    check_signature,
    last_move,
    promote,
    register,
    roll_back,
    roll_back_target,
)

_log = logging.getLogger(__name__)


class Serving:
    """Changes the registry of models, and what is live."""

    def __init__(
        self,
        models: Models,
        *,
        lm: Lm,
        front: Front,
        artifacts: Artifacts,
        clock: Clock,
        tell: Callable[[Entry], None],
    ) -> None:
        """Use the parts; `tell` publishes a move of `live`."""
        self._models = models
        self._lm = lm
        self._front = front
        self._artifacts = artifacts
        self._clock = clock
        self._tell = tell

    def register(self, decision: Artifact, round_name: str, who: str) -> None:
        """Take in the candidate that a decision was taken on; safe to repeat."""
        document = read_json(decision.path("decision.json"))
        checkpoint = self._artifacts.open(document["checkpoint_id"], kind="checkpoint")
        model = Model(
            weights_digest=digest_of(checkpoint),
            checkpoint_id=checkpoint.id,
            status=document["outcome"],
            round=round_name,
            decisions=(decision.id,),
        )
        by = self._signed(who, document["reason"])
        self._models.change(lambda registry: register(registry, model, by))

    def serve(self, checkpoint: Artifact, decision: Artifact, who: str) -> Entry:
        """Serve what a decision promotes, once: repeated, it moves nothing that has moved on.

        Raises:
            Conflict: the decision does not promote, or is about another checkpoint.
            NotFound, Corrupt: the host cannot load the weights, or holds others.
            Unavailable: a server does not show them yet; the registry has moved.
        """
        document = read_json(decision.path("decision.json"))
        if document["outcome"] != Outcome.PROMOTED:
            raise Conflict(f"decision {decision.id[:12]} does not promote: {document['outcome']}")
        if document["checkpoint_id"] != checkpoint.id:
            about = f"expected {document['checkpoint_id']}, got {checkpoint.id}"
            raise Conflict(f"decision {decision.id[:12]} is about another checkpoint: {about}")
        digest = digest_of(checkpoint)
        self._lm.load(digest)
        by = self._signed(who, document["reason"])
        registry = self._models.change(
            lambda registry: promote(registry, digest, by, cause=decision.id)
        )
        self._front.converge(self._live)
        entry = next(each for each in registry.audit if each.cause == decision.id)
        self._tell(entry)
        return entry

    def promote(self, digest: str, who: str, why: str, *, force: bool) -> Registry:
        """Move `live` forward by hand.

        Raises:
            InvalidInput: without who or why, or the digest names several models.
            NotFound: no model has the digest, or the host cannot load it.
            Conflict: a round rejected it, and `force` is not set.
        """
        check_signature(who, why)
        model = self._models.read().model(digest)
        check_promotion(model, force=force)
        self._lm.load(model.weights_digest)
        by = self._signed(who, why)
        return self._moved(lambda registry: promote(registry, model.weights_digest, by))

    def roll_back(self, digest: str, who: str, why: str) -> Registry:
        """Move `live` back to an earlier model, by default the one before.

        Raises:
            InvalidInput: without who or why.
            Conflict: there is none.
        """
        check_signature(who, why)
        target = roll_back_target(self._models.read(), digest).weights_digest
        self._lm.load(target)
        by = self._signed(who, why)
        return self._moved(lambda registry: roll_back(registry, target, by))

    def _moved(self, change: Callable[[Registry], Registry]) -> Registry:
        registry = self._models.change(change)
        try:
            self._front.converge(self._live)
        except ServiceError as error:  # it has moved: `keeper` shows it when it can
            _log.warning("not every server shows what is live now: %s", error)
        self._tell(last_move(registry))
        return registry

    def _live(self) -> str:
        return self._models.read().live.weights_digest

    def _signed(self, who: str, why: str) -> Signature:
        when = datetime.fromtimestamp(self._clock.now(), UTC).isoformat()
        return Signature(when=when, who=who or "loop", why=why)


def candidate_of(comparison: Artifact, artifacts: Artifacts, *, exam_id: str) -> Artifact:
    """Return the checkpoint that a comparison on an exam is about, along its inputs.

    Raises:
        NotFound, InvalidInput: the lineage is broken, or of other kinds than expected.
        Conflict: it sat another exam, so that a decision would wear out the wrong one.
    """
    inputs = comparison.manifest.inputs
    responses = artifacts.open(inputs["candidate"], kind="responses")
    sat = responses.manifest.inputs["exam"]
    if sat != exam_id:
        raise Conflict(f"comparison {comparison.id[:12]}: expected its exam {sat}, got {exam_id}")
    return artifacts.open(responses.manifest.inputs["checkpoint"], kind="checkpoint")


def digest_of(checkpoint: Artifact) -> str:
    """Return the digest of a checkpoint's weights."""
    return str(read_json(checkpoint.path("checkpoint.json"))["weights_digest"])
