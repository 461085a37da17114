"""The same round on somebody's own checkpoint, exam and folder: real text, another tokenizer and
another architecture than the demonstration's, by the five lines that README shows.

The checkpoint knows which letters there are and little else: it refuses Greek ones, and so is weak
at the one domain whose wrong answers are real text too.
"""

import json
import os
import random
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from athanor.client.rounds import EXIT_CODES
from athanor.loop.v1 import loop_pb2

from deploy.local.programs import ROOT
from tests.e2e.conftest import Rounds

DATA = Path(os.environ.get("ATHANOR_DATA", Path(__file__).parents[3] / "shared" / "data"))
PILE = DATA / "domains" / "toy_pile_1000.jsonl"
pytestmark = pytest.mark.skipif(
    not PILE.exists(), reason=f"no {PILE.name}: set ATHANOR_DATA to a folder with domains/"
)
MIN_WORDS = 60
HARD = "Pile-CC"
GREEK = str.maketrans({chr(97 + place): chr(945 + place % 24) for place in range(26)})
DECIDED = (loop_pb2.OUTCOME_PROMOTED, loop_pb2.OUTCOME_REJECTED, loop_pb2.OUTCOME_UNDECIDED)


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
    """Ask which text goes on after the first thirty words; it is hard in one domain only."""
    draw = random.Random(1)
    ends = [" " + " ".join(each["text"].split()[30:50]) for each in asked]
    nonsense = [end.lower().translate(GREEK) for end in ends]
    with path.open("w", encoding="utf-8") as lines:
        for number, each in enumerate(asked):
            others = draw.sample([n for n in range(len(asked)) if n != number], 3)
            wrong = [(ends if each["domain"] == HARD else nonsense)[n] for n in others]
            options = draw.sample([ends[number], *wrong], 4)
            item = {
                "topic": each["domain"],
                "stem": " ".join(each["text"].split()[:30]),
                "options": options,
                "key": options.index(ends[number]),
            }
            lines.write(json.dumps(item) + "\n")


def write_checkpoint(folder: Path, texts: list[str]) -> None:
    """A GPT-NeoX that learned how frequent tokens are, with a Unigram tokenizer."""
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
        max_position_embeddings=512,
        bos_token_id=0,
        eos_token_id=0,
    )
    model = AutoModelForCausalLM.from_config(config)
    torch.set_num_threads(1)  # so small a model gains nothing from more
    ids = torch.tensor([each for text in texts for each in fast(text)["input_ids"]])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for batch in ids[: 40 * 8 * 128].view(40, 8, 128):
        model(input_ids=batch, labels=batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(str(folder))


def round_file(mine: Path, **more: Any) -> dict[str, Any]:
    return {
        "checkpoint": str(mine / "checkpoint"),
        "exam": str(mine / "exam.jsonl"),
        "folder": str(mine / "texts"),
        "min_items_per_topic": 20,
        "hoped_gain": 0.3,
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
    faults = list(check(rounds, round_file(mine, fodler="typo", clip=-1)).faults)
    assert len(faults) == 3, faults
    assert "fodler" in faults[0]
    assert "nearest is `folder`" in faults[0]
    assert [fault.partition(":")[0] for fault in faults[1:]] == [
        "step plan.clip",
        "step control_plan.clip",
    ]


def test_a_check_names_every_fault_that_only_a_service_can_find(rounds, mine):
    given = round_file(mine, checkpoint=str(mine / "nowhere"), guard_margin=7)
    faults = list(check(rounds, given).faults)
    assert len(faults) == 2, faults
    assert any("nowhere" in fault for fault in faults), faults
    assert any("guard_margin must lie in (0, 1]" in fault for fault in faults), faults


def test_a_check_finds_a_folder_that_is_not_there(rounds, mine):
    found = check(rounds, round_file(mine, folder=str(mine / "nowhere")))
    assert "nowhere" in " ".join(found.faults)


def test_the_round_ends_with_an_honest_outcome(rounds, mine):
    seen = rounds.run("own-folder", round_file(mine), name="own")
    assert seen.outcome in DECIDED, seen
    done = {step.name for step in seen.steps if step.state == "succeeded"}
    assert done >= {"documents", "base", "tokenizer", "collect", "train", "train_control", "decide"}


def test_readmes_five_lines_start_a_round(rounds, mine):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    text = re.search(r"(?m)^    recipe: own-folder\n(?:    .+\n)+", readme)
    assert text is not None
    given = yaml.safe_load(text[0])
    assert given["set"].keys() == {"checkpoint", "exam", "folder"}
    given["set"] = {name: round_file(mine)[name] for name in given["set"]}
    file = mine / "my.yaml"
    file.write_text(yaml.safe_dump(given), encoding="utf-8")
    checked = rounds.athanor("recipe", "check", str(file))
    assert checked.returncode == 0, checked
    assert "0.08" in checked.stdout
    ended = rounds.athanor("round", "start", str(file))
    # So few texts do not fill the default budget: it is said before anything is trained.
    assert ended.returncode == EXIT_CODES[loop_pb2.OUTCOME_STARVED], ended
    assert "starved" in ended.stdout


def test_a_round_is_cancelled_resumed_and_watched_by_its_exit_codes(rounds, mine):
    file = mine / "long.yaml"
    given = round_file(mine, budget_tokens=300_000, clip=1000, seed=5)
    file.write_text(yaml.safe_dump({"recipe": "own-folder", "set": given}), encoding="utf-8")
    started = rounds.athanor("round", "start", str(file), "--detach", "--json")
    assert started.returncode == 0, started
    name = json.loads(started.stdout)["round"]
    rounds.until(lambda seen: is_training(seen), name)
    assert rounds.athanor("round", "cancel", name).returncode == 0
    watched = rounds.athanor("round", "watch", name)
    assert watched.returncode == EXIT_CODES[loop_pb2.OUTCOME_CANCELLED], watched
    assert "cancelled" in watched.stdout
    resumed = rounds.athanor("round", "resume", name, "--json")
    assert resumed.returncode in {EXIT_CODES[outcome] for outcome in DECIDED}, resumed
    assert name in rounds.athanor("round", "list").stdout


def is_training(seen: Any) -> bool:
    return any(step.name == "train" and step.completed > 0 for step in seen.steps)
