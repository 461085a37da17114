"""A recipe is checked against the protos, with every fault at once, and has one spelling."""

import pytest
import yaml

from services.loop.binding import Reference, check, fill
from services.loop.recipe import Fact
from tests.unit.services.loop.conftest import RECIPES, SMALL, DictLibrary, bind

SITE = {"seeds": ["http://site/"]}
OWN = {"checkpoint": "c", "exam": "e"}


def faults(steps, catalogue):
    return list(check(yaml.safe_dump({"steps": steps}), DictLibrary({}), catalogue).faults)


@pytest.mark.parametrize(
    ("recipe", "chosen"),
    [
        ("demo", SITE),
        ("own-folder", OWN | {"folder": "f"}),
        ("own-site", OWN | SITE),
        ("drill", {"folder": "f", "exam": "e"}),
        ("drill-site", SITE),
    ],
)
def test_the_shipped_recipes_can_run(recipe, chosen, library, catalogue):
    text = yaml.safe_dump({"recipe": recipe, "set": chosen})
    steps = list(bind(text, catalogue, library).steps)
    assert steps.index("diagnose") < steps.index("plan") < steps.index("train_control")
    assert steps[-2:] == ["decide", "serve"]


def test_every_shipped_recipe_is_read(library, catalogue):
    for path in RECIPES.glob("*.yaml"):
        found = check(f"recipe: {path.stem}", library, catalogue).faults
        assert all("must be set" in fault or "a step that makes" in fault for fault in found), found


def test_the_text_of_a_bound_recipe_is_itself_a_recipe_of_the_same_text(library, catalogue):
    bound = bind(yaml.safe_dump({"recipe": "demo", "set": SITE}), catalogue, library)
    again = bind(bound.text, catalogue)
    assert again == bound
    assert again.text == bound.text


def test_escapes_and_facts_survive_the_text(catalogue):
    step = {"rpc": "corpus.ReadFolder", "with": {"path": "$$home", "as_of": "$as_of"}}
    bound = bind(yaml.safe_dump({"steps": {"a": step}}), catalogue)
    assert bound.steps["a"].fields == {"path": "$home", "as_of": Fact("as_of")}
    assert bind(bound.text, catalogue).steps == bound.steps


def test_a_description_or_a_comment_changes_no_text(catalogue):
    described = SMALL.replace("name: small", "name: small\ndescription: words  # and more")
    assert bind(described, catalogue).text == bind(SMALL, catalogue).text


def test_references_and_facts_are_filled_in(catalogue):
    step = bind(SMALL, catalogue).steps["serve"]
    assert step.needs == ("base", "decide")
    facts = {"who": "me", "as_of": "then", "round": "r"}
    assert fill(step.fields, {"base": "aa", "decide": "bb"}, facts) == {
        "checkpoint_id": "aa",
        "decision_id": "bb",
        "who": "me",
    }


def test_an_unknown_rpc_and_field_are_named_with_the_nearest(catalogue):
    steps = {
        "a": {"rpc": "corpus.Crwal", "with": {}},
        "b": {"rpc": "corpus.ReadFolder", "with": {"pth": "x", "path": "p", "as_of": "t"}},
    }
    assert faults(steps, catalogue) == [
        "step a: no service has a step `corpus.Crwal`, nearest is `corpus.Crawl`",
        "step b: no field `pth`, nearest is `path`",
    ]


def test_missing_required_fields_are_named_also_inside(catalogue):
    step = {"rpc": "evaluator.ImportExam", "with": {"path": "", "as_of": "t"}}
    assert faults({"a": step}, catalogue) == [
        "step a.path: it must be given",
        "step a.name: it must be given",
    ]


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("seeds", "http://x", "expected a list"),
        ("max_pages", -1, "expected an integer in [0, 4294967295], got -1"),
        ("max_pages", "many", "expected an integer"),
        ("max_pages", True, "expected a integer value"),
        ("rate_per_s", float("inf"), "expected a number"),
        ("topics_by_path", ["x"], "expected names with values"),
        ("topics_by_path", {"a": 1}, "expected text, got 1"),
        ("as_of", 3, "expected text, got 3"),
    ],
)
def test_values_of_another_type_are_refused(field, value, expected, catalogue):
    given = {"seeds": ["http://x"], "as_of": "t"} | {field: value}
    found = faults({"a": {"rpc": "corpus.Crawl", "with": given}}, catalogue)
    assert len(found) == 1
    assert expected in found[0]
    assert f"step a.{field}" in found[0]


