"""Small trainings: a tokenizer, a tiny configuration, a stream, and stored plans."""

import json
import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pytest

from libs.artifacts import Artifacts
from libs.blobs.folder import FolderBlobs
from libs.digests import file_sha256
from libs.formats import (
    PASSAGES,
    TOKEN_COUNTS,
    Certificate,
    ids_sha256,
    write_json,
    write_table,
)
from libs.manifest import Request
from services.trainer import tokenizer
from services.trainer.schedule import Schedule

TEXT = "pack my box with five dozen liquor jugs and sphinx of black quartz judge my vow " * 3


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save(tokenizer.train([TEXT], 280), folder)
    return folder


@pytest.fixture(scope="session")
def config_json():
    """A Llama of 10,000 parameters."""
    return json.dumps(
        {
            "model_type": "llama",
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "max_position_embeddings": 16,
            "tie_word_embeddings": True,
        }
    )


@pytest.fixture(scope="session")
def schedule():
    return Schedule(
        batch_size=4,
        sequence_length=16,
        learning_rate=1e-2,
        warmup_steps=2,
        weight_decay=0.1,
        max_grad_norm=1.0,
        seed=5,
    )


@pytest.fixture(scope="session")
def stream_tokens():
    """58 sequences of 16 tokens and a rest: 15 steps, the last in part."""
    return np.random.default_rng(1).integers(0, 270, 58 * 16 + 7).astype(np.uint32)


@dataclass(frozen=True)
class World:
    """An object store, and what other services would have put there."""

    root: Path
    tokenizer_folder: Path

    @cached_property
    def blobs(self):
        return FolderBlobs(self.root / "blobs")

    @cached_property
    def artifacts(self):
        return Artifacts(self.blobs)

    def store(self, kind, write, **parameters):
        """Store what `write(folder)` leaves in a folder; return the artifact's id."""
        folder = Path(tempfile.mkdtemp(dir=self.root))
        write(folder)
        request = Request(kind=kind, inputs={}, parameters=parameters, recipe_version=1)
        return self.artifacts.create(request, folder, run={})

    @cached_property
    def tokenizer_id(self):
        return self.store("tokenizer", lambda folder: tokenizer.copy(self.tokenizer_folder, folder))

    @cached_property
    def exam_set_id(self):
        return self.store("exam_set", lambda folder: write_json(folder / "exam_set.json", {}))

    def passages(self, texts=(TEXT,)):
        rows = [
            {"passage_id": f"p{number}", "num_words": 1, "position": 0, "text": text}
            | dict.fromkeys(("document_id", "url", "topic"), "")
            for number, text in enumerate(texts)
        ]
        return self.store(
            "passages",
            lambda folder: write_table(folder / "passages.parquet", PASSAGES, rows),
            texts=list(texts),
        )

    def tokens(self, passage_ids, *, tokenizer_sha256=""):
        sha256 = tokenizer_sha256 or file_sha256(self.tokenizer_folder / "tokenizer.json")

        def write(folder):
            rows = [{"passage_id": each, "num_tokens": 9} for each in passage_ids]
            write_table(folder / "token_counts.parquet", TOKEN_COUNTS, rows)
            write_json(folder / "tokens.json", {"tokenizer_sha256": sha256})

        return self.store("tokens", write, passages=list(passage_ids), sha256=sha256)

    def certificate(self, passage_ids):
        return Certificate(
            exam_set_id=self.exam_set_id,
            passages_sha256=ids_sha256(passage_ids),
            texts_sha256="",
            num_passages=len(passage_ids),
            num_items=1,
            num_dropped=0,
        )

    def plan(self, *, passage_ids=("p1", "p2"), certified=None, replay=(), draws=(0, 1), **tokens):
        """Store a plan that draws `draws` of the passages and then of `replay`."""
        fields = {"tokens_id": self.tokens(passage_ids, **tokens)}
        fields["replay_tokens_id"] = self.tokens(replay) if replay else ""
        certified = passage_ids if certified is None else certified

        def write(folder):
            write_json(folder / "plan.json", fields)
            np.save(folder / "draws.npy", np.array(draws, np.int64))
            if certified:
                self.certificate(certified).write(folder)

        return self.store("plan", write, certified=list(certified), draws=list(draws), **fields)


@pytest.fixture
def world(tmp_path, tokenizer_folder):
    return World(tmp_path, tokenizer_folder)
