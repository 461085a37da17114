"""Scoring on Triton beside the same arithmetic in this process, and publishing beside a plain copy.

Both sides of scoring run the same code on the same number of threads and must give the same bits;
what is left is the way there and back. Publishing is everything between wanting other weights and
the first answer by them: upload, event, download by Triton, a new process that imports torch, a
digest of every tensor. The copy only takes the same bytes into the store and out of it.
"""

import itertools
import random
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch

from libs.lm import scoring
from libs.lm.folder import load_model, load_tokenizer
from libs.lm.port import BATCH_SIZE, OptionScore, Question
from libs.lm.triton.client import TritonLm
from tests import buckets, checkpoints
from tests.bench import environment
from tests.bench.measure import interleaved, seconds
from tests.bench.table import Row, Spread
from tests.own_tritons import NAMES, OwnTritons, own_tritons

_WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "lazy", "dog", "seven", "wizards", "box"]
_SMALL = {
    "hidden_size": 192,
    "intermediate_size": 512,
    "num_hidden_layers": 4,
    "num_attention_heads": 6,
    "num_key_value_heads": 6,
    "max_position_embeddings": 128,
}
_LARGE = {
    "hidden_size": 1024,
    "intermediate_size": 2816,
    "num_hidden_layers": 5,
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
}


def run(quick: bool) -> list[Row]:
    torch.set_num_threads(environment.num_threads())
    torch.use_deterministic_algorithms(True)
    with (
        tempfile.TemporaryDirectory() as home,
        own_tritons(Path(home), NAMES[:1]) as tritons,
        tritons.lm() as lm,
    ):
        folder = Path(home)
        scored = [_scoring(tritons, lm, folder / "small", size, quick) for size in (1, BATCH_SIZE)]
        return [*scored, _publishing(tritons, lm, folder, quick)]


def _scoring(tritons: OwnTritons, lm: TritonLm, folder: Path, size: int, quick: bool) -> Row:
    digest = tritons.register(checkpoints.make(folder, **_SMALL))
    model, tokenizer = load_model(folder).float(), load_tokenizer(folder)
    asked = _questions(size)

    def ours() -> list[list[OptionScore]]:
        return lm.log_likelihood(digest, asked)

    def peer() -> list[list[OptionScore]]:
        found = scoring.score(model, tokenizer, asked, BATCH_SIZE)
        return [[OptionScore(*each, of.num_stem_tokens_cut) for each in of.options] for of in found]

    same = ours() == peer()
    figures = _milliseconds({"ours": ours, "peer": peer}, calls=2 if quick else 20, quick=quick)
    over_ms = figures["ours"].median - figures["peer"].median
    return Row(
        benchmark=f"Triton scoring: {size} question{'s' * (size > 1)} a call",
        unit="ms",
        peer_name="the same arithmetic in process",
        lower_is_better=True,
        goal="the same bits",
        met=same,
        threads=environment.num_threads(),
        notes=f"{over_ms:.1f} ms a call over, {over_ms / size:.2f} ms a question",
        **figures,
    )


def _milliseconds(
    sides: Mapping[str, Callable[[], Any]], *, calls: int, quick: bool
) -> dict[str, Spread]:
    def side(call: Callable[[], Any]) -> Callable[[], float]:
        return lambda: 1000 * seconds(lambda: [call() for _ in range(calls)]) / calls

    timed = {name: side(call) for name, call in sides.items()}
    return interleaved(timed, repeats=2 if quick else 7)


def _publishing(tritons: OwnTritons, lm: TritonLm, home: Path, quick: bool) -> Row:
    sizes = _SMALL if quick else _SMALL | _LARGE
    folders = [checkpoints.make(home / f"large{seed}", seed=seed, **sizes) for seed in (0, 1)]
    digests = itertools.cycle([tritons.register(folder) for folder in folders])
    size_bytes = sum(file.stat().st_size for file in folders[0].iterdir())

    def ours() -> float:
        digest = next(digests)
        return seconds(lambda: lm.publisher.converge(lambda: digest))

    figures = interleaved(
        {"ours": ours, "peer": lambda: seconds(lambda: _copy(tritons, folders[0]))},
        repeats=1 if quick else 5,
    )
    times = figures["ours"].median / figures["peer"].median
    return Row(
        benchmark=f"Triton: publish {size_bytes / 2**20:.0f} MiB to first answer",
        unit="s",
        peer_name="minio-py: the same bytes in and out",
        lower_is_better=True,
        notes=f"{times:.1f} times a plain copy; one replica, a new process that imports torch",
        **figures,
    )


def _copy(tritons: OwnTritons, folder: Path) -> None:
    minio, prefix = buckets.client(tritons.settings), uuid4().hex
    with tempfile.TemporaryDirectory() as out:
        for file in folder.iterdir():
            minio.fput_object("models", f"copies/{prefix}/{file.name}", str(file))
            target = str(Path(out) / file.name)
            minio.fget_object("models", f"copies/{prefix}/{file.name}", target)
            minio.remove_object("models", f"copies/{prefix}/{file.name}")


def _questions(count: int) -> list[Question]:
    rng = random.Random(0)

    def text(low: int, high: int) -> str:
        return " ".join(rng.choices(_WORDS, k=rng.randint(low, high)))

    options = [tuple(f" {text(4, 7)}" for _ in range(4)) for _ in range(count)]
    return [Question(text(15, 25), each) for each in options]
