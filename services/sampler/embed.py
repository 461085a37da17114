"""Turns texts into unit vectors: TF-IDF over the shared words, reduced by a truncated SVD.

ClusterClip embeds with a sentence model of 137 M parameters on GPUs. Latent semantic analysis
needs none and separates topics, which is all that the clusters are for; it is deterministic, with
BLAS held to one thread.

Sources: Deerwester et al. 1990 (latent semantic analysis); Halko, Martinsson and Tropp 2011
(randomised SVD), as scikit-learn has it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import normalize
from sklearn.utils.extmath import randomized_svd

from libs.errors import InvalidInput
from libs.words import words
from services.sampler.blas import one_blas_thread

_SVD_PASSES = 5
"""Power iterations of the randomised SVD; fixed, since scikit-learn's default may change."""
_MAX_TERMS = 100_000
_FEW_TEXTS = 50
"""Below it every word counts: frequency says nothing yet."""


@dataclass(frozen=True, kw_only=True)
class Embedding:
    """Texts as vectors, and the terms that can describe a group of them."""

    vectors: NDArray[np.float32]
    """Unit rows, shape (N, D)."""
    weights: sparse.csr_matrix
    """TF-IDF, shape (N, V), rows of length 1, or 0 where a text has no known word."""
    terms: tuple[str, ...]
    """The V words, ascending."""


def embed(texts: Sequence[str], *, dimensions: int, seed: int) -> Embedding:
    """Embed texts.

    Texts without any known word point along one further axis of their own, so that every row has
    length 1 and those texts find each other.

    Args:
        texts: N of them, at least 1.
        dimensions: D wanted; there are never more than texts or terms allow.
        seed: of the randomised SVD.

    Raises:
        InvalidInput: no texts, or `dimensions` below 1.
    """
    if min(len(texts), dimensions) < 1:
        raise InvalidInput(
            f"texts and dimensions must be at least 1, got {len(texts)} and {dimensions}"
        )
    weights, terms = _tf_idf(texts)
    with one_blas_thread():
        vectors = _reduced(weights, dimensions, seed)
    lost = np.linalg.norm(vectors, axis=1) < 1e-6
    if lost.any():
        vectors = np.column_stack([np.where(lost[:, None], 0, vectors), lost])
    return Embedding(
        vectors=normalize(vectors.astype(np.float32)), weights=weights, terms=tuple(terms)
    )


def top_terms(
    embedding: Embedding, labels: NDArray[np.int32], *, num_terms: int = 8
) -> list[list[str]]:
    """Return for each cluster the terms that stand out in it, best first.

    A term stands out by its mean weight in the cluster less its mean weight everywhere; a cluster
    has fewer than `num_terms` if no more stand out.
    """
    num_texts, num_clusters = len(labels), int(labels.max()) + 1
    members = sparse.csr_matrix(
        (np.ones(num_texts), (labels, np.arange(num_texts))), shape=(num_clusters, num_texts)
    )
    means = normalize(members, norm="l1") @ embedding.weights
    everywhere = np.asarray(embedding.weights.mean(axis=0)).ravel()
    return [_best(row, everywhere, embedding.terms, num_terms) for row in means]


def _best(
    row: sparse.csr_matrix, everywhere: NDArray[np.float64], terms: Sequence[str], num_terms: int
) -> list[str]:
    excess = row.data - everywhere[row.indices]
    # Rounded, so that equal terms come by name and not by the order of a sum.
    ranked = sorted(
        (-round(float(value), 9), terms[term])
        for value, term in zip(excess, row.indices, strict=True)
        if value > 0
    )
    return [term for _, term in ranked[:num_terms]]


def _tf_idf(texts: Sequence[str]) -> tuple[sparse.csr_matrix, list[str]]:
    few = len(texts) < _FEW_TEXTS
    vectorizer = TfidfVectorizer(
        analyzer=words,
        sublinear_tf=True,
        min_df=1 if few else 2 if len(texts) < 20_000 else 5,
        max_df=1.0 if few else 0.5,
        max_features=_MAX_TERMS,
        dtype=np.float32,
    )
    try:
        weights = vectorizer.fit_transform(texts)
    except ValueError:  # scikit-learn's word for: no term is left
        return sparse.csr_matrix((len(texts), 0), dtype=np.float32), []
    return weights, [str(term) for term in vectorizer.get_feature_names_out()]


def _reduced(weights: sparse.csr_matrix, dimensions: int, seed: int) -> NDArray[np.float32]:
    """Project on the leading right singular vectors, shape (N, D'); signs fixed by `svd_flip`."""
    rank = min(*weights.shape)
    if rank == 0:
        return np.zeros((weights.shape[0], 1), dtype=np.float32)
    left, values, _ = randomized_svd(
        weights,
        min(dimensions, rank),
        n_iter=_SVD_PASSES,
        power_iteration_normalizer="LU",
        random_state=int(np.random.SeedSequence(seed).generate_state(1)[0]),
    )
    return np.asarray(left * values, dtype=np.float32)
