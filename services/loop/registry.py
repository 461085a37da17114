"""The registry of models: what was tried, what `live` names, and who moved it when and why.

Here because one place must say which weights serve, and every move must be undoable and explained.
Pure functions over one frozen value; `Models` keeps it as `registry/models.json`.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import NamedTuple

from libs.blobs.port import Blobs
from libs.blobs.swap import standing, swap
from libs.errors import Conflict, Corrupt, InvalidInput, NotFound
from libs.formats import canonical_json
from libs.schema import Schema
from services.loop.outcome import Outcome

SCHEMA = Schema(name="the registry of models", version=1)
_BLOB = "registry/models.json"


@dataclass(frozen=True, kw_only=True)
class Model:
    """One model that a round decided on."""

    weights_digest: str
    checkpoint_id: str
    status: str
    """Outcome of the decision taken last, or `promoted` once it was live."""
    round: str
    """`rounds/<id>` that made it."""
    decisions: tuple[str, ...] = ()
    """Artifacts, kind `decision`, taken on it."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One change, for the audit."""

    when: str
    """RFC 3339, wall clock."""
    who: str
    action: str
    """`registered`, `promoted`, `rolled_back`."""
    weights_digest: str
    previous: str
    """What `live` named before; empty: nothing, or it did not move."""
    why: str
    cause: str = ""
    """Decision that asked for it; empty: a person did."""


class Signature(NamedTuple):
    """Who changes the registry, when and why."""

    when: str
    who: str
    why: str


@dataclass(frozen=True, kw_only=True)
class Registry:
    """All models, oldest first; what is live is the last of `history`."""

    models: tuple[Model, ...] = ()
    history: tuple[str, ...] = ()
    """Digests that `live` named; a rollback takes the last ones off."""
    audit: tuple[Entry, ...] = ()
    revision: int = 0

    @property
    def live(self) -> Model:
        """The model that serves. Raises `NotFound` before the first promotion."""
        if not self.history:
            raise NotFound("no model is live: none was promoted yet")
        return self.model(self.history[-1])

    def model(self, prefix: str) -> Model:
        """Return the model whose digest begins so.

        Raises:
            NotFound: there is none.
            InvalidInput: an empty prefix, or several begin so.
        """
        if not prefix:
            raise InvalidInput("weights_digest must be given, got none")
        found = [model for model in self.models if model.weights_digest.startswith(prefix)]
        if not found:
            raise NotFound(f"no model is registered with weights {prefix}")
        if len(found) > 1:
            raise InvalidInput(f"{prefix} begins the digests of {len(found)} models")
        return found[0]


def register(registry: Registry, model: Model, by: Signature) -> Registry:
    """Take in a model with the decision on it; one that is known keeps its place.

    A decision counts once, so that an old one told again takes nothing back.
    """
    known = next(
        (each for each in registry.models if each.weights_digest == model.weights_digest), None
    )
    if known is None:
        registry = replace(registry, models=(*registry.models, model))
    elif set(model.decisions) <= set(known.decisions):
        return registry
    else:
        promoted = known.status == Outcome.PROMOTED
        status = known.status if promoted else model.status
        decisions = (*known.decisions, *model.decisions)
        registry = _with(registry, replace(known, status=status, decisions=decisions))
    return _noted(registry, "registered", model.weights_digest, by)


def promote(registry: Registry, digest: str, by: Signature, *, cause: str = "") -> Registry:
    """Move `live` to a registered model.

    A promotion with a `cause`, the decision that asks for it, is done once: when it is told again
    nothing moves, whatever a person did since.

    Raises:
        NotFound: no model has the digest.
    """
    model = registry.model(digest)
    if cause and any(entry.cause == cause for entry in registry.audit):
        return registry
    moved = replace(
        _with(registry, replace(model, status=Outcome.PROMOTED.value)),
        history=(*registry.history, model.weights_digest),
    )
    return _noted(moved, "promoted", model.weights_digest, by, registry=registry, cause=cause)


def check_promotion(model: Model, *, force: bool) -> None:
    """Raise `Conflict` if a round rejected the model and nobody insists."""
    if model.status == Outcome.REJECTED and not force:
        raise Conflict(
            f"{model.round} rejected {model.weights_digest[:12]}; "
            "set force to promote it all the same"
        )


