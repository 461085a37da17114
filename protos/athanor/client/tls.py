"""Who a program is when Athanor's services ask for certificates."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import grpc

from athanor.client.errors import AthanorError

NAMES = ("ATHANOR_TLS_CERT", "ATHANOR_TLS_KEY", "ATHANOR_TLS_CA")
"""Each holds the path of a file."""


@dataclass(frozen=True, kw_only=True)
class Tls:
    """The files of one identity, PEM."""

    cert: Path
    """The certificate; the name in it says what the program may call, such as `operator`."""
    private: Path
    """The certificate's private key."""
    ca: Path
    """The certificate of the authority that signed the services'."""

    @classmethod
    def from_environment(cls, env: Mapping[str, str] = os.environ) -> Self | None:
        """Return what `NAMES` say, or None when none of them is set.

        Raises:
            AthanorError: `InvalidInput`, some are set and others are not.
        """
        given = [env.get(name) for name in NAMES]
        if not any(given):
            return None
        cert, private, ca = (Path(each) if each else None for each in given)
        if cert is None or private is None or ca is None:
            missing = ", ".join(name for name in NAMES if not env.get(name))
            raise AthanorError("InvalidInput", f"TLS needs {', '.join(NAMES)}, got no {missing}")
        return cls(cert=cert, private=private, ca=ca)

    def credentials(self) -> grpc.ChannelCredentials:
        """Return what a channel needs.

        Raises:
            AthanorError: `InvalidInput`, a file cannot be read.
        """
        try:
            return grpc.ssl_channel_credentials(
                self.ca.read_bytes(), self.private.read_bytes(), self.cert.read_bytes()
            )
        except OSError as error:
            raise AthanorError("InvalidInput", f"TLS needs readable files, got {error}") from error


def channel(address: str, tls: Tls | None, options: list[tuple[str, int]]) -> grpc.Channel:
    """Return a channel to `host:port`: with `tls`, else with what the environment says."""
    tls = tls or Tls.from_environment()
    if tls is None:
        return grpc.insecure_channel(address, options=options)
    return grpc.secure_channel(address, tls.credentials(), options=options)
