"""The servers of the stack, in the order in which they start."""

from collections.abc import Iterable, Mapping, Sequence

from deploy.local.stack import triton
from deploy.local.stack.elasticsearch import ELASTICSEARCH
from deploy.local.stack.kafka import KAFKA
from deploy.local.stack.minio import MINIO
from deploy.local.stack.prometheus import PROMETHEUS
from deploy.local.stack.server import Server
from libs.errors import NotFound

MAX_TRITONS = 8
SERVERS: Mapping[str, Server] = {
    server.name: server
    for server in (
        *(MINIO, KAFKA, ELASTICSEARCH, PROMETHEUS),
        *(triton.replica(number) for number in range(1, MAX_TRITONS + 1)),
    )
}


def default(num_tritons: int) -> list[str]:
    """Return the servers of a whole stack."""
    unwanted = {triton.replica(number).name for number in range(num_tritons + 1, MAX_TRITONS + 1)}
    return [name for name in SERVERS if name not in unwanted]


def chosen(names: Iterable[str]) -> list[Server]:
    """Return servers by name, in their order. Raises `NotFound` for one that is none."""
    wanted = set(names)
    if unknown := wanted - SERVERS.keys():
        raise NotFound(
            f"servers are {', '.join(default(1))}, got {', '.join(sorted(unknown)) or 'nothing'}"
        )
    return [server for name, server in SERVERS.items() if name in wanted]


def with_needs(names: Sequence[str]) -> list[Server]:
    """Return servers by name and what they need."""
    return chosen({*names, *(need for each in chosen(names) for need in each.needs)})
