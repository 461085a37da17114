import json

import pytest
from transformers import AutoTokenizer

from libs.errors import InvalidInput
from services.trainer import tokenizer

TEXTS = ["def add(a, b):\n    return a + b\n" * 3, "naïve café — 東京 and 🜁", "tabs\tand\r\nlines"]


def trained(folder, texts=TEXTS, size=300):
    folder.mkdir()
    tokenizer.save(tokenizer.train(texts, size), folder)
    return folder


def test_transformers_opens_it_and_every_text_comes_back(tmp_path):
    opened = AutoTokenizer.from_pretrained(str(trained(tmp_path / "t")), local_files_only=True)
    for text in [*TEXTS, "never seen: Ж\x00 \u200b  two  spaces "]:
        ids = opened(text)["input_ids"]
        assert opened.decode(ids) == text
        assert 0 not in ids


def test_the_end_of_text_is_one_token_of_id_0(tmp_path):
    folder = trained(tmp_path / "t")
    opened = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    assert opened.eos_token == tokenizer.END_OF_TEXT
    assert opened(tokenizer.END_OF_TEXT)["input_ids"] == [0]
    assert tokenizer.end_of_text_id(folder) == 0


def test_the_same_texts_give_the_same_bytes(tmp_path):
    first, second = (trained(tmp_path / name, TEXTS * 20) for name in ("a", "b"))
    for path in first.iterdir():
        assert path.read_bytes() == (second / path.name).read_bytes()


def test_the_vocabulary_has_the_size_asked_for_where_text_allows(tmp_path):
    assert tokenizer.size(trained(tmp_path / "t", size=270)) == 270
    assert tokenizer.size(trained(tmp_path / "u", [""], size=4096)) == 257


def test_a_vocabulary_without_room_for_every_byte_is_refused():
    with pytest.raises(InvalidInput, match="257"):
        tokenizer.train(TEXTS, 256)


def test_a_copy_has_the_tokenizers_files_and_no_others(tmp_path):
    source, target = trained(tmp_path / "s"), tmp_path / "t"
    target.mkdir()
    (source / "model.safetensors").write_bytes(b"weights")
    tokenizer.copy(source, target)
    assert {path.name for path in target.iterdir()} == {"tokenizer.json", "tokenizer_config.json"}


def test_a_slow_tokenizer_alone_is_refused(tmp_path):
    with pytest.raises(InvalidInput, match=r"tokenizer\.json"):
        tokenizer.copy(tmp_path, tmp_path / "t")


def test_an_eos_token_is_found_in_every_spelling(tmp_path):
    folder = trained(tmp_path / "t")
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({"eos_token": {"content": "<|endoftext|>"}}))
    assert tokenizer.end_of_text_id(folder) == 0
    path.unlink()
    assert tokenizer.end_of_text_id(folder) is None
