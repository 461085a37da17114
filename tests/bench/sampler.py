"""The sampler's order of draws and its stream, beside what one would write without it.

Order: the peer draws a cluster and then a document for every draw, as ClusterClip's text has it,
with numpy and without the clip; the limit is one permutation of as many numbers. Stream: the peer
packs the same draws by a plain loop over a memory map; the limit copies the map without packing.
"""

import json
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import grpc
import numpy as np
from athanor.sampler.v1 import sampler_pb2, sampler_pb2_grpc
from numpy.typing import NDArray

from services.sampler import clip, schedule
from services.sampler.readers import Readers
from services.sampler.servicer import SamplerServicer, Starter
from services.sampler.shelf import Shelf
from services.sampler.stream import PackedStream, Window, open_stream
from services.sampler.tokens import TOKEN_TYPE, TokensInfo, open_tokens
from services.trainer.adapters import GrpcBatches
from tests.bench.measure import interleaved, rate
from tests.bench.serving import serve_bare, serve_ours, served
from tests.bench.table import Row

_LENGTH, _BATCH = 512, 32
_SIZE = _LENGTH * _BATCH
_EOS, _CLIP = 1, 5
_SERVICE = "athanor.sampler.v1.SamplerService"

Ints = NDArray[np.int64]
Tokens = NDArray[np.uint32]


def run(quick: bool) -> list[Row]:
    num_passages, repeats = (2_000, 2) if quick else (30_000, 7)
    with tempfile.TemporaryDirectory() as folder:
        made = _make_plan(Path(folder), num_passages)
        return [
            _order(*((20_000, 2) if quick else (1_000_000, 5))),
            _stream_here(made, repeats),
            _stream_by_grpc(made, repeats),
        ]


def _order(num_documents: int, repeats: int) -> Row:
    rng = np.random.default_rng(0)
    labels, lengths = _documents(rng, num_documents)
    sizes = np.bincount(labels)
    costs = np.bincount(labels, weights=lengths).astype(np.int64)
    budget = 2 * int(lengths.sum())
    allocation = clip.allocate(costs, budget, clip=_CLIP)
    assert isinstance(allocation, clip.Allocation)
    ours = partial(
        schedule.order,
        labels,
        lengths,
        level=allocation.level,
        clip=_CLIP,
        budget=budget,
        seed=0,
    )
    num_draws = len(ours())
    members = np.argsort(labels, kind="stable")
    firsts = np.cumsum(sizes) - sizes

    def peer() -> Ints:
        clusters = rng.choice(len(sizes), num_draws, p=allocation.weights)
        places = (rng.random(num_draws) * sizes[clusters]).astype(np.int64)
        return cast(Ints, members[firsts[clusters] + places])

    figures = interleaved(
        {
            "ours": rate(ours, num_draws),
            "peer": rate(peer, num_draws),
            "limit": rate(lambda: rng.permutation(num_draws), num_draws),
        },
        repeats=repeats,
    )
    return Row(
        benchmark="sampler: order of draws",
        unit="ids/s",
        peer_name="numpy: a cluster by `choice`, then a document, unclipped",
        limit_name="numpy: one `permutation`",
        goal="above 1,000,000 ids/s on one core",
        met=figures["ours"].median > 1_000_000,
        notes=f"{num_draws:,} draws of {num_documents:,} documents in {len(sizes):,} clusters",
        **figures,
    )


def _stream_here(made: "_Made", repeats: int) -> Row:
    stream = made.open()
    window = Window(sequence_length=_LENGTH, batch_size=_BATCH)
    ours = partial(_batches_of, stream, window)
    _check_equal(ours(), made.packed())
    return Row(
        benchmark="sampler: stream, in process",
        unit="batches/s",
        peer_name="the same packing by a plain loop",
        limit_name="a memory map copied, not packed",
        notes=_described(made),
        **interleaved(
            {
                "ours": rate(partial(_drained, ours), made.num_batches),
                "peer": rate(partial(_drained, made.packed), made.num_batches),
                "limit": rate(partial(_drained, made.slices), made.num_batches),
            },
            repeats=repeats,
        ),
    )


def _stream_by_grpc(made: "_Made", repeats: int) -> Row:
    with (
        served(serve_ours, partial(_register_ours, made), _SERVICE) as ours,
        served(serve_bare, partial(_register_bare, made)) as bare,
        grpc.insecure_channel(bare) as channel,
    ):
        batches = GrpcBatches(ours)
        stub = sampler_pb2_grpc.SamplerServiceStub(channel)

        def of_ours() -> Iterator[Tokens]:
            for batch in batches.batches(
                "plan", sequence_length=_LENGTH, batch_size=_BATCH, from_position=0
            ):
                yield batch.tokens

        def of_bare(plan: str) -> Iterator[Tokens]:
            for answer in stub.Stream(sampler_pb2.StreamRequest(plan_id=plan)):
                yield np.frombuffer(answer.tokens, dtype=TOKEN_TYPE).reshape(-1, _LENGTH)

        _check_equal(of_ours(), of_bare("packed"))
        figures = interleaved(
            {
                "ours": rate(partial(_drained, of_ours), made.num_batches),
                "peer": rate(partial(_drained, of_bare, "packed"), made.num_batches),
                "limit": rate(partial(_drained, of_bare, "slices"), made.num_batches),
            },
            repeats=repeats,
        )
    return Row(
        benchmark="sampler: stream, over gRPC",
        unit="batches/s",
        peer_name="the plain loop behind bare grpcio",
        limit_name="a memory map behind bare grpcio",
        notes=_described(made),
        **figures,
    )