def test_an_enum_goes_by_its_short_or_its_full_name(catalogue):
    for name in ("DECISION", "HALF_DECISION"):
        text = SMALL.replace("half: DECISION", f"half: {name}")
        assert bind(text, catalogue).steps["old"].fields["half"] == "HALF_DECISION"
    found = check(SMALL.replace("DECISION", "DECISON"), DictLibrary({}), catalogue).faults
    assert "one of DECISION, DIAGNOSIS, got 'DECISON', nearest is `DECISION`" in found[0]


def test_an_artifact_of_another_kind_is_refused(catalogue):
    found = check(SMALL.replace("exam_id: exam,", "exam_id: base,"), DictLibrary({}), catalogue)
    assert found.faults == ("step old.exam_id: expected exam, but step base makes checkpoint",)


def test_a_field_may_take_several_kinds(catalogue):
    text = """
    steps:
      base: {rpc: trainer.ImportCheckpoint, with: {path: p, as_of: t}}
      tokens: {rpc: sampler.Tokenize, with: {passages_id: %s, tokenizer_id: base}}
    """
    assert bind(text % ("ab" * 32), catalogue).steps["tokens"].fields == {
        "passages_id": "ab" * 32,
        "tokenizer_id": Reference("base"),
    }


def test_steps_that_need_one_another_are_shown_as_a_path(catalogue):
    steps = {
        "a": {"rpc": "corpus.ReadFolder", "after": ["c"], "with": {"path": "p", "as_of": "t"}},
        "b": {"rpc": "corpus.ReadFolder", "after": ["a"], "with": {"path": "p", "as_of": "t"}},
        "c": {"rpc": "corpus.ReadFolder", "after": ["b"], "with": {"path": "p", "as_of": "t"}},
        "d": {"rpc": "corpus.ReadFolder", "after": ["c"], "with": {"path": "p", "as_of": "t"}},
    }
    assert faults(steps, catalogue) == ["the steps run in a circle: a -> b -> c -> a"]


def test_a_step_cannot_need_one_that_runs_after_the_outcome(catalogue):
    text = SMALL.replace("after: [old]", "after: [serve]").replace(
        "decision_id: decide", f"decision_id: {'d0' * 32}"
    )
    found = check(text, DictLibrary({}), catalogue).faults
    assert found == ("step decide: needs `serve`, which runs only after the outcome",)


def test_a_step_cannot_wait_for_what_no_step_says(catalogue):
    found = check(SMALL.replace("when: promoted", "when: failed"), DictLibrary({}), catalogue)
    assert "no step gives the outcome `failed`" in found.faults[0]


def test_a_parameter_without_a_default_must_be_set(library, catalogue):
    found = check("recipe: drill\nset: {exam: e}", library, catalogue).faults
    assert found == ("step documents.path: parameter `folder` must be set",)


def test_a_mapping_in_a_json_field_becomes_json(library, catalogue):
    bound = bind(yaml.safe_dump({"recipe": "demo", "set": SITE}), catalogue, library)
    config = bound.steps["base"].fields["config_json"]
    assert '"hidden_size":128' in config
    assert bound.steps["base"].fields["schedule"]["learning_rate"] == 4e-3


def test_an_empty_recipe_is_refused(catalogue):
    assert check("steps: {}", DictLibrary({}), catalogue).faults == (
        "round file: a recipe needs at least one step",
    )
