"""Tokens at rest: passages encoded once, then read by memory map from any process.

tokens.bin              little-endian uint32, passages one after the other, no separators
offsets.npy             int64, shape (N + 1,): passage i is tokens[offsets[i] : offsets[i + 1]]
token_counts.parquet    passage id and number of tokens, by passage id
tokens.json             whose tokenizer, its separator, how many
certificate.json        that of the passages: tokens of unchecked passages do not exist
"""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from tokenizers import Tokenizer

from libs.digests import file_sha256
from libs.errors import Conflict, Corrupt, InvalidInput, NotFound
from libs.formats import (
    PASSAGES,
    TOKEN_COUNTS,
    Certificate,
    ids_sha256,
    read_json,
    read_table,
    write_json,
)

TOKEN_TYPE = np.dtype("<u4")
_BATCH = 1024
"""Passages encoded between two reports of progress."""


class Folder(Protocol):
    """An artifact, as far as its files go."""

    def path(self, name: str) -> Path:
        """Return a local file, checked. Raises `NotFound` or `Corrupt`."""
        ...


@dataclass(frozen=True, kw_only=True)
class TokensInfo:
    """`tokens.json`."""

    tokenizer_id: str
    """Artifact that the tokenizer came from."""
    tokenizer_sha256: str
    """Of its `tokenizer.json`: equal digests, equal tokens."""
    eos_token_id: int
    """Separates passages in a stream."""
    vocabulary_size: int
    """One more than the largest id."""
    num_tokens: int
    """Without separators."""


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """Tokens of N passages, memory-mapped."""

    tokens: NDArray[np.uint32]
    """All passages one after the other."""
    offsets: NDArray[np.int64]
    """Shape (N + 1,)."""
    info: TokensInfo

    @property
    def draw_lengths(self) -> NDArray[np.int64]:
        """Tokens that a draw of each passage costs, its separator included; shape (N,)."""
        return np.asarray(np.diff(self.offsets) + 1, dtype=np.int64)


def open_tokens(folder: Folder) -> Tokens:
    """Map the tokens of an artifact of kind `tokens`.

    Raises:
        Corrupt: the files do not fit together.
    """
    info = TokensInfo(**read_json(folder.path("tokens.json")))
    offsets = np.load(folder.path("offsets.npy"))
    path = folder.path("tokens.bin")
    # An empty file cannot be mapped.
    empty = np.empty(0, dtype=TOKEN_TYPE)
    mapped = np.memmap(path, dtype=TOKEN_TYPE, mode="r") if path.stat().st_size else empty
    # A plain array over the map: a slice of a `memmap` costs ten times as much.
    tokens = np.asarray(mapped)
    if not len(offsets) or offsets[-1] != len(tokens):
        raise Corrupt(f"offsets.npy ends at {offsets[-1:]}, tokens.bin has {len(tokens)} tokens")
    return Tokens(tokens=tokens, offsets=offsets, info=info)


def passage_ids(folder: Folder) -> list[str]:
    """Return the ids of the passages of a `tokens` artifact, in the order of its offsets."""
    table = read_table(folder.path("token_counts.parquet"), TOKEN_COUNTS)
    ids: list[str] = table["passage_id"].to_pylist()
    return ids


def certified_passages(folder: Folder) -> pa.Table:
    """Read the passages of an artifact, by passage id, and hold them against their certificate.

    Raises:
        InvalidInput: there is no certificate: nobody held these passages against the exams.
        Conflict: the certificate is of other passages.
        Corrupt: the passages are not in order, so tokens and labels could not be matched.
    """
    table = read_table(folder.path("passages.parquet"), PASSAGES)
    try:
        certificate = Certificate.read(folder.path("certificate.json"))
    except NotFound as error:
        raise InvalidInput(f"expected passages with a certificate, got none: {error}") from error
    ids = table["passage_id"].to_pylist()
    if any(first >= second for first, second in pairwise(ids)):
        raise Corrupt("passages.parquet: expected rows sorted by passage_id, each once")
    actual = ids_sha256(ids)
    if actual != certificate.passages_sha256:
        raise Conflict(
            f"the certificate covers passages with digest {certificate.passages_sha256}, "
            f"these have {actual}"
        )
    return table


