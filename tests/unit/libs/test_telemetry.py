import json
import logging
import threading
import urllib.request

import pytest

from libs import masking, telemetry
from libs.errors import Conflict


@pytest.fixture(autouse=True)
def _stopped():
    yield
    telemetry.stop_logs()


def start(tmp_path):
    """Start in the test itself: pytest puts its own stderr in place only then."""
    path = tmp_path / "logs" / "oven.jsonl"
    masking.hide("hush")
    telemetry.start_logs("oven", path)
    return lambda: [json.loads(line) for line in path.read_text().splitlines()]


def test_a_trace_travels_in_headers():
    headers = {}
    with telemetry.span("send") as sent:
        telemetry.inject(headers)
    with telemetry.span("receive", telemetry.extract(headers)) as received:
        assert received == sent == telemetry.trace_id()
    assert len(sent) == 32


def test_there_is_no_trace_outside_of_a_span():
    assert telemetry.trace_id() == ""


@pytest.mark.parametrize("headers", [{}, {"traceparent": "nonsense"}])
def test_headers_without_a_trace_begin_a_new_one(headers):
    with telemetry.span("first") as first:
        parent = telemetry.extract(headers)
        with telemetry.span("second", parent) as second:
            assert second != first


def test_a_thread_has_no_trace_of_its_parent():
    seen = []
    with telemetry.span("parent"):
        thread = threading.Thread(target=lambda: seen.append(telemetry.trace_id()))
        thread.start()
        thread.join()
    assert seen == [""]


def test_a_log_line_is_json_and_names_service_and_trace(tmp_path):
    lines = start(tmp_path)
    with telemetry.span("bake") as trace_id:
        logging.getLogger("libs.oven").info("baked %d", 3)
    (line,) = lines()
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "INFO",
        "service": "oven",
        "trace_id": trace_id,
        "logger": "libs.oven",
        "message": "baked 3",
    }


def test_a_traceback_goes_to_the_file_and_not_to_the_console(tmp_path, capsys):
    lines = start(tmp_path)
    try:
        raise KeyError("bread")
    except KeyError:
        logging.getLogger("libs.oven").exception("failed")
    assert "Traceback" in lines()[0]["error"]
    assert capsys.readouterr().err == "ERROR oven: failed: KeyError: 'bread'\n"


def test_the_console_is_quiet_below_a_warning(tmp_path, capsys):
    start(tmp_path)
    logging.getLogger("libs.oven").info("baked")
    assert capsys.readouterr().err == ""


def test_a_secret_stands_in_no_line(tmp_path, capsys):
    lines = start(tmp_path)
    try:
        raise ValueError("token hush was refused")
    except ValueError:
        logging.getLogger("libs.oven").exception("with %s", "hush")
    assert "hush" not in json.dumps(lines())
    assert "hush" not in capsys.readouterr().err


def test_a_second_start_replaces_the_first(tmp_path):
    lines = start(tmp_path)
    telemetry.start_logs("grill", tmp_path / "grill.jsonl")
    logging.getLogger("libs.oven").info("once")
    assert lines() == []
    assert len((tmp_path / "grill.jsonl").read_text().splitlines()) == 1


def test_metrics_are_served_and_a_port_in_use_is_a_conflict():
    telemetry.OPERATIONS.labels("oven", "RUNNING").set(2)
    port = telemetry.start_metrics(0)
    page = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5).read().decode()
    assert 'athanor_operations{service="oven",state="RUNNING"} 2.0' in page
    with pytest.raises(Conflict, match=f"port {port} of 127.0.0.1 is in use"):
        telemetry.start_metrics(port)
