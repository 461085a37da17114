"""Become a program that is killed when its parent dies, however the parent dies.

Runs as a script in the child, after exec: the parent may have threads of gRPC, and then no Python
may run between fork and exec. So this file imports the standard library only. See prctl(2).
"""

import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

_PR_SET_PDEATHSIG = 1


def adopted(argv: Sequence[str]) -> list[str]:
    """Return a command that runs `argv` and gets SIGKILL when the thread that starts it ends.

    Start it from the main thread: the signal follows the thread, not the process.
    """
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), *argv]


def become(argv: list[str], *, parent: int) -> NoReturn:
    """Turn this process into `argv`, or end it when `parent` is gone already."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL))
    if os.getppid() != parent:  # it died before the call above, and no signal will come
        sys.exit("the parent is gone")
    os.execvp(argv[0], argv)


if __name__ == "__main__":
    become(sys.argv[2:], parent=int(sys.argv[1]))
