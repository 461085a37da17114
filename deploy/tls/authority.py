"""A local certificate authority: one folder, a certificate for every identity that may call.

Identities are the services by their noun, `operator` for people and the command line, and
`prometheus`. The name stands in the certificate's subject, where `libs.rpc` reads who calls.
Not protected against: whoever can read the folder can be anybody; the authority's key is needed
for making and renewing only, and is better kept on another machine. There is no revocation: a
stolen certificate is good until it expires.
"""

import ipaddress
import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from deploy.tls.folder import CA, identity
from libs.clock import Clock
from libs.errors import Corrupt, Unavailable
from libs.tls import Tls

DAYS = 365.0
_CA_DAYS = 3650.0
_SKEW = timedelta(minutes=5)
"""Certificates are good so long before they are made: clocks differ."""


def make(
    folder: Path,
    names: Sequence[str],
    *,
    valid: timedelta = timedelta(days=DAYS),
    renew: bool = False,
    clock: Clock | None = None,
) -> list[str]:
    """Make the authority and what `names` lack; return the names that got a new certificate.

    One that is there is kept while more than a third of `valid` remains of it, or replaced too
    with `renew`. Keys stay, so that one rename replaces a certificate under a service that runs.

    Raises:
        Corrupt: a file is there and is no certificate or key.
        Unavailable: the folder cannot be written.
    """
    now = datetime.fromtimestamp((clock or Clock()).now(), UTC)
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        authority = _authority(folder, now)
        due = [
            name
            for name in names
            if renew or not _lasts(identity(folder, name), authority[0], now + valid / 3)
        ]
        for name in due:
            _issue(identity(folder, name), name, authority, now, valid)
    except OSError as error:
        raise Unavailable(f"certificates cannot be kept in {folder}: {error}") from error
    return due


_Authority = tuple[x509.Certificate, ec.EllipticCurvePrivateKey]


def _authority(folder: Path, now: datetime) -> _Authority:
    files = identity(folder, CA)
    key = _key(files.private)
    if not files.cert.exists():
        name = _name("athanor local authority")
        usage = _usage(sign=False, certify=True)
        built = (
            _builder(name, name, key, now, timedelta(days=_CA_DAYS))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
        )
        _write(files.cert, _pem(built.sign(key, hashes.SHA256())))
    return _certificate(files.cert), key


def _issue(files: Tls, name: str, authority: _Authority, now: datetime, valid: timedelta) -> None:
    issuer, issuer_key = authority
    names = [x509.DNSName(name), x509.DNSName("localhost")]
    loopback = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    built = (
        _builder(_name(name), issuer.subject, _key(files.private), now, valid)
        .add_extension(x509.SubjectAlternativeName([*names, loopback]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(sign=True, certify=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()),
            critical=False,
        )
    )
    _write(files.cert, _pem(built.sign(issuer_key, hashes.SHA256())))


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    now: datetime,
    valid: timedelta,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + valid)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(*, sign: bool, certify: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=sign,
        key_cert_sign=certify,
        crl_sign=certify,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _lasts(files: Tls, issuer: x509.Certificate, until: datetime) -> bool:
    """True if both files are there and the certificate is this authority's, good until then."""
    if not (files.cert.exists() and files.private.exists()):
        return False
    found = _certificate(files.cert)
    return found.issuer == issuer.subject and found.not_valid_after_utc > until


def _key(path: Path) -> ec.EllipticCurvePrivateKey:
    """Return the key in the file, made where missing."""
    if not path.exists():
        made = ec.generate_private_key(ec.SECP256R1())
        _write(
            path,
            made.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ),
        )
        return made
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError) as error:
        raise Corrupt(f"{path} must hold a private key, got something else") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise Corrupt(f"{path} must hold a key of an elliptic curve, got {type(key).__name__}")
    return key


def _certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except ValueError as error:
        raise Corrupt(f"{path} must hold a certificate, got something else") from error


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _write(path: Path, content: bytes) -> None:
    """Write the file whole or not at all, readable by its owner alone."""
    part = path.with_name(f"{path.name}.part")
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
