"""Where the certificates of a home folder lie; a folder that has them speaks TLS.

Apart from `authority`, so that a command line that makes none does not load cryptography.
"""

from pathlib import Path

from libs.tls import Tls

CA = "ca"
OPERATOR = "operator"
PEOPLE = (OPERATOR, "prometheus")
"""Identities that are no services."""


def tls_folder(home: Path) -> Path:
    """Return the folder of a home folder's certificates."""
    return home.resolve() / "tls"


def is_secured(home: Path) -> bool:
    """True if the home folder has an authority: whatever starts there then speaks TLS."""
    return identity(tls_folder(home), CA).cert.exists()


def identity(folder: Path, name: str) -> Tls:
    """Return the files of `name` in a folder that `authority.make` filled."""
    return Tls(cert=folder / f"{name}.pem", private=folder / f"{name}.key", ca=folder / f"{CA}.pem")
