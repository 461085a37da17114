"""The same round on somebody's own checkpoint, exam and folder: real text, another tokenizer and
another architecture than the demonstration's.
"""

import json
import os
import random
from pathlib import Path
from typing import Any

import pytest
import yaml
from athanor.loop.v1 import loop_pb2

from tests.e2e.conftest import Rounds

DATA = Path(os.environ.get("ATHANOR_DATA", Path(__file__).parents[3] / "shared" / "data"))
PILE = DATA / "domains" / "toy_pile_1000.jsonl"
pytestmark = pytest.mark.skipif(
    not PILE.exists(), reason=f"no {PILE.name}: set ATHANOR_DATA to a folder with domains/"
)
MIN_WORDS = 60
HONEST = range(loop_pb2.OUTCOME_PROMOTED, loop_pb2.OUTCOME_AWAITING_APPROVAL)


@pytest.fixture(scope="module")
def documents() -> list[dict[str, str]]:
    """Documents long enough to ask about, with their domain."""
    rows = [json.loads(line) for line in PILE.read_text(encoding="utf-8").splitlines()]
    found = [{"text": row["contents"], "domain": row["metadata"]["pile_set_name"]} for row in rows]
    return [each for each in found if len(each["text"].split()) >= MIN_WORDS]


@pytest.fixture(scope="module")
def mine(documents: list[dict[str, str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `texts/`, `exam.jsonl` and `checkpoint/`: an exam of half the documents."""
    folder = tmp_path_factory.mktemp("mine")
    asked, read = documents[::2], documents[1::2]
    (folder / "texts").mkdir()
    for number, each in enumerate(read):
        (folder / "texts" / f"{number:04}.md").write_text(each["text"], encoding="utf-8")
    write_exam(folder / "exam.jsonl", asked)
    write_checkpoint(folder / "checkpoint", [each["text"] for each in read])
    return folder


def write_exam(path: Path, asked: list[dict[str, str]]) -> None:
    """Ask which text goes on after the first thirty words."""
    draw = random.Random(1)
    ends = [" " + " ".join(each["text"].split()[30:50]) for each in asked]
    with path.open("w", encoding="utf-8") as lines:
        for number, each in enumerate(asked):
            wrong = draw.sample([n for n in range(len(asked)) if n != number], 3)
            order = draw.sample([number, *wrong], 4)
            item = {
                "topic": each["domain"],
                "stem": " ".join(each["text"].split()[:30]),
                "options": [ends[n] for n in order],
                "key": order.index(number),
            }
            lines.write(json.dumps(item) + "\n")


def write_checkpoint(folder: Path, texts: list[str]) -> None:
    """A GPT-NeoX that learned nothing yet, with a Unigram tokenizer."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=1000, special_tokens=["</s>", "<unk>"], unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", unk_token="<unk>")
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        "gpt_neox",
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=96,
        vocab_size=len(fast),
        max_position_embeddings=256,
        bos_token_id=0,
        eos_token_id=0,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(str(folder))


def round_file(mine: Path, **more: Any) -> dict[str, Any]:
    return {
        "checkpoint": str(mine / "checkpoint"),
        "exam": str(mine / "exam.jsonl"),
        "folder": str(mine / "texts"),
        "min_items_per_topic": 5,
        "hoped_gain": 0.3,
        "power": 0.2,
        "budget_tokens": 40_000,
        "sequence_length": 128,
        "clip": 20,
        **more,
    }


def check(rounds: Rounds, given: dict[str, Any]) -> Any:
    text = yaml.safe_dump({"recipe": "own-folder", "set": given})
    return rounds.client.loop.CheckRecipe(loop_pb2.CheckRecipeRequest(recipe_yaml=text), timeout=60)


def test_a_check_says_what_the_exam_can_show_before_anything_runs(rounds, mine):
    found = check(rounds, round_file(mine))
    assert list(found.faults) == []
    assert any("items" in note and "gain" in note for note in found.notes), found.notes


def test_a_check_names_every_fault_at_once(rounds, mine):
    given = round_file(mine, checkpoint="nowhere", fodler="typo")
    faults = " ".join(check(rounds, given).faults)
    assert "fodler" in faults
    assert "folder" in faults


def test_a_check_finds_a_folder_that_is_not_there(rounds, mine):
    found = check(rounds, round_file(mine, folder=str(mine / "nowhere")))
    assert "nowhere" in " ".join(found.faults)


def test_the_round_ends_with_an_honest_outcome(rounds, mine):
    seen = rounds.run("own-folder", round_file(mine), name="own")
    assert seen.outcome in HONEST, seen
    done = {step.name for step in seen.steps if step.state == "succeeded"}
    assert done >= {"documents", "base", "tokenizer", "exam", "passages", "examine", "diagnose"}
