"""Triton: whether each replica is ready, and who may load models."""

import socket
from typing import Any

from deploy.local.finding import Finding
from deploy.local.sights.sight import CALL_S, START, Settings, Sight, has, secret, untried
from libs.clock import Clock

_HEADER = "triton-grpc-protocol-athanor"


def look_at(settings: Settings, _: Clock) -> Sight:
    """Look at every replica."""
    key = secret(settings, "ATHANOR_TRITON_KEY")
    findings: list[Finding] = []
    for address in settings["ATHANOR_TRITON"].split(","):
        findings += _replica(address, key)
    return Sight(findings)


def _replica(address: str, key: str) -> list[Finding]:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=CALL_S).close()
    except (OSError, ValueError) as error:
        return [Finding("triton", f"{address} does not answer: {error}", START)]
    if not has("tritonclient"):
        return untried("triton", address).findings
    return [_asked(address, key)]


def _asked(address: str, key: str) -> Finding:
    from tritonclient.grpc import InferenceServerClient
    from tritonclient.utils import InferenceServerException

    options = [("grpc.enable_http_proxy", 0)]
    with InferenceServerClient(address, channel_args=options) as client:
        try:
            version = client.get_server_metadata(client_timeout=CALL_S).version
            ready = client.is_server_ready(client_timeout=CALL_S)
        except InferenceServerException as error:
            return Finding("triton", f"{address} does not answer: {error}", START)
        told = f"{address}, {version}"
        if not ready:
            return Finding("triton", f"{told}, not ready", "its log says which model is at fault")
        return _repository(client, told, key)


def _repository(client: Any, told: str, key: str) -> Finding:
    if not _opens(client, key):
        remedy = "set ATHANOR_TRITON_KEY to that of its command line (stack.env has it)"
        return Finding("triton", f"{told}, the repository refuses our key", remedy)
    if _opens(client, ""):
        found = f"{told}, anybody may load models: the repository asks for no key"
        return Finding("triton", found, "start it with --grpc-restricted-protocol")
    return Finding("triton", f"{told}; the repository opens to our key only")


def _opens(client: Any, key: str) -> bool:
    from tritonclient.utils import InferenceServerException

    headers = {_HEADER: key} if key else None
    try:
        client.get_model_repository_index(headers=headers, client_timeout=CALL_S)
    except InferenceServerException:
        return False
    return True
