"""A unary call through `libs.rpc` beside bare grpcio: what typed errors, deadlines, traces, metrics
and admission cost a call.

Same message, same servicer, one connection, one call at a time, server in another process.
"""

import tempfile
from pathlib import Path

import grpc
from athanor.lm.v1 import lm_pb2, lm_pb2_grpc

from deploy.tls.authority import make
from deploy.tls.folder import identity
from libs import rpc
from tests.bench.measure import interleaved, seconds
from tests.bench.serving import serve_bare, serve_ours, served
from tests.bench.table import Row

_SERVICE = "athanor.lm.v1.LmService"
_DIGEST = "5e" * 32


class _Servicer(lm_pb2_grpc.LmServiceServicer):
    def LoadWeights(
        self, request: lm_pb2.LoadWeightsRequest, context: grpc.ServicerContext
    ) -> lm_pb2.LoadWeightsResponse:
        return lm_pb2.LoadWeightsResponse(weights_digest=request.weights_digest, num_parameters=7)


def register(server: grpc.Server) -> None:
    lm_pb2_grpc.add_LmServiceServicer_to_server(_Servicer(), server)


def run(quick: bool) -> list[Row]:
    calls, repeats = (100, 2) if quick else (2000, 9)
    return [_against_bare(calls, repeats), _with_certificates(calls, repeats)]


def _against_bare(calls: int, repeats: int) -> Row:
    with (
        served(serve_ours, register, _SERVICE) as ours,
        served(serve_bare, register) as bare,
        rpc.connect(ours) as our_channel,
        grpc.insecure_channel(bare) as bare_channel,
    ):
        figures = interleaved(
            {
                "ours": lambda: microseconds(lm_pb2_grpc.LmServiceStub(our_channel), calls),
                "peer": lambda: microseconds(lm_pb2_grpc.LmServiceStub(bare_channel), calls),
            },
            repeats=repeats,
        )
    added = figures["ours"].median - figures["peer"].median
    return Row(
        benchmark="rpc: unary call",
        unit="us/call",
        lower_is_better=True,
        peer_name="grpcio without interceptors",
        notes=f"our interceptors, both ends together: {added:+.0f} us a call",
        **figures,
    )


def _with_certificates(calls: int, repeats: int) -> Row:
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder), ["lm", "operator"])
        own, callers = identity(Path(folder), "lm"), identity(Path(folder), "operator")
        with (
            served(serve_ours, register, _SERVICE, own) as secured,
            served(serve_ours, register, _SERVICE) as plain,
            rpc.connect(secured, tls=callers) as secured_channel,
            rpc.connect(plain) as plain_channel,
        ):
            figures = interleaved(
                {
                    "ours": lambda: microseconds(lm_pb2_grpc.LmServiceStub(secured_channel), calls),
                    "peer": lambda: microseconds(lm_pb2_grpc.LmServiceStub(plain_channel), calls),
                },
                repeats=repeats,
            )
    added = figures["ours"].median - figures["peer"].median
    return Row(
        benchmark="rpc: unary call over mutual TLS",
        unit="us/call",
        lower_is_better=True,
        peer_name="ours without certificates",
        notes=f"encryption, and who may call: {added:+.0f} us a call",
        **figures,
    )


def microseconds(stub: lm_pb2_grpc.LmServiceStub, calls: int) -> float:
    """Return how long a call takes, one after the other."""
    request = lm_pb2.LoadWeightsRequest(weights_digest=_DIGEST)

    def work() -> None:
        for _ in range(calls):
            answer = stub.LoadWeights(request, timeout=30)
            assert answer.weights_digest == _DIGEST

    return seconds(work) / calls * 1e6
