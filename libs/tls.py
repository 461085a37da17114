"""Who a process is on the wire: the files of its certificate, and what is wrong with them.

Mutual TLS: both sides show a certificate of one authority. Not protected against: a certificate
that was stolen, and connections that were open before one expired.
"""

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from libs.errors import InvalidInput


class Pems(NamedTuple):
    """The content of the three files."""

    cert: bytes
    private: bytes
    ca: bytes


@dataclass(frozen=True, kw_only=True)
class Tls:
    """The files of one identity, PEM."""

    cert: Path
    """The certificate; its subject's common name is the identity."""
    private: Path
    """The certificate's private key."""
    ca: Path
    """The certificate of the authority that the other side must have, too."""

    def read(self) -> Pems:
        """Return the content of the files.

        Raises:
            InvalidInput: one cannot be read.
        """
        try:
            return Pems(self.cert.read_bytes(), self.private.read_bytes(), self.ca.read_bytes())
        except OSError as error:
            raise InvalidInput(f"TLS needs three readable files, got {error}") from error

    def stamp(self) -> tuple[int, ...]:
        """Return what changes when a file is replaced; nothing while one is absent."""
        try:
            return tuple(path.stat().st_mtime_ns for path in (self.cert, self.private, self.ca))
        except OSError:
            return ()

    def ends_at(self) -> float:
        """Return when the certificate expires, seconds since 1970; 0 where it cannot be read."""
        from cryptography import x509  # 20 ms and 9 MiB, not for a service that speaks plainly

        try:
            certificate = x509.load_pem_x509_certificate(self.cert.read_bytes())
        except (OSError, ValueError):
            return 0.0
        return certificate.not_valid_after_utc.timestamp()

    def fault(self) -> str:
        """Return why nobody will accept these files now, or nothing if they are well.

        gRPC does not say why the other side hung up, so a caller looks at its own certificate.
        """
        try:
            ours, theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), _client(self.ca)
            ours.load_cert_chain(self.cert, self.private)
        except (OSError, ssl.SSLError) as error:
            return f"{self.cert} cannot be used: {error}"
        try:
            _shake(theirs, ours)
        except ssl.SSLCertVerificationError as error:
            return f"{self.cert} is refused by {self.ca}: {error.verify_message}"
        return ""


def of_paths(*, cert: Path | None, private: Path | None, ca: Path | None) -> Tls | None:
    """Return the identity, or None when no path is given.

    Raises:
        InvalidInput: some are given and others are not.
    """
    given = {"cert": cert, "private": private, "ca": ca}
    missing = [f"tls_{name}" for name, path in given.items() if path is None]
    if cert is not None and private is not None and ca is not None:
        return Tls(cert=cert, private=private, ca=ca)
    if len(missing) == len(given):
        return None
    raise InvalidInput(f"TLS needs all of its three files or none, got no {', '.join(missing)}")


def _client(ca: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # who the other side is, is gRPC's to check
    context.load_verify_locations(ca)
    return context


def _shake(client: ssl.SSLContext, server: ssl.SSLContext) -> None:
    """Shake hands in memory. Raises `ssl.SSLCertVerificationError`."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    one = client.wrap_bio(to_client, to_server)
    other = server.wrap_bio(to_server, to_client, server_side=True)
    for side in (one, other, one):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
