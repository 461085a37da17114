"""Who may call a method, by the name in the certificate: `allowed_callers` of the protos.

Kept where connections carry certificates only: without one a caller has no name, and everybody who
reaches the port may call. That is meant for loopback.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import grpc
from athanor.common.v1 import options_pb2

from libs.errors import Forbidden
from libs.rpc.promises import method_named

OPERATOR = "operator"
"""The name of people and of the command line."""
FOREIGN: Mapping[str, Sequence[str]] = {
    # Whoever starts long calls somewhere may look at them, wait for them and cancel them there.
    "google.longrunning.Operations": ("loop", OPERATOR),
}
"""Callers of proto services that are not ours and so carry no options."""


def check_caller(method: str, context: grpc.ServicerContext) -> str:
    """Return the name in the certificate.

    Raises:
        Forbidden: it may not call `method`, `package.Service/Name`.
    """
    allowed = allowed_callers(method)
    # gRPC has verified the certificate before a call arrives; its stubs type the values wrongly.
    peer: Mapping[str, Any] = context.auth_context()
    names: list[str] = [name.decode(errors="replace") for name in peer.get("x509_common_name", ())]
    if len(names) != 1 or names[0] not in allowed:
        raise Forbidden(
            f"{method} may be called by {' and '.join(allowed) or 'nobody'}, "
            f"got a call by {' and '.join(names) or 'somebody without a certificate'}"
        )
    return names[0]


@cache
def allowed_callers(method: str) -> tuple[str, ...]:
    """Return who may call a method; nobody, where its proto is unknown or does not say."""
    foreign = FOREIGN.get(method.partition("/")[0])
    if foreign is not None:
        return tuple(foreign)
    descriptor = method_named(method)
    if descriptor is None:
        return ()
    return tuple(descriptor.GetOptions().Extensions[options_pb2.allowed_callers])
