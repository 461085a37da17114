"""A clustering at rest: which passage belongs where, and what each cluster is about.

labels.parquet     LABELS, by passage id
centroids.npy      float32 unit vectors, shape (K, D)
clustering.json    clusters by falling size: sizes, top terms, loss of each pass
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from libs.errors import Conflict
from libs.formats import read_json, read_table, table_schema, write_json
from services.sampler.cluster import Clustering
from services.sampler.tokens import Folder

LABELS = table_schema(passage_id=pa.string(), cluster=pa.int32(), cosine=pa.float64())


def write_clustering(
    out: Path, ids: pa.ChunkedArray, found: Clustering, terms: Sequence[Sequence[str]]
) -> None:
    """Write the files named above; `ids` are the N passages, `terms` the K lists of top terms."""
    cosines = found.cosines.astype(np.float64)
    table = pa.table([ids.combine_chunks(), found.labels, cosines], schema=LABELS)
    pq.write_table(table, out / "labels.parquet", compression="zstd")
    np.save(out / "centroids.npy", found.centroids)
    description = {
        "num_clusters": len(found.centroids),
        "sizes": found.sizes.tolist(),
        "top_terms": terms,
        "inertia": list(found.losses),
        "iterations": len(found.losses),
    }
    write_json(out / "clustering.json", description)


def read_labels(clustering: Folder, passage_ids: Sequence[str]) -> NDArray[np.int64]:
    """Return the cluster of each passage, shape (N,).

    Raises:
        Conflict: the clustering is of other passages.
    """
    table = read_table(clustering.path("labels.parquet"), LABELS)
    clustered = table["passage_id"].to_pylist()
    if clustered != list(passage_ids):
        raise Conflict(
            f"expected a clustering of the {len(passage_ids)} passages of the tokens, got one of "
            f"{len(clustered)} passages, {len(set(clustered) & set(passage_ids))} of them the same"
        )
    return np.asarray(table["cluster"].to_numpy(), dtype=np.int64)


def read_terms(clustering: Folder) -> list[list[str]]:
    """Return the top terms of each cluster, best first."""
    terms: list[list[str]] = read_json(clustering.path("clustering.json"))["top_terms"]
    return terms
