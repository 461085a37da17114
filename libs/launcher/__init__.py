"""Start, watch and stop the processes of one home folder: the embedded profile's supervisor.

Read `supervise` (the launcher), `home` (who owns the folder and what runs in it), `adopt` and
`reap` (why nothing is left when the launcher is killed), `ready`. Linux only.
Not protected against: a program that leaves its process group.
"""

from libs.launcher.adopt import adopted
from libs.launcher.home import Ports, Report, end, holder, reports
from libs.launcher.ready import accepts_connections, answers_health
from libs.launcher.supervise import READY_S, Launcher, Program, signals_as_interrupt

__all__ = [
    "READY_S",
    "Launcher",
    "Ports",
    "Program",
    "Report",
    "accepts_connections",
    "adopted",
    "answers_health",
    "end",
    "holder",
    "reports",
    "signals_as_interrupt",
]
