"""Read recipes: YAML files, includes and parameters become one graph of steps with plain values.

Here so that the rest of loop meets one merged recipe, whatever files it was spread over. Pure:
files come through the `Library`. What the values mean is `binding`'s to say.
"""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import yaml

from libs.errors import NotFound
from services.loop.ports import Library

FACTS = ("as_of", "round", "who")
"""Known only when the round runs: `$as_of`, `$round`, `$who`."""
BUILT_IN: Mapping[str, Any] = {"seed": 0}
"""Parameters that every recipe has."""


@dataclass(frozen=True)
class Fact:
    """Stands for a value that is known when the round runs."""

    name: str


@dataclass(frozen=True)
class Unset:
    """Stands for a parameter that has no default and was not set."""

    name: str


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step as its file has it."""

    name: str
    rpc: str = ""
    given: Mapping[str, Any] = field(default_factory=dict)
    """Values by field name."""
    when: str = ""
    """Outcome that the step waits for; empty: it runs while there is none."""
    after: tuple[str, ...] = ()
    """Steps that must be done before, although nothing is taken from them."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One recipe, its includes merged in."""

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """None: must be set."""
    steps: Mapping[str, Step] = field(default_factory=dict)


class _Loader(yaml.SafeLoader):
    """YAML in which a key counts once, 3e-4 is a number and a date is text."""


