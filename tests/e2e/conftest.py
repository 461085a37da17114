"""All services as real processes in a home folder of the test session, and rounds on them."""

import json
import os
import random
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from athanor.client.connection import Client, connect
from athanor.loop.v1 import loop_pb2

from deploy.local.cli import client_tls
from deploy.local.programs import ROOT, SERVICES, services
from libs.launcher import Launcher
from tests.e2e import world as planted

SEQUENCE = 96
DECIDED = (loop_pb2.OUTCOME_PROMOTED, loop_pb2.OUTCOME_REJECTED, loop_pb2.OUTCOME_UNDECIDED)


class Rounds:
    """Runs rounds on the services and waits for their outcome."""

    def __init__(self, client: Client, home: Path) -> None:
        self.client, self.home = client, home

    def run(self, recipe: str, given: dict[str, Any], *, name: str, as_of: str = "now") -> Any:
        """Return the round `name` once it has an outcome."""
        return self.until(
            lambda seen: seen.outcome, self.start(recipe, given, name=name, as_of=as_of)
        )

    def start(self, recipe: str, given: dict[str, Any], *, name: str, as_of: str = "now") -> str:
        """Start a round and return its name."""
        text = yaml.safe_dump({"recipe": recipe, "set": given})
        request = loop_pb2.StartRoundRequest(
            request_id=name, recipe_yaml=text, as_of=as_of, who="test"
        )
        operation = self.client.loop.StartRound(request, timeout=60)
        return f"rounds/{operation.name.rsplit('/', 1)[-1]}"

    def athanor(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run the command line on the services that run."""
        return subprocess.run(
            [ROOT / "athanor", *arguments],
            env={**os.environ, "ATHANOR_HOME": str(self.home)},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def until(self, is_there: Callable[[Any], Any], name: str) -> Any:
        """Return the round as it is once `is_there` says so of it."""
        asked = loop_pb2.GetRoundRequest(name=name)
        ends_at = time.monotonic() + 240
        while not is_there(seen := self.client.loop.GetRound(asked, timeout=30)):
            assert time.monotonic() < ends_at, f"waited in vain:\n{seen}"
            time.sleep(0.1)
        return seen


@pytest.fixture(scope="session")
def rounds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rounds]:
    with launched(tmp_path_factory.mktemp("home")) as found:
        yield found


@contextmanager
def launched(
    home: Path, settings: Mapping[str, str] = {}, *, names: Sequence[str] = tuple(SERVICES)
) -> Iterator[Rounds]:
    """Run every service as a process in a home folder of its own during the block."""
    launcher = Launcher(home, services(home, names=names, settings=settings))
    ports = launcher.start()
    try:
        with connect(f"127.0.0.1:{ports['loop'].port}", tls=client_tls(home)) as client:
            yield Rounds(client, home)
    finally:
        launcher.stop()


@pytest.fixture(scope="session")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Callable[[list[str]], Path]:
    """Return a function that gives a checkpoint folder of a model that learned these texts."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from services.trainer import tokenizer

    def learn(texts: list[str]) -> Path:
        folder = tmp_path_factory.mktemp("checkpoint")
        made = tokenizer.train([vocabulary() * 20, *texts], 600)
        tokenizer.save(made, folder)
        config = AutoConfig.for_model(
            "llama",
            hidden_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            intermediate_size=128,
            max_position_embeddings=128,
            vocab_size=tokenizer.size(folder),
            bos_token_id=0,
            eos_token_id=0,
        )
        torch.manual_seed(0)
        torch.set_num_threads(1)  # so small a model gains nothing from more
        model = AutoModelForCausalLM.from_config(config)
        ids = torch.tensor([each for text in texts for each in [*made.encode(text).ids, 0]])
        rows = ids[: len(ids) // SEQUENCE * SEQUENCE].view(-1, SEQUENCE)
        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
        for batch in rows.split(8):
            model(input_ids=batch, labels=batch).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        model.save_pretrained(str(folder))
        return folder

    return learn


@pytest.fixture(scope="session")
def short(learned: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a short round that trains is given."""
    folder, draw = tmp_path_factory.mktemp("world"), random.Random(1)
    topics = planted.topics(TOPICS)
    base = learned([planted.passage(draw, topic) for _ in range(40) for topic in topics])
    exam = planted.write_exam(folder / "exam.jsonl", topics, items=80, seed=2)
    give_away(exam, topics=TOPICS[:-1])
    texts = planted.write_texts(folder / "texts", dict.fromkeys(TOPICS, 40), topics, seed=3)
    given = {"checkpoint": str(base), "exam": str(exam), "folder": str(texts), "hoped_gain": 0.3}
    return given | {"budget_tokens": 5_000, "sequence_length": 96, "clip": 20}


def give_away(exam: Path, *, topics: Sequence[str]) -> None:
    """Write the wrong options in letters that no model here has read: the other topics are weak."""
    items = [json.loads(line) for line in exam.read_text().splitlines()]
    for item in items:
        if item["topic"] in topics:
            item["options"] = [
                option if number == item["key"] else option.upper()
                for number, option in enumerate(item["options"])
            ]
    exam.write_text("".join(json.dumps(item) + "\n" for item in items))


def vocabulary() -> str:
    """Return a text with every noun, so that no topic is spelt worse than another."""
    return " ".join(noun for topic in planted.topics(TOPICS) for noun in topic.nouns)


TOPICS = ("ores", "songs", "sails", "tides")
