"""Check a recipe against the calls there are, and bind its values to their fields.

Here so that a wrong recipe is refused before anything runs, with all of its faults at once, and
so that a round is driven from values that are known to fit. Pure.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from libs.formats import canonical_json
from services.loop.outcome import GIVEN_BY_STEPS
from services.loop.ports import Catalogue, Field, FieldKind, Library
from services.loop.recipe import Fact, Recipe, Step, Unset, read, substitute, suggest

ARTIFACT_ID = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Reference:
    """Stands for the artifact that an earlier step makes."""

    step: str


@dataclass(frozen=True, kw_only=True)
class BoundStep:
    """One step whose values fit its call."""

    name: str
    rpc: str
    fields: Mapping[str, Any]
    """Values by field name; `Reference` and `Fact` stand for what is not known yet."""
    produces: str
    """Kind of the artifact that it makes."""
    takes: tuple[str, ...] = ()
    """Steps whose artifacts it takes, by name."""
    after: tuple[str, ...] = ()
    """Further steps that must be done before."""
    when: str = ""
    """Outcome that it waits for; empty: it runs while there is none."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Every step that must be done before."""
        return tuple(dict.fromkeys((*self.takes, *self.after)))


@dataclass(frozen=True, kw_only=True)
class Bound:
    """A recipe that can run."""

    name: str
    parameters: Mapping[str, Any]
    steps: Mapping[str, BoundStep]
    """In an order in which they can run."""

    @property
    def text(self) -> str:
        """The one spelling of this recipe, a recipe file itself: what a round's identity is."""
        return canonical_json(
            {
                "name": self.name,
                "parameters": self.parameters,
                # Its order is not part of a mapping in canonical JSON, and is derived again.
                "steps": {name: _written(step) for name, step in self.steps.items()},
            }
        ).decode()


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What checking a recipe found."""

    faults: Sequence[str]
    bound: Bound | None
    """Set when there are no faults."""


def check(text: str, library: Library, catalogue: Catalogue) -> Checked:
    """Read and check a round file; every fault is found in one go, a sentence each."""
    recipe, faults = read(text, library)
    if not recipe.steps and not faults:
        faults.append(f"{recipe.name}: a recipe needs at least one step")
    faults += [
        f"parameter `{name}`: expected a value fit for JSON, got {value!r}"
        for name, value in recipe.parameters.items()
        if not _fits_json(value)
    ]
    binder = _Binder(recipe, catalogue, faults)
    steps = {name: binder.step(step) for name, step in recipe.steps.items()}
    binder.edges(steps)
    ordered = _ordered(steps, faults)
    found = tuple(dict.fromkeys(faults))
    if found:
        return Checked(faults=found, bound=None)
    bound = Bound(name=recipe.name, parameters=recipe.parameters, steps=ordered)
    return Checked(faults=(), bound=bound)


def fill(value: Any, artifacts: Mapping[str, str], facts: Mapping[str, str]) -> Any:
    """Put artifact ids (by step) and facts (by name) in the place of what stands for them."""
    if isinstance(value, Reference):
        return artifacts[value.step]
    if isinstance(value, Fact):
        return facts[value.name]
    if isinstance(value, Mapping):
        return {key: fill(each, artifacts, facts) for key, each in value.items()}
    if isinstance(value, list):
        return [fill(each, artifacts, facts) for each in value]
    return value


class Absence(StrEnum):
    """A value that a field cannot be bound to; said already."""

    FAULTY = "faulty"


class _Binder:
    """Binds the steps of one recipe, and adds to the list of faults what does not fit."""

    def __init__(self, recipe: Recipe, catalogue: Catalogue, faults: list[str]) -> None:
        self._recipe = recipe
        self._catalogue = catalogue
        self._faults = faults

    def step(self, step: Step) -> BoundStep:
        """Bind one step as far as it fits."""
        where = f"step {step.name}"
        rpc = self._catalogue.rpc(step.rpc)
        if rpc is None:
            near = suggest(step.rpc, self._catalogue.names())
            what = f"no service has a step `{step.rpc}`{near}" if step.rpc else "it names no rpc"
            self._faults.append(f"{where}: {what}")
        if step.when and step.when not in GIVEN_BY_STEPS:
            near = suggest(step.when, GIVEN_BY_STEPS)
            self._faults.append(f"{where}: when: no step gives the outcome `{step.when}`{near}")
        given = substitute(step.given, self._recipe.parameters, where, self._faults)
        fields = self._message(rpc.fields, given, where) if rpc else {}
        return BoundStep(
            name=step.name,
            rpc=step.rpc,
            fields=fields,
            produces=rpc.produces if rpc else "",
            takes=tuple(sorted(set(_references(fields)))),
            after=step.after,
            when=step.when,
        )

    def edges(self, steps: Mapping[str, BoundStep]) -> None:
        """Check what the steps say of one another."""
        for step in steps.values():
            for name in step.after:
                if name not in steps:
                    near = suggest(name, steps)
                    self._faults.append(f"step {step.name}: after: no step `{name}`{near}")
            for name in step.needs:
                if name in steps and steps[name].when and not step.when:
                    self._faults.append(
                        f"step {step.name}: needs `{name}`, which runs only after the outcome"
                    )

    def _message(self, fields: Mapping[str, Field], given: Any, where: str) -> dict[str, Any]:
        if not isinstance(given, Mapping):
            self._faults.append(f"{where}: expected fields with values, got {given!r}")
            return {}
        for name in given:
            if name not in fields:
                self._faults.append(f"{where}: no field `{name}`{suggest(name, fields)}")
        bound = {
            name: self._field(fields[name], value, f"{where}.{name}")
            for name, value in given.items()
            if name in fields and value is not None
        }
        for name, field in fields.items():
            if field.required and bound.get(name, "") in ("", 0, [], {}):
                self._faults.append(f"{where}.{name}: it must be given")
        return {name: value for name, value in bound.items() if value is not Absence.FAULTY}

    def _field(self, field: Field, value: Any, where: str) -> Any:
        if isinstance(value, Unset):
            if self._recipe.parameters.get(value.name, "") is None:
                self._faults.append(f"{where}: parameter `{value.name}` must be set")
            return Absence.FAULTY
        if field.mapping:
            if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
                return self._fault(where, "names with values", value)
            return {key: self._value(field, each, where) for key, each in value.items()}
        if field.repeated:
            if not isinstance(value, list):
                return self._fault(where, "a list", value)
            return [self._value(field, each, where) for each in value]
        return self._value(field, value, where)

    def _value(self, field: Field, value: Any, where: str) -> Any:
        if isinstance(value, Unset):
            return self._field(field, value, where)
        if field.artifact_kinds:
            return self._artifact(field, value, where)
        if isinstance(value, Fact):
            return value if field.kind is FieldKind.TEXT else self._fault(where, field.kind, value)
        match field.kind:
            case FieldKind.MESSAGE:
                return self._message(field.fields, value, where)
            case FieldKind.CHOICE:
                return self._choice(field, value, where)
            case FieldKind.TEXT:
                return self._text(field, value, where)
            case FieldKind.BOOLEAN if isinstance(value, bool):
                return value
            case FieldKind.INTEGER | FieldKind.NUMBER if not isinstance(value, bool):
                return self._number(field, value, where)
        return self._fault(where, f"a {field.kind} value", value)

    def _artifact(self, field: Field, value: Any, where: str) -> Any:
        if value == "":
            return value
        if isinstance(value, str) and ARTIFACT_ID.fullmatch(value):
            return value
        wanted = " or ".join(field.artifact_kinds)
        step = self._recipe.steps.get(value) if isinstance(value, str) else None
        if step is None:
            near = suggest(value, self._recipe.steps) if isinstance(value, str) else ""
            expected = f"a step that makes {wanted}, or an artifact id"
            return self._fault(where, expected, value, near)
        rpc = self._catalogue.rpc(step.rpc)
        if rpc and rpc.produces not in field.artifact_kinds:
            made = rpc.produces or "no artifact"
            self._faults.append(f"{where}: expected {wanted}, but step {step.name} makes {made}")
        return Reference(step.name)

    def _choice(self, field: Field, value: Any, where: str) -> Any:
        if isinstance(value, str) and value in field.choices:
            return field.choices[value]
        short = sorted(set(field.choices) - set(field.choices.values()))
        near = suggest(value, field.choices) if isinstance(value, str) else ""
        return self._fault(where, f"one of {', '.join(short)}", value, near)

    def _text(self, field: Field, value: Any, where: str) -> Any:
        if isinstance(value, str):
            return value
        # A configuration is easier to read and to set as a mapping than as JSON in YAML.
        if field.name.endswith("_json") and isinstance(value, Mapping):
            return self._json(field, value, where)
        return self._fault(where, "text", value)

    def _json(self, field: Field, value: Mapping[str, Any], where: str) -> Any:
        unknown = [each for each in _leaves(value) if isinstance(each, Unset | Fact)]
        for each in unknown:
            if isinstance(each, Fact):
                self._fault(where, "values that are known before the round", each)
            else:
                self._field(field, each, where)
        if unknown or not _fits_json(value):
            return Absence.FAULTY if unknown else self._fault(where, "values fit for JSON", value)
        return canonical_json(value).decode()

    def _number(self, field: Field, value: Any, where: str) -> Any:
        if field.kind is FieldKind.NUMBER and isinstance(value, int | float):
            return float(value) if math.isfinite(value) else self._fault(where, "a number", value)
        if not isinstance(value, int):
            kind = "an integer" if field.kind is FieldKind.INTEGER else "a number"
            return self._fault(where, kind, value)
        least = value if field.least is None else field.least
        most = value if field.most is None else field.most
        if least <= value <= most:
            return value
        return self._fault(where, f"an integer in [{least}, {most}]", value)

    def _fault(self, where: str, expected: str, value: Any, near: str = "") -> Absence:
        got = f"${value.name}" if isinstance(value, Fact) else repr(value)
        self._faults.append(f"{where}: expected {expected}, got {got}{near}")
        return Absence.FAULTY


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from _leaves(each)
    else:
        yield value


def _references(value: Any) -> Sequence[str]:
    return [each.step for each in _leaves(value) if isinstance(each, Reference)]


def _fits_json(value: Any) -> bool:
    try:
        canonical_json(value)
    except (TypeError, ValueError):
        return False
    return True


def _ordered(steps: Mapping[str, BoundStep], faults: list[str]) -> dict[str, BoundStep]:
    """Order steps so that each stands after what it needs, and by name where that leaves a choice.

    By name, because the order must follow from the recipe's one spelling.
    """
    left = {name: steps[name] for name in sorted(steps)}
    ordered: dict[str, BoundStep] = {}
    while left:
        ready = [
            name for name, step in left.items() if not any(each in left for each in step.needs)
        ]
        if not ready:
            faults.append(f"the steps run in a circle: {' -> '.join(_circle(left))}")
            break
        ordered |= {name: left.pop(name) for name in ready}
    return ordered


def _circle(steps: Mapping[str, BoundStep]) -> list[str]:
    """Follow needs among `steps`, each of which needs another of them, until one comes again."""
    path = [next(iter(steps))]
    while path[-1] not in path[:-1]:
        path.append(next(each for each in steps[path[-1]].needs if each in steps))
    return path[path.index(path[-1]) :][::-1]


def _written(step: BoundStep) -> dict[str, Any]:
    written = {"rpc": step.rpc, "with": _spelled(step.fields)}
    if step.when:
        written["when"] = step.when
    if step.after:
        written["after"] = list(step.after)
    return written


def _spelled(value: Any) -> Any:
    if isinstance(value, Reference):
        return value.step
    if isinstance(value, Fact):
        return f"${value.name}"
    if isinstance(value, Mapping):
        return {key: _spelled(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_spelled(each) for each in value]
    return f"${value}" if isinstance(value, str) and value.startswith("$") else value
