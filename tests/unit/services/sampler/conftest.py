"""A small world: certified passages about three subjects, and a word-level tokenizer."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from libs.errors import NotFound
from libs.formats import PASSAGES, Certificate, ids_sha256, write_json, write_table
from libs.words import words

SUBJECTS = {
    "cooking": "onion butter simmer garlic oven flour",
    "sailing": "mast harbour anchor wind keel sail",
    "chess": "bishop gambit knight castle pawn check",
}


@dataclass(frozen=True)
class Folder:
    """Files in a folder, as `services.sampler.tokens.Folder` asks for them."""

    root: Path

    def path(self, name):
        if not (self.root / name).is_file():
            raise NotFound(f"no file {name}")
        return self.root / name


@dataclass(frozen=True)
class World:
    """Makes what other services would have made, below one folder."""

    root: Path

    def folder(self, path):
        return Folder(path)

    def passage(self, text, topic=""):
        passage_id = hashlib.sha256(" ".join(words(text)).encode()).hexdigest()
        return {
            "passage_id": passage_id,
            "document_id": passage_id,
            "url": "",
            "topic": topic,
            "position": 0,
            "num_words": len(text.split()),
            "text": text,
        }

    def subject_passages(self, per_subject=8):
        """Return passages of 5 words and more, each distinct."""
        return [
            self.passage(" ".join((vocabulary.split() * 3)[: 4 + number]) + f" n{number}", name)
            for name, vocabulary in SUBJECTS.items()
            for number in range(per_subject)
        ]

    def passages(self, rows, *, name="passages", in_order=True):
        """Write what the corpus writes: passages by id and their certificate."""
        root = self.root / name
        root.mkdir()
        rows = sorted(rows, key=lambda row: row["passage_id"]) if in_order else rows
        write_table(root / "passages.parquet", PASSAGES, rows)
        Certificate(
            exam_set_id="e" * 64,
            passages_sha256=ids_sha256(row["passage_id"] for row in rows),
            texts_sha256="",
            num_passages=len(rows),
            num_items=0,
            num_dropped=0,
        ).write(root)
        return Folder(root)

    @cached_property
    def tokenizer(self):
        """One token a word; `<eos>` is 0 and unknown words are 1."""
        root = self.root / "tokenizer"
        root.mkdir()
        known = sorted({word for text in SUBJECTS.values() for word in text.split()})
        vocabulary = {word: number for number, word in enumerate(["<eos>", "<unk>", *known])}
        tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        tokenizer.save(str(root / "tokenizer.json"))
        write_json(root / "tokenizer_config.json", {"eos_token": "<eos>"})
        return Folder(root)


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


@pytest.fixture(scope="session")
def make_world():
    return World