def roll_back(registry: Registry, digest: str, by: Signature) -> Registry:
    """Move `live` back to a model that it named before: the last other one, or that of `digest`."""
    target = roll_back_target(registry, digest)
    place = max(i for i, each in enumerate(registry.history) if each == target.weights_digest)
    moved = replace(registry, history=registry.history[: place + 1])
    return _noted(moved, "rolled_back", target.weights_digest, by, registry=registry)


def roll_back_target(registry: Registry, digest: str) -> Model:
    """Return the model that a rollback goes to.

    Raises:
        Conflict: `live` never named it, or names it now, or there is no earlier one.
        NotFound: no model has the digest.
    """
    now = registry.history[-1] if registry.history else ""
    earlier = [each for each in registry.history if each != now]
    if digest:
        wanted = registry.model(digest).weights_digest
        earlier = [each for each in earlier if each == wanted]
    if not earlier:
        raise Conflict(f"cannot roll back{_why_not(now, digest)}")
    return registry.model(earlier[-1])


def _why_not(live: str, digest: str) -> str:
    if not live:
        return ": no model is live, nor was one before"
    if not digest:
        return f": {live[:12]} is the first model that was live"
    return f" to {digest}: it was not live before {live[:12]}, which is now"


def check_signature(who: str, why: str) -> None:
    """Raise `InvalidInput` unless a person says who they are and why."""
    for name, value in (("who", who), ("why", why)):
        if not value.strip():
            raise InvalidInput(f"{name} must be given: the audit says who moved live and why")


def last_move(registry: Registry) -> Entry:
    """Return the audit entry of the last move of `live`."""
    return next(each for each in reversed(registry.audit) if each.action != "registered")


class Models:
    """The registry of one object store. Every call raises as `Blobs` does."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs

    def read(self) -> Registry:
        """Return the registry, empty if nothing was registered yet."""
        stored = standing(self._blobs, _BLOB)
        return _from_json(stored.data) if stored else Registry()

    def change(self, change: Callable[[Registry], Registry]) -> Registry:
        """Apply a change to what stands there, and return what stands there then.

        It is applied again whenever somebody else was faster, so it must be pure.
        """
        while True:
            try:
                return self._try(change)
            except Conflict as conflict:
                if not isinstance(conflict, _Raced):
                    raise

    def _try(self, change: Callable[[Registry], Registry]) -> Registry:
        stored = standing(self._blobs, _BLOB)
        before = _from_json(stored.data) if stored else Registry()
        after = change(before)
        if after == before:
            return before
        raised = replace(after, revision=before.revision + 1)
        data = canonical_json(SCHEMA.stamped(asdict(raised)))
        try:
            swap(self._blobs, _BLOB, data, stored)
        except Conflict as conflict:
            raise _Raced(str(conflict)) from conflict
        return raised


class _Raced(Conflict):
    """Somebody else changed the registry first."""


def _with(registry: Registry, model: Model) -> Registry:
    models = tuple(
        model if each.weights_digest == model.weights_digest else each for each in registry.models
    )
    return replace(registry, models=models)


def _noted(
    changed: Registry,
    action: str,
    digest: str,
    by: Signature,
    *,
    registry: Registry | None = None,
    cause: str = "",
) -> Registry:
    """Add the audit entry; `registry` is what it was before `live` moved."""
    previous = registry.history[-1] if registry and registry.history else ""
    entry = Entry(
        **by._asdict(), action=action, weights_digest=digest, previous=previous, cause=cause
    )
    return replace(changed, audit=(*changed.audit, entry))


def _from_json(data: bytes) -> Registry:
    fields = SCHEMA.read(data)
    try:
        return Registry(
            models=tuple(
                Model(**each | {"decisions": tuple(each["decisions"])}) for each in fields["models"]
            ),
            history=tuple(fields["history"]),
            audit=tuple(Entry(**each) for each in fields["audit"]),
            revision=fields["revision"],
        )
    except (ValueError, TypeError, KeyError) as error:
        raise Corrupt(f"{_BLOB}: expected the registry, got {error!r}") from error
