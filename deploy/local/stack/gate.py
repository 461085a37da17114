"""Become a program once told to: the child's part of `guard`.

Runs as a script after exec, in a session of its own. It waits until its starter has made sure that
the program will not be left behind, and ends when the starter dies before. Standard library only.
"""

import os
import sys


def main() -> None:
    """Wait for one byte on standard input, then run `argv[2:]` in the folder `argv[1]`."""
    if not os.read(0, 1):
        sys.exit("the starter is gone")
    with open(os.devnull) as nothing:  # noqa: PTH123 - `pathlib` would cost a third of the start
        os.dup2(nothing.fileno(), 0)
    os.chdir(sys.argv[1])
    try:
        os.execvp(sys.argv[2], sys.argv[2:])
    except OSError as error:
        sys.exit(f"{sys.argv[2]}: {error}")


if __name__ == "__main__":
    main()
