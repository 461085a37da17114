"""Publish weights under load, again and again: `python -m tests.drills.publications`.

No request may fail, and no answer may differ from what the weights that it names produce; those
answers are computed in this process. Servers and models are the drill's own and go with it.
"""

import argparse
import itertools
import json
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from libs.lm import scoring
from libs.lm.folder import load_model, load_tokenizer
from libs.lm.port import BATCH_SIZE, OptionScore, Question
from libs.lm.triton import wire
from libs.lm.triton.replica import Replica, digest_of
from libs.lm.triton.repository import LIVE
from tests import checkpoints
from tests.own_tritons import NAMES, OwnTritons, own_tritons

QUESTIONS = [
    Question("the quick brown", (" fox", " lazy dog", " wizards")),
    Question("seven", (" wizards box", " a judge")),
]
_CALL_S = 60.0


@dataclass
class Figures:
    """What was seen; counted by many threads."""

    num_publications: int = 0
    num_answers: int = 0
    failed: list[str] = field(default_factory=list)
    """Requests that raised."""
    wrong: list[str] = field(default_factory=list)
    """Digests of answers that are not what those weights produce."""
    by_digest: Counter[str] = field(default_factory=Counter)
    publish_s: list[float] = field(default_factory=list)
    """From wanting weights to every replica answering with them."""
    longest_call_s: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, digest: str, took_s: float, *, is_right: bool) -> None:
        """Take in one answer."""
        with self._lock:
            self.num_answers += 1
            self.by_digest[digest[:12]] += 1
            self.longest_call_s = max(self.longest_call_s, took_s)
            if not is_right:
                self.wrong.append(digest)

    def shown(self) -> dict[str, Any]:
        """Return what a table needs."""
        return {
            "publications": self.num_publications,
            "answers": self.num_answers,
            "answers by weights": dict(self.by_digest),
            "failed": len(self.failed),
            "first failures": self.failed[:3],
            "wrong": len(self.wrong),
            "publication, median s": round(statistics.median(self.publish_s), 2),
            "publication, longest s": round(max(self.publish_s), 2),
            "call, longest s": round(self.longest_call_s, 3),
        }


def drill(tritons: OwnTritons, folders: Sequence[Path], *, count: int, clients: int) -> Figures:
    """Publish the checkpoints in turn `count` times as `live`, under `clients` clients."""
    digests = [tritons.register(folder) for folder in folders]
    expected = dict(zip(digests, map(_plainly, folders), strict=True))
    figures, ended = Figures(), threading.Event()
    with tritons.publisher() as publisher:
        publisher.converge(lambda: digests[-1])
        threads = [
            threading.Thread(target=_ask, args=(tritons, number, expected, figures, ended))
            for number in range(clients)
        ]
        for thread in threads:
            thread.start()
        try:
            for digest in itertools.islice(itertools.cycle(digests), count):
                started = time.monotonic()
                publisher.converge(lambda digest=digest: digest)  # type: ignore[misc]
                figures.publish_s.append(time.monotonic() - started)
                figures.num_publications += 1
                print(f"\r{figures.num_publications}/{count}", end="", file=sys.stderr, flush=True)
        finally:
            ended.set()
            for thread in threads:
                thread.join()
    return figures


def _ask(
    tritons: OwnTritons,
    number: int,
    expected: Mapping[str, Any],
    figures: Figures,
    ended: threading.Event,
) -> None:
    replica = Replica(tritons.addresses[number % len(tritons.addresses)])
    asked = wire.to_score(QUESTIONS, None)
    while not ended.is_set():
        started = time.monotonic()
        try:
            (answer,) = replica.infer(LIVE, asked, timeout_s=_CALL_S)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is counted
            figures.failed.append(repr(error))
            continue
        took_s, digest = time.monotonic() - started, digest_of(answer)
        is_right = wire.from_score(answer, QUESTIONS) == expected.get(digest)
        figures.count(digest, took_s, is_right=is_right)
    replica.close()


def _plainly(folder: Path) -> Any:
    """Return what the weights in a folder answer, computed here as the lm host does."""
    torch.set_num_threads(2)
    model, tokenizer = load_model(folder).float(), load_tokenizer(folder)
    return [
        [OptionScore(*option, each.num_stem_tokens_cut) for option in each.options]
        for each in scoring.score(model, tokenizer, QUESTIONS, BATCH_SIZE)
    ]


def main() -> int:
    """Return 1 if a request failed or an answer was wrong, else 0."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--replicas", type=int, choices=(1, 2), default=2)
    given = parser.parse_args()
    names = NAMES[: given.replicas]
    with tempfile.TemporaryDirectory() as home, own_tritons(Path(home), names) as tritons:
        folders = [checkpoints.make(Path(home) / f"model{seed}", seed=seed) for seed in range(3)]
        figures = drill(tritons, folders, count=given.count, clients=given.clients)
    print(json.dumps(figures.shown(), indent=1))
    return int(bool(figures.failed or figures.wrong))


if __name__ == "__main__":
    sys.exit(main())
