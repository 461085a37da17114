"""Start, look at and end the real servers: `python -m deploy.local.stack up|down|status|...`."""

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping

from deploy.local.stack import bring
from deploy.local.stack.run import Run
from libs.errors import ServiceError, kind_of, scarce
from libs.launcher import signals_as_interrupt

_INTERRUPTED = 130
_NAME_WIDTH = 15


def main() -> int:
    """Run; a failure is one line on standard error and exit code 1."""
    given = _arguments()
    run = Run.of(os.environ)
    try:
        with signals_as_interrupt():
            return _VERBS[given.verb](run, given)
    except ServiceError as error:
        return _failed(error)
    except OSError as error:
        if (busy := scarce(error)) is None:
            raise
        return _failed(busy)
    except KeyboardInterrupt:
        _say_error("stopped; what this command started is ended")
        return _INTERRUPTED


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m deploy.local.stack", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    up = verbs.add_parser("up", help="obtain and start what does not run yet")
    up.add_argument("--only", default="", help="servers, split at commas; default: all")
    up.add_argument("--triton-replicas", type=int, default=1, help="default: 1")
    up.add_argument("--fresh", action="store_true", help="drop what an earlier run stored")
    verbs.add_parser("down", help="end every server; data is kept")
    verbs.add_parser("status", help="show each server").add_argument("--json", action="store_true")
    for verb, help_ in (
        ("start", "start one server"),
        ("kill", "kill one server as a power cut would"),
        ("stop", "let one server hang"),
        ("cont", "let it go on"),
    ):
        verbs.add_parser(verb, help=help_).add_argument("server")
    return parser.parse_args()


def _up(run: Run, given: argparse.Namespace) -> int:
    began = time.monotonic()
    if given.fresh:
        bring.forget(run)
    only = [name for name in given.only.split(",") if name]
    bring.up(run, only, num_tritons=given.triton_replicas, say=_say)
    _print(f"the stack runs, {time.monotonic() - began:.1f} s; its settings: {run.env_file}")
    return 0


def _down(run: Run, _: argparse.Namespace) -> int:
    ended = bring.down(run)
    _print(f"ended {', '.join(ended)}" if ended else "nothing runs")
    return 0


def _status(run: Run, given: argparse.Namespace) -> int:
    found = bring.status(run)
    if given.json:
        _print(json.dumps([each._asdict() for each in found]))
    elif not found:
        _print(f"nothing was started in {run.folder}: make stack")
    for each in [] if given.json else found:
        _print(
            f"{each.name:<{_NAME_WIDTH}}{each.state:<15}{each.address:<18}pid {each.pid:<8}"
            f"{each.memory_bytes / 2**20:5.0f} MiB  {each.version}"
        )
    return 0 if found and all(each.state == "ready" for each in found) else 1


def _start(run: Run, given: argparse.Namespace) -> int:
    bring.start(run, given.server)
    return 0


def _signal(number: int) -> Callable[[Run, argparse.Namespace], int]:
    def send(run: Run, given: argparse.Namespace) -> int:
        bring.kill(run, given.server, number)
        return 0

    return send


_VERBS: Mapping[str, Callable[[Run, argparse.Namespace], int]] = {
    "up": _up,
    "down": _down,
    "status": _status,
    "start": _start,
    "kill": _signal(signal.SIGKILL),
    "stop": _signal(signal.SIGSTOP),
    "cont": _signal(signal.SIGCONT),
}


def _say(server: str, what: str) -> None:
    _print(f"{server:<{_NAME_WIDTH}}{what}")


def _print(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - the command's output


def _failed(error: ServiceError) -> int:
    _say_error(f"{kind_of(error).__name__}: {error}")
    return 1


def _say_error(line: str) -> None:
    print(line, file=sys.stderr)  # noqa: T201 - the command's output


if __name__ == "__main__":
    sys.exit(main())
