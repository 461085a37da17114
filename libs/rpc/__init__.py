"""gRPC as every service speaks it: typed errors, deadlines, traces and metrics on all four kinds.

`server` makes a server, `connect` a channel; `to_status` and `from_status` spell an error as
`google.rpc.Status` where it travels inside a message. Read `status`,
`promises`, `serving`, `calling`.
"""

from libs.rpc.calling import DEFAULT_DEADLINE_S, connect
from libs.rpc.serving import Server, server
from libs.rpc.status import RemoteError, from_status, status_of, to_status

__all__ = [
    "DEFAULT_DEADLINE_S",
    "RemoteError",
    "Server",
    "connect",
    "from_status",
    "server",
    "status_of",
    "to_status",
]
