import numpy as np
import pytest

from libs.errors import InvalidInput
from services.sampler.embed import embed, top_terms

COOKING = ["onion butter simmer", "butter oven onion", "simmer butter oven"]
SAILING = ["mast keel anchor", "keel sail mast", "anchor keel sail"]


def test_texts_on_one_subject_point_the_same_way():
    vectors = embed(COOKING + SAILING, dimensions=2, seed=0).vectors
    cosines = vectors @ vectors.T
    assert cosines[:3, :3].min() > 0.9
    assert np.abs(cosines[:3, 3:]).max() < 0.1


def test_rows_are_of_length_one_even_where_no_word_is_known():
    found = embed([*COOKING, "...", "!?"], dimensions=3, seed=0)
    assert np.linalg.norm(found.vectors, axis=1) == pytest.approx(np.ones(5))
    assert found.vectors[3] @ found.vectors[4] == pytest.approx(1)
    assert found.vectors[3] @ found.vectors[0] == pytest.approx(0)


def test_without_any_word_all_texts_are_alike():
    assert embed(["...", "!"], dimensions=4, seed=0).vectors.tolist() == [[0, 1], [0, 1]]


@pytest.mark.parametrize("texts", [["one"], ["same text", "same text"], ["a b", "c d"] * 30])
def test_degenerate_texts_embed_without_a_warning(texts):
    vectors = embed(texts, dimensions=256, seed=0).vectors
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(len(texts)))


def test_same_seed_same_bits():
    rng = np.random.default_rng(0)
    texts = [" ".join(f"w{word}" for word in rng.integers(0, 300, 40)) for _ in range(200)]
    first, second = (embed(texts, dimensions=16, seed=5).vectors.tobytes() for _ in range(2))
    assert first == second


def test_top_terms_are_those_that_stand_out():
    found = embed(COOKING + SAILING, dimensions=2, seed=0)
    terms = top_terms(found, np.array([0, 0, 0, 1, 1, 1], dtype=np.int32), num_terms=2)
    assert terms[0][0] == "butter"
    assert terms[1][0] == "keel"
    assert [len(each) for each in terms] == [2, 2]


@pytest.mark.parametrize(("texts", "dimensions"), [([], 2), (["a"], 0)])
def test_nothing_to_embed_is_refused(texts, dimensions):
    with pytest.raises(InvalidInput, match="at least 1"):
        embed(texts, dimensions=dimensions, seed=0)