def write_tokens(
    passages: Folder,
    tokenizer: Folder,
    out: Path,
    *,
    tokenizer_id: str,
    on_progress: Callable[[int, int], None],
) -> TokensInfo:
    """Encode certified passages into the files named above and return what `tokens.json` says.

    Args:
        passages: artifact of kind `passages`.
        tokenizer: artifact with `tokenizer.json` and its configuration.
        out: folder to write to.
        tokenizer_id: of the artifact, for the record.
        on_progress: called with passages done and passages in all.

    Raises:
        InvalidInput: no certificate, no readable tokenizer or no end-of-sequence token.
        Conflict: the certificate is of other passages.
    """
    table = certified_passages(passages)
    encoder = _encoder(tokenizer)
    lengths = _encode(table["text"], encoder, out / "tokens.bin", on_progress)
    info = TokensInfo(
        tokenizer_id=tokenizer_id,
        tokenizer_sha256=file_sha256(tokenizer.path("tokenizer.json")),
        eos_token_id=_eos_token_id(tokenizer, encoder),
        vocabulary_size=max(encoder.get_vocab().values(), default=-1) + 1,
        num_tokens=int(lengths.sum()),
    )
    np.save(out / "offsets.npy", np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))
    counts = pa.table([table["passage_id"].combine_chunks(), lengths], schema=TOKEN_COUNTS)
    pq.write_table(counts, out / "token_counts.parquet", compression="zstd")
    write_json(out / "tokens.json", asdict(info))
    shutil.copyfile(passages.path("certificate.json"), out / "certificate.json")
    return info


def _encode(
    texts: pa.ChunkedArray,
    encoder: Tokenizer,
    path: Path,
    on_progress: Callable[[int, int], None],
) -> NDArray[np.int32]:
    """Write the tokens of all texts and return how many each has, shape (N,)."""
    lengths = np.zeros(len(texts), dtype=np.int32)
    with path.open("wb") as file:
        for start in range(0, len(texts), _BATCH):
            batch = texts.slice(start, _BATCH).to_pylist()
            ids = [each.ids for each in encoder.encode_batch_fast(batch, add_special_tokens=False)]
            lengths[start : start + len(ids)] = [len(each) for each in ids]
            file.writelines(np.array(each, dtype=TOKEN_TYPE).tobytes() for each in ids)
            on_progress(start + len(ids), len(texts))
    return lengths


def _encoder(tokenizer: Folder) -> Tokenizer:
    path = tokenizer.path("tokenizer.json")
    if "model" not in read_json(path):
        raise InvalidInput("expected tokenizer.json with a model, got one without")
    encoder = Tokenizer.from_file(str(path))
    encoder.no_truncation()
    encoder.no_padding()
    return encoder


def _eos_token_id(tokenizer: Folder, encoder: Tokenizer) -> int:
    """Return the id of the token that the tokenizer's configuration names as end of sequence."""
    named = _json_or_empty(tokenizer, "tokenizer_config.json").get("eos_token")
    content = named["content"] if isinstance(named, dict) else named
    by_name = encoder.token_to_id(content) if content else None
    number = _json_or_empty(tokenizer, "config.json").get("eos_token_id")
    found = by_name if by_name is not None else number
    if not isinstance(found, int):
        raise InvalidInput(
            "expected eos_token in tokenizer_config.json or eos_token_id in config.json, got "
            f"{named!r} and {number!r}"
        )
    return found


def _json_or_empty(folder: Folder, name: str) -> Mapping[str, Any]:
    try:
        value: Mapping[str, Any] = read_json(folder.path(name))
    except NotFound:
        return {}
    return value
