"""The real servers of the cluster profile on one machine, without Docker: `make stack`.

Read in this order: `server` (what a server is), one of them, such as `minio`; `bring` (up, down,
kill, and what is left when that is cut short), `guard` and `gate` (why nothing is), `obtain` (how
a server gets into the cache), `run` (the folders), `look` (whether a server answers).

Several stacks run side by side from one cache, each in a run folder of its own. Not protected
against: other users of this machine who reach loopback; the servers ask for passwords only where
the profile does (MinIO, Triton's repository).
"""

from deploy.local.stack.bring import Status, down, kill, start, status, up
from deploy.local.stack.run import Run

__all__ = ["Run", "Status", "down", "kill", "start", "status", "up"]
