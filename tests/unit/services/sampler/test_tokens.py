import numpy as np
import pytest
from tokenizers import Tokenizer

from libs.errors import Conflict, Corrupt, InvalidInput
from libs.formats import TOKEN_COUNTS, Certificate, read_rows, write_json
from services.sampler.tokens import open_tokens, passage_ids, write_tokens


@pytest.fixture
def out(tmp_path):
    folder = tmp_path / "tokens"
    folder.mkdir()
    return folder


def written(passages, tokenizer, out):
    return write_tokens(passages, tokenizer, out, tokenizer_id="t", on_progress=lambda *_: None)


def test_a_passage_reads_back_as_its_words(world, out):
    passages, tokenizer = world.passages([world.passage("onion mast onion")]), world.tokenizer
    written(passages, tokenizer, out)
    tokens = open_tokens(world.folder(out))
    vocabulary = tokenizer_vocabulary(tokenizer)
    assert tokens.tokens.tolist() == [vocabulary[word] for word in ("onion", "mast", "onion")]
    assert tokens.draw_lengths.tolist() == [4]


def test_counts_offsets_and_passages_agree(world, out):
    passages = world.passages(world.subject_passages())
    info = written(passages, world.tokenizer, out)
    tokens = open_tokens(world.folder(out))
    counts = read_rows(out / "token_counts.parquet", TOKEN_COUNTS)
    ids = [row["passage_id"] for row in counts]
    assert ids == sorted(ids) == passage_ids(world.folder(out))
    assert [row["num_tokens"] for row in counts] == np.diff(tokens.offsets).tolist()
    assert info == tokens.info
    assert info.num_tokens == len(tokens.tokens) == tokens.offsets[-1]
    assert info.eos_token_id == 0


def test_the_certificate_travels_with_the_tokens(world, out):
    passages = world.passages(world.subject_passages())
    written(passages, world.tokenizer, out)
    original = Certificate.read(passages.path("certificate.json"))
    assert Certificate.read(out / "certificate.json") == original


def test_passages_without_certificate_are_refused(world, out):
    passages = world.passages(world.subject_passages())
    passages.path("certificate.json").unlink()
    with pytest.raises(InvalidInput, match="certificate"):
        written(passages, world.tokenizer, out)


def test_a_certificate_of_other_passages_is_a_conflict(world, out):
    passages = world.passages(world.subject_passages())
    other = world.passages([world.passage("onion")], name="other")
    (passages.root / "certificate.json").write_bytes(other.path("certificate.json").read_bytes())
    with pytest.raises(Conflict, match="covers passages"):
        written(passages, world.tokenizer, out)


def test_passages_out_of_order_are_corrupt(world, out):
    rows = sorted(world.subject_passages(), key=lambda row: row["passage_id"], reverse=True)
    passages = world.passages(rows, in_order=False)
    with pytest.raises(Corrupt, match="sorted by passage_id"):
        written(passages, world.tokenizer, out)


def test_no_passages_make_empty_tokens(world, out):
    written(world.passages([]), world.tokenizer, out)
    tokens = open_tokens(world.folder(out))
    assert len(tokens.tokens) == 0
    assert tokens.draw_lengths.tolist() == []


def test_the_separator_of_a_checkpoint_is_read_from_its_config(world, out):
    world.tokenizer.path("tokenizer_config.json").unlink()
    write_json(world.tokenizer.root / "config.json", {"eos_token_id": 3})
    info = written(world.passages(world.subject_passages()), world.tokenizer, out)
    assert info.eos_token_id == 3


def test_a_tokenizer_without_separator_is_refused(world, out):
    write_json(world.tokenizer.root / "tokenizer_config.json", {})
    with pytest.raises(InvalidInput, match="eos_token"):
        written(world.passages(world.subject_passages()), world.tokenizer, out)


def test_a_tokenizer_of_another_kind_is_refused(world, out):
    write_json(world.tokenizer.root / "tokenizer.json", {"pieces": []})
    with pytest.raises(InvalidInput, match="model"):
        written(world.passages(world.subject_passages()), world.tokenizer, out)


def test_a_cut_token_file_is_corrupt(world, out):
    written(world.passages(world.subject_passages()), world.tokenizer, out)
    cut = (out / "tokens.bin").read_bytes()[:-4]
    (out / "tokens.bin").write_bytes(cut)
    with pytest.raises(Corrupt, match=r"offsets\.npy ends at"):
        open_tokens(world.folder(out))


def tokenizer_vocabulary(tokenizer):
    return Tokenizer.from_file(str(tokenizer.path("tokenizer.json"))).get_vocab()
