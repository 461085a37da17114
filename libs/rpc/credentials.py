"""Certificates as gRPC wants them, read again when their files change.

So a certificate is renewed under processes that run: the next connection shows the new one.
"""

import logging
import threading
from collections.abc import Callable
from typing import Any

import grpc

from libs.errors import InvalidInput
from libs.tls import Tls

_log = logging.getLogger(__name__)


def server_credentials(tls: Tls) -> grpc.ServerCredentials:
    """Return credentials that let in who shows a certificate of the same authority.

    Raises:
        InvalidInput: a file cannot be read, or the certificate would be accepted by nobody.
    """
    if fault := tls.fault():
        raise InvalidInput(f"a server needs a certificate that its callers accept: {fault}")
    return grpc.dynamic_ssl_server_credentials(
        _configuration(tls),
        _Renewal(tls).look,  # type: ignore[arg-type]  # None: nothing changed
        require_client_authentication=True,
    )


def channel_credentials(tls: Tls) -> grpc.ChannelCredentials:
    """Return credentials of a caller. Raises `InvalidInput` when a file cannot be read."""
    pems = tls.read()
    return grpc.ssl_channel_credentials(pems.ca, pems.private, pems.cert)


class RenewedChannel(grpc.Channel):
    """A channel that is opened anew, for later calls, when the files of its certificate change."""

    def __init__(self, tls: Tls, open_channel: Callable[[], grpc.Channel]) -> None:
        self._tls, self._open = tls, open_channel
        self._lock = threading.Lock()
        self._stamp = tls.stamp()
        # Older ones stay open: calls may be under way on them.
        self._channels = [open_channel()]

    def unary_unary(self, *given: Any, **named: Any) -> Any:
        return self._newest().unary_unary(*given, **named)

    def unary_stream(self, *given: Any, **named: Any) -> Any:
        return self._newest().unary_stream(*given, **named)

    def stream_unary(self, *given: Any, **named: Any) -> Any:
        return self._newest().stream_unary(*given, **named)

    def stream_stream(self, *given: Any, **named: Any) -> Any:
        return self._newest().stream_stream(*given, **named)

    def subscribe(self, callback: Any, try_to_connect: bool = False) -> None:
        self._newest().subscribe(callback, try_to_connect)

    def unsubscribe(self, callback: Any) -> None:
        for channel in self._channels:
            channel.unsubscribe(callback)

    def close(self) -> None:
        for channel in self._channels:
            channel.close()

    def __enter__(self) -> "RenewedChannel":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _newest(self) -> grpc.Channel:
        with self._lock:
            stamp = self._tls.stamp()
            if stamp and stamp != self._stamp:
                self._channels.append(self._open())
                self._stamp = stamp
            return self._channels[-1]


class _Renewal:
    """Says at each handshake whether the files have changed since the last one."""

    def __init__(self, tls: Tls) -> None:
        self._tls, self._stamp = tls, tls.stamp()

    def look(self) -> grpc.ServerCertificateConfiguration | None:
        stamp = self._tls.stamp()
        if stamp == self._stamp:
            return None
        try:
            renewed = _configuration(self._tls)
        except InvalidInput as error:
            _log.warning("the certificate in use is kept: %s", error)
            return None
        self._stamp = stamp
        return renewed


def _configuration(tls: Tls) -> grpc.ServerCertificateConfiguration:
    pems = tls.read()
    return grpc.ssl_server_certificate_configuration([(pems.private, pems.cert)], pems.ca)
