"""The MinIO adapter beside bare minio-py on the same server.

Both sides digest every byte with sha256: on the way up the server compares, on the way down the
client does. minio-py does the first by itself; on its way down the peer hashes as it reads. Only
ours has, beside that, conditions, metadata, repeats and typed errors, and parts that resume. Large
objects come from and go to files; each is deleted after its turn, outside the time.
"""

import hashlib
import io
import itertools
import os
import tempfile
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from minio import Minio

from libs.blobs.minio import MinioBlobs
from libs.digests import file_sha256
from tests import stack
from tests.bench.measure import interleaved, rate
from tests.bench.table import Row, Spread
from tests.buckets import client, fresh_namespace, open_blobs

_PART_BYTES = 16 << 20
_STREAMS = 4
_MIB = 1 << 20
_SMALL = bytes(range(250)) * 4
_GOAL = 0.95


def run(quick: bool) -> list[Row]:
    size_mib, count, repeats = (64, 50, 2) if quick else (1024, 200, 5)
    settings = stack.settings()
    with tempfile.TemporaryDirectory() as folder, fresh_namespace(settings) as namespace:
        place = Path(folder)
        (place / "source").write_bytes(os.urandom(size_mib * _MIB))
        blobs = open_blobs(settings, place / "cache", namespace)
        blobs.create("artifacts/first", b"")  # makes the bucket
        ours = _Ours(blobs, place)
        peer = _Peer(client(settings), f"{namespace}artifacts", place)
        return [
            *_large_rows(ours, peer, size_mib, repeats),
            *_small_rows(ours, peer, count, 3 * repeats),
        ]


def _large_rows(ours: "_Ours", peer: "_Peer", size_mib: int, repeats: int) -> list[Row]:
    def speed(work: Callable[[], None], undo: Callable[[], None]) -> Callable[[], float]:
        def turn() -> float:
            figure = rate(work, size_mib)()
            undo()
            return figure

        return turn

    up = interleaved(
        {
            "ours": speed(ours.put, ours.delete),
            "peer": speed(lambda: peer.put(_STREAMS), peer.delete),
            "single": speed(lambda: peer.put(1), peer.delete),
        },
        repeats=repeats,
    )
    ours.put()
    peer.put(_STREAMS)
    down = interleaved(
        {"ours": speed(ours.get, ours.forget), "peer": speed(peer.get, peer.forget)},
        repeats=repeats,
    )
    return [
        _row(f"blobs: create, {size_mib} MiB file", "MiB/s", f"minio-py, {_STREAMS} streams", up),
        _row(
            f"blobs: create, {size_mib} MiB file, and one stream",
            "MiB/s",
            "minio-py, 1 stream",
            {"ours": up["ours"], "peer": up["single"]},
            goal=1.0,
        ),
        _row(f"blobs: local, {size_mib} MiB", "MiB/s", "minio-py and sha256", down, goal=1.0),
    ]


def _small_rows(ours: "_Ours", peer: "_Peer", count: int, repeats: int) -> list[Row]:
    puts = interleaved(
        {
            "ours": rate(lambda: ours.put_small(count), count),
            "peer": rate(lambda: peer.put_small(count), count),
        },
        repeats=repeats,
    )
    gets = interleaved(
        {
            "ours": rate(lambda: ours.get_small(count), count),
            "peer": rate(lambda: peer.get_small(count), count),
        },
        repeats=repeats,
    )
    return [
        _row("blobs: create, 1,000 bytes", "blobs/s", "minio-py, put_object", puts),
        _row("blobs: read, 1,000 bytes", "blobs/s", "minio-py, get_object and sha256", gets),
    ]


def _row(
    name: str, unit: str, peer_name: str, figures: Mapping[str, Spread], goal: float = _GOAL
) -> Row:
    sides = {side: figures[side] for side in ("ours", "peer")}
    row = Row(benchmark=name, unit=unit, peer_name=peer_name, **sides)
    words = f"at least {goal:g} of it" if goal < 1 else "faster"
    return replace(row, goal=words, met=row.ratio >= goal)


class _Ours:
    def __init__(self, blobs: MinioBlobs, place: Path) -> None:
        self._blobs, self._source = blobs, place / "source"
        self._numbers = itertools.count()

    def put(self) -> None:
        self._blobs.create("artifacts/ours", self._source)

    def get(self) -> None:
        self._path = self._blobs.local("artifacts/ours")
        assert self._path.stat().st_size == self._source.stat().st_size

    def delete(self) -> None:
        self._blobs.delete("artifacts/ours")

    def forget(self) -> None:
        self._path.unlink()

    def put_small(self, count: int) -> None:
        for _ in range(count):
            self._blobs.create(f"artifacts/small/ours/{next(self._numbers)}", _SMALL)

    def get_small(self, count: int) -> None:
        for number in range(count):
            assert self._blobs.read(f"artifacts/small/ours/{number}").data == _SMALL


class _Peer:
    def __init__(self, minio: Minio, bucket: str, place: Path) -> None:
        self._minio, self._bucket = minio, bucket
        self._source, self._target = place / "source", place / "target"
        self._digest = bytes.fromhex(file_sha256(self._source))
        self._numbers = itertools.count()

    def put(self, streams: int) -> None:
        self._minio.fput_object(
            self._bucket,
            "peer",
            str(self._source),
            part_size=_PART_BYTES,
            num_parallel_uploads=streams,
        )

    def get(self) -> None:
        answer = self._minio.get_object(self._bucket, "peer")
        digest = hashlib.sha256()
        with answer, self._target.open("wb") as file:
            for piece in answer.stream(_MIB):
                digest.update(piece)
                file.write(piece)
        assert digest.digest() == self._digest

    def delete(self) -> None:
        self._minio.remove_object(self._bucket, "peer")

    def forget(self) -> None:
        self._target.unlink()

    def put_small(self, count: int) -> None:
        for _ in range(count):
            name = f"small/peer/{next(self._numbers)}"
            self._minio.put_object(self._bucket, name, io.BytesIO(_SMALL), len(_SMALL))

    def get_small(self, count: int) -> None:
        for number in range(count):
            with self._minio.get_object(
                self._bucket,
                f"small/ours/{number}",  # the peer's own carry no checksum
                request_headers={"x-amz-checksum-mode": "ENABLED"},
            ) as answer:
                digest = b64encode(hashlib.sha256(answer.read()).digest()).decode()
                assert digest == answer.headers["x-amz-checksum-sha256"]
