"""Whether a process answers: what the launcher waits for and `status` shows."""

import socket


def answers_health(port: int) -> bool:
    """True if the gRPC server on loopback says SERVING within a second."""
    # Here, since a command line that starts nothing should not pay 0.2 s for it.
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    options = [("grpc.enable_http_proxy", 0)]
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(), timeout=1.0
            )
        except grpc.RpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def accepts_connections(port: int) -> bool:
    """True if something listens on the loopback port."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1.0):
            return True
    except OSError:
        return False
