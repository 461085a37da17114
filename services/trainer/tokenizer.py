"""Byte-level BPE tokenizers: trained, taken out of a checkpoint, and put into one.

Saved as Hugging Face files, so that `AutoTokenizer.from_pretrained` opens them. Training is
deterministic: the same texts in the same order give the same bytes.
"""

import shutil
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from libs import formats
from libs.errors import InvalidInput

END_OF_TEXT = "<|endoftext|>"
DEFAULT_VOCABULARY_SIZE = 4096
_SMALLEST = 257
"""Every byte, and the end of text."""
FILES = (
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "merges.txt",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
)


def train(texts: Iterable[str], vocabulary_size: int) -> Tokenizer:
    """Train a byte-level BPE tokenizer with one special token, `END_OF_TEXT`, of id 0.

    The vocabulary is smaller than asked for when no pair of tokens occurs twice any more.
    Source: Sennrich et al. 2016 (arXiv:1508.07909); over bytes as in GPT-2.

    Raises:
        InvalidInput: `vocabulary_size` has no room for every byte.
    """
    check_vocabulary_size(vocabulary_size)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        min_frequency=2,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def check_vocabulary_size(size: int) -> None:
    """Raise `InvalidInput` when a vocabulary of `size` entries has no room for every byte."""
    if size < _SMALLEST:
        raise InvalidInput(f"vocabulary_size must be at least {_SMALLEST}, got {size}")


def save(tokenizer: Tokenizer, folder: Path) -> None:
    """Write `tokenizer.json` and `tokenizer_config.json`."""
    (folder / "tokenizer.json").write_text(tokenizer.to_str(), encoding="utf-8")
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": END_OF_TEXT,
        "clean_up_tokenization_spaces": False,
    }
    formats.write_json(folder / "tokenizer_config.json", settings)


def copy(source: Path, target: Path) -> None:
    """Copy the tokenizer's files from one folder to another.

    Raises:
        InvalidInput: there is no `tokenizer.json`.
    """
    if not (source / "tokenizer.json").is_file():
        raise InvalidInput("a tokenizer needs tokenizer.json: save the fast tokenizer first")
    for name in FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)


def size(folder: Path) -> int:
    """Return the number of ids that the folder's tokenizer can give."""
    vocabulary: dict[str, int] = Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab()
    return max(vocabulary.values()) + 1


def end_of_text_id(folder: Path) -> int | None:
    """Return the id of the folder's eos token, None when it names none."""
    path = folder / "tokenizer_config.json"
    token = formats.read_json(path).get("eos_token") if path.is_file() else None
    if isinstance(token, dict):
        token = token["content"]
    found: int | None = (
        Tokenizer.from_file(str(folder / "tokenizer.json")).token_to_id(token) if token else None
    )
    return found