def _described(made: "_Made") -> str:
    return (
        f"batches of {_BATCH} sequences of {_LENGTH} tokens; both sides' "
        f"{made.num_batches * _SIZE:,} tokens are equal"
    )


def _documents(rng: np.random.Generator, num_documents: int) -> tuple[Ints, Ints]:
    """Return clusters of very different sizes, about sqrt(N), and lengths around 200 tokens."""
    shares = rng.pareto(1.5, round(num_documents**0.5)) + 0.1
    labels = np.searchsorted(np.cumsum(shares / shares.sum()), rng.random(num_documents))
    labels = np.unique(labels, return_inverse=True)[1]
    lengths = np.clip(rng.lognormal(5, 0.8, num_documents), 8, 4000).astype(np.int64)
    return labels.astype(np.int64), lengths


@dataclass(frozen=True)
class _Made:
    """A plan and its tokens as files; picklable, so that servers open them themselves."""

    folder: Path
    num_batches: int

    def path(self, name: str) -> Path:
        return self.folder / name

    def open(self) -> PackedStream:
        return open_stream(self, open_tokens(self), None)

    def packed(self) -> Iterator[Tokens]:
        """Pack by a plain loop: gather draws until there is a batch."""
        tokens = np.memmap(self.path("tokens.bin"), dtype=TOKEN_TYPE, mode="r")
        offsets, draws = np.load(self.path("offsets.npy")), np.load(self.path("draws.npy"))
        eos = np.array([_EOS], dtype=TOKEN_TYPE)
        waiting, have = [], 0
        for draw in draws:
            text = tokens[offsets[draw] : offsets[draw + 1]]
            waiting += [text, eos]
            have += len(text) + 1
            while have >= _SIZE:
                joined = np.concatenate(waiting)
                yield joined[:_SIZE].reshape(_BATCH, _LENGTH)
                waiting, have = [joined[_SIZE:]], have - _SIZE

    def slices(self) -> Iterator[Tokens]:
        """Copy the map from end to end, as often as it takes to have as many batches."""
        tokens = np.memmap(self.path("tokens.bin"), dtype=TOKEN_TYPE, mode="r")
        starts = range(0, len(tokens) - _SIZE, _SIZE)
        for batch in range(self.num_batches):
            start = starts[batch % len(starts)]
            yield np.array(tokens[start : start + _SIZE]).reshape(_BATCH, _LENGTH)


def _make_plan(folder: Path, num_passages: int) -> _Made:
    rng = np.random.default_rng(1)
    labels, costs = _documents(rng, num_passages)
    budget = 2 * int(costs.sum()) // _SIZE * _SIZE
    sizes = np.bincount(labels, weights=costs).astype(np.int64)
    allocation = clip.allocate(sizes, budget, clip=_CLIP)
    assert isinstance(allocation, clip.Allocation)
    draws = schedule.order(labels, costs, level=allocation.level, clip=_CLIP, budget=budget, seed=0)
    ends = np.cumsum(costs[draws])
    ends[-1] = budget
    offsets = np.concatenate([[0], np.cumsum(costs - 1)])
    rng.integers(2, 4096, offsets[-1]).astype(TOKEN_TYPE).tofile(folder / "tokens.bin")
    for name, array in (("offsets", offsets), ("draws", draws), ("ends", ends)):
        np.save(folder / f"{name}.npy", array)
    info = TokensInfo(
        tokenizer_id="",
        tokenizer_sha256="",
        eos_token_id=_EOS,
        vocabulary_size=4096,
        num_tokens=int(offsets[-1]),
    )
    (folder / "tokens.json").write_text(json.dumps(asdict(info)))
    (folder / "plan.json").write_text(json.dumps({"starved": ""}))
    return _Made(folder, budget // _SIZE)


def _batches_of(stream: PackedStream, window: Window) -> Iterator[Tokens]:
    return (batch.tokens for batch in stream.batches(window))


def _drained(batches: Callable[..., Iterable[Tokens]], *arguments: str) -> None:
    for _ in batches(*arguments):
        pass


def _check_equal(ours: Iterable[Tokens], peers: Iterable[Tokens]) -> None:
    for position, (one, other) in enumerate(zip(ours, peers, strict=True)):
        assert np.array_equal(one, other), f"batch {position} differs"


class _OnePlan:
    """A shelf with one plan on it."""

    def __init__(self, stream: PackedStream) -> None:
        self._stream = stream

    def open(self, _plan_id: str) -> PackedStream:
        return self._stream


def _register_ours(made: _Made, server: grpc.Server) -> None:
    servicer = SamplerServicer(
        cast(Starter, None), cast(Shelf, _OnePlan(made.open())), Readers(limit=8, stall_s=300)
    )
    sampler_pb2_grpc.add_SamplerServiceServicer_to_server(servicer, server)


def _register_bare(made: _Made, server: grpc.Server) -> None:
    sampler_pb2_grpc.add_SamplerServiceServicer_to_server(_Bare(made), server)


class _Bare(sampler_pb2_grpc.SamplerServiceServicer):
    def __init__(self, made: _Made) -> None:
        self._made = made

    def Stream(self, request: sampler_pb2.StreamRequest, _context: Any) -> Iterator[Any]:
        batches = self._made.slices() if request.plan_id == "slices" else self._made.packed()
        for number, batch in enumerate(batches):
            yield sampler_pb2.StreamResponse(
                position=number * _BATCH,
                tokens=batch.tobytes(),
                num_sequences=_BATCH,
                num_positions=self._made.num_batches * _BATCH,
            )
