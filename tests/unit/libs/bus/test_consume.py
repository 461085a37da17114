import threading

from prometheus_client import REGISTRY

from libs.bus.consume import consume
from libs.errors import Unavailable


class Away:
    """A consumer whose bus is away twice, and whose reader stops then."""

    def __init__(self, stopped):
        self._stopped, self._num_polls = stopped, 0

    def poll(self, timeout_s):
        self._num_polls += 1
        if self._num_polls == 2:
            self._stopped.set()
        raise Unavailable("no broker")


def counted():
    return REGISTRY.get_sample_value("athanor_dependency_errors_total", {"dependency": "bus"})


def test_a_bus_that_is_away_is_counted():
    stopped, before = threading.Event(), counted()
    consume(bus=None, consumer=Away(stopped), handle=None, stopped=stopped)
    assert counted() == before + 2