def _unique_keys(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    keys = [str(key.value) for key, _ in node.value]
    twice = sorted({key for key in keys if keys.count(key) > 1})
    if twice:
        raise yaml.MarkedYAMLError(
            problem=f"{twice[0]!r} stands twice", problem_mark=node.start_mark
        )
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor("tag:yaml.org,2002:map", _unique_keys)
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
# YAML 1.1 takes 3e-4 for text because it has no point.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def suggest(name: str, known: Iterable[str]) -> str:
    """Return ", nearest is `x`" for the known name most like `name`, or nothing."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f", nearest is `{near[0]}`" if near else ""


def read(text: str, library: Library) -> tuple[Recipe, list[str]]:
    """Read a round file, or a whole recipe in its place, with everything it includes.

    Returns:
        The merged recipe with what the file sets, as far as it could be read, and every fault.
    """
    faults: list[str] = []
    document = _document(text, "round file", faults)
    if "recipe" not in document:
        return _recipe(document, "round file", library, (), faults), faults
    _known_keys(document, ("recipe", "set"), "round file", faults)
    recipe = _named(document["recipe"], "round file", library, (), faults)
    return _set(recipe, _mapping(document.get("set"), "set", faults), faults), faults


def substitute(value: Any, parameters: Mapping[str, Any], where: str, faults: list[str]) -> Any:
    """Put parameters in place of `$name`, `Fact` for what the round knows, `$` for `$$`."""
    if isinstance(value, Mapping):
        return {
            key: substitute(each, parameters, f"{where}.{key}", faults)
            for key, each in value.items()
        }
    if isinstance(value, list):
        return [substitute(each, parameters, where, faults) for each in value]
    if not isinstance(value, str) or not value.startswith("$"):
        return value
    return _named_value(value[1:], parameters, where, faults)


def _named_value(name: str, parameters: Mapping[str, Any], where: str, faults: list[str]) -> Any:
    if name.startswith("$"):
        return name
    if name in FACTS:
        return Fact(name)
    if name not in parameters:
        near = suggest(name, [*parameters, *FACTS])
        faults.append(f"{where}: no parameter is named `{name}`{near}")
        return Unset(name)
    return Unset(name) if parameters[name] is None else parameters[name]


def _set(recipe: Recipe, chosen: Mapping[str, Any], faults: list[str]) -> Recipe:
    for name in chosen:
        if name in FACTS:
            faults.append(f"set: `{name}` is the round's own and cannot be set")
        elif name not in recipe.parameters:
            near = suggest(name, recipe.parameters)
            faults.append(f"set: {recipe.name} has no parameter `{name}`{near}")
    return replace(recipe, parameters={**recipe.parameters, **chosen})


def _named(
    name: Any, where: str, library: Library, trail: tuple[str, ...], faults: list[str]
) -> Recipe:
    """Read the recipe that `where` names; `trail` holds the includes on the way."""
    empty = Recipe(name=str(name), parameters=BUILT_IN)
    if not isinstance(name, str) or not name:
        faults.append(f"{where}: expected the name of a recipe, got {name!r}")
        return empty
    if name in trail:
        faults.append(f"recipes include one another: {' -> '.join((*trail, name))}")
        return empty
    try:
        text = library.read(name)
    except NotFound as error:
        faults.append(f"{where}: {error}")
        return empty
    return _recipe(_document(text, name, faults), name, library, (*trail, name), faults)


def _recipe(
    document: Mapping[str, Any],
    where: str,
    library: Library,
    trail: tuple[str, ...],
    faults: list[str],
) -> Recipe:
    known = ("name", "description", "include", "parameters", "steps")
    _known_keys(document, known, where, faults)
    own = Recipe(
        name=str(document.get("name") or where),
        description=str(document.get("description") or ""),
        parameters=_mapping(document.get("parameters"), f"{where}: parameters", faults),
        steps=_steps(_mapping(document.get("steps"), f"{where}: steps", faults), where, faults),
    )
    faults.extend(
        f"{where}: `{name}` is the round's own and no parameter"
        for name in own.parameters
        if name in FACTS
    )
    if "include" not in document:
        return replace(own, parameters={**BUILT_IN, **own.parameters})
    return _merged(_named(document["include"], where, library, trail, faults), own)


def _merged(included: Recipe, own: Recipe) -> Recipe:
    steps = dict(included.steps)
    for name, step in own.steps.items():
        before = steps.get(name)
        # Another rpc has other fields, so nothing of the included step can stay.
        same = before is not None and step.rpc in ("", before.rpc)
        steps[name] = _overridden(before, step) if before is not None and same else step
    return replace(own, parameters={**included.parameters, **own.parameters}, steps=steps)


def _overridden(before: Step, step: Step) -> Step:
    return replace(
        before,
        given=_deep(before.given, step.given),
        when=step.when or before.when,
        after=step.after or before.after,
    )


def _deep(before: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    both = {
        key: _deep(before[key], value)
        for key, value in over.items()
        if isinstance(value, Mapping) and isinstance(before.get(key), Mapping)
    }
    return {**before, **over, **both}


def _steps(written: Mapping[str, Any], where: str, faults: list[str]) -> dict[str, Step]:
    return {
        name: _step(name, value, f"{where}: step {name}", faults) for name, value in written.items()
    }


def _step(name: str, value: Any, where: str, faults: list[str]) -> Step:
    written = _mapping(value, where, faults)
    _known_keys(written, ("rpc", "with", "when", "after"), where, faults)
    after = written.get("after") or []
    if not isinstance(after, list):
        faults.append(f"{where}: after: expected a list of steps, got {after!r}")
        after = []
    return Step(
        name=name,
        rpc=str(written.get("rpc") or ""),
        given=_mapping(written.get("with"), f"{where}: with", faults),
        when=str(written.get("when") or ""),
        after=tuple(str(each) for each in after),
    )


def _document(text: str, where: str, faults: list[str]) -> dict[str, Any]:
    try:
        return _mapping(yaml.load(text, _Loader), where, faults)
    except yaml.YAMLError as error:
        faults.append(f"{where}: expected YAML, got {' '.join(str(error).split())}")
        return {}


def _mapping(value: Any, where: str, faults: list[str]) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        faults.append(f"{where}: expected names with values, got {value!r}")
        return {}
    return value


def _known_keys(
    written: Mapping[str, Any], known: Sequence[str], where: str, faults: list[str]
) -> None:
    for key in written:
        if key not in known:
            expected = ", ".join(known)
            faults.append(f"{where}: unknown key `{key}`{suggest(key, known)}; known: {expected}")
