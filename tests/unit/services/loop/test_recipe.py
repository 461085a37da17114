"""Recipes are read, included, overridden and set; what is wrong is said."""

from hypothesis import given
from hypothesis import strategies as st

from services.loop.recipe import Fact, Unset, read, substitute
from tests.unit.services.loop.conftest import DictLibrary

INNER = """
name: inner
parameters: {size: 1, rate: 3e-4}
steps:
  a: {rpc: x.A, with: {n: $size, nested: {one: 1, two: 2}}}
"""
OUTER = """
name: outer
include: inner
parameters: {size: 2}
steps:
  a: {with: {nested: {two: 3}}, after: [b]}
  b: {rpc: x.B}
"""
LIBRARY = DictLibrary({"inner": INNER, "outer": OUTER})


def test_an_included_recipe_is_merged_and_single_values_are_overridden():
    recipe, faults = read("recipe: outer", LIBRARY)
    assert not faults
    assert recipe.steps["a"].given == {"n": "$size", "nested": {"one": 1, "two": 3}}
    assert recipe.steps["a"].rpc == "x.A"
    assert recipe.steps["a"].after == ("b",)
    assert recipe.parameters == {"seed": 0, "size": 2, "rate": 3e-4}


def test_another_rpc_replaces_the_whole_step():
    text = "include: inner\nsteps: {a: {rpc: x.Z, with: {m: 1}}}"
    recipe, faults = read(text, LIBRARY)
    assert not faults
    assert recipe.steps["a"].given == {"m": 1}


def test_a_round_file_sets_parameters():
    recipe, faults = read("recipe: outer\nset: {size: 7, seed: 3}", LIBRARY)
    assert not faults
    assert (recipe.parameters["size"], recipe.parameters["seed"]) == (7, 3)


def test_an_unknown_parameter_is_refused_with_the_nearest():
    _, faults = read("recipe: outer\nset: {sise: 7, as_of: x}", LIBRARY)
    assert faults == [
        "set: outer has no parameter `sise`, nearest is `size`",
        "set: `as_of` is the round's own and cannot be set",
    ]


def test_recipes_that_include_one_another_are_shown_as_a_path():
    library = DictLibrary({"one": "include: two", "two": "include: one"})
    _, faults = read("recipe: one", library)
    assert faults == ["recipes include one another: one -> two -> one"]


def test_all_faults_come_at_once():
    text = "nmae: x\nparameters: [1]\nsteps: {a: {rcp: x.A}, b: 3}"
    _, faults = read(text, LIBRARY)
    assert len(faults) == 4
    assert "nearest is `name`" in faults[0]


def test_yaml_that_is_none_is_a_fault():
    _, faults = read("recipe: [", LIBRARY)
    assert "expected YAML" in faults[0]


def test_a_key_that_stands_twice_is_a_fault():
    _, faults = read("recipe: outer\nset: {size: 1, size: 2}", LIBRARY)
    assert "'size' stands twice" in faults[0]


def test_a_date_is_text():
    recipe, _ = read("recipe: outer\nset: {size: 2026-01-02}", LIBRARY)
    assert recipe.parameters["size"] == "2026-01-02"


def test_names_are_replaced_and_dollars_escaped():
    faults = []
    value = {"a": "$x", "b": ["$$x", "$as_of"], "c": "cost$"}
    assert substitute(value, {"x": [1]}, "here", faults) == {
        "a": [1],
        "b": ["$x", Fact("as_of")],
        "c": "cost$",
    }
    assert substitute("$n", {"n": None}, "here", faults) == Unset("n")
    assert not faults
    substitute("$y", {"x": 1}, "here", faults)
    assert faults == ["here: no parameter is named `y`"]


@given(st.text())
def test_no_text_breaks_the_reader(text):
    read(text, LIBRARY)
