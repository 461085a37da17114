"""Keeps BLAS at one thread while something runs, so that results do not depend on how many it has.

The sampler's own threads share its work in fixed blocks instead. The setting belongs to the whole
process, hence the count: when operations overlap, the first sets it and the last restores it.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_limits

_lock = threading.Lock()
_limits: list[threadpool_limits] = []
_users = 0


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Limit BLAS to one thread until the block, and every other that overlaps it, has ended."""
    global _users
    with _lock:
        if not _users:
            _limits.append(threadpool_limits(limits=1, user_api="blas"))
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if not _users:
                _limits.pop().restore_original_limits()
