"""Servers in processes of their own, as services have them: client and server share no lock."""

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

import grpc

from libs import rpc
from libs.tls import Tls

Register = Callable[[grpc.Server], None]
_THREADS = 20
"""As many as `libs.rpc` has by default, those kept for health included."""


@contextmanager
def served(serve: Callable[..., None], *arguments: Any) -> Iterator[str]:
    """Run `serve(connection, *arguments)` in a process; give the address that it sends."""
    context = multiprocessing.get_context("spawn")
    mine, theirs = context.Pipe()
    process = context.Process(target=serve, args=(theirs, *arguments), daemon=True)
    process.start()
    theirs.close()
    try:
        yield mine.recv()
    finally:
        mine.close()
        process.join()


def serve_ours(
    connection: Connection, register: Register, service_name: str, tls: Tls | None = None
) -> None:
    """Serve by `libs.rpc` until the other end of the connection closes."""
    server = rpc.server(
        service="bench", registrations=[register], service_names=[service_name], tls=tls
    )
    server.start()
    connection.send(server.address)
    wait_closed(connection)
    server.drain(0)


def serve_bare(connection: Connection, register: Register) -> None:
    """Serve by bare grpcio until the other end of the connection closes."""
    from concurrent.futures import ThreadPoolExecutor

    server = grpc.server(ThreadPoolExecutor(_THREADS))
    register(server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    connection.send(f"127.0.0.1:{port}")
    wait_closed(connection)
    server.stop(None).wait()


def wait_closed(connection: Connection) -> None:
    """Return when the other end of the connection closes."""
    try:
        connection.recv()
    except EOFError:
        return
