"""Whether a process answers: what the launcher waits for and `status` shows."""

import socket
from typing import TYPE_CHECKING

from libs.tls import Tls

if TYPE_CHECKING:
    import grpc


def answers_health(port: int, tls: Tls | None = None) -> bool:
    """True if the gRPC server on loopback says SERVING within a second.

    Raises:
        InvalidInput: a file of `tls` cannot be read.
    """
    # Here, since a command line that starts nothing should not pay 0.2 s for it.
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    with _channel(f"127.0.0.1:{port}", tls) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(), timeout=1.0
            )
        except grpc.RpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def _channel(address: str, tls: Tls | None) -> "grpc.Channel":
    import grpc

    options = [("grpc.enable_http_proxy", 0)]
    if tls is None:
        return grpc.insecure_channel(address, options=options)
    pems = tls.read()
    credentials = grpc.ssl_channel_credentials(pems.ca, pems.private, pems.cert)
    return grpc.secure_channel(address, credentials, options=options)


def accepts_connections(port: int, _: Tls | None = None) -> bool:
    """True if something listens on the loopback port."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1.0):
            return True
    except OSError:
        return False
