"""What doctor says of each server: of one that is well, and of each way to be unwell."""

import http.server
import json
import re
import threading
import time
from contextlib import contextmanager
from email.utils import formatdate

import pytest

from deploy.local import sights
from deploy.local.sights import elasticsearch, kafka, minio, prometheus, sight, triton
from deploy.local.sights.sight import Sight
from libs.clock import Clock

NOBODY = "127.0.0.1:1"


@contextmanager
def serving(pages, *, date=None):
    """Yield the address of a server: path (without query) to a status and a value."""

    class Pages(http.server.BaseHTTPRequestHandler):
        def answer(self):
            key = f"{self.command} {self.path.partition('?')[0]}"
            known = [value for name, value in pages.items() if key.startswith(name)]
            status, value = known[0] if known else (404, None)
            self.send_response_only(status)
            self.send_header("Date", date or formatdate(usegmt=True))
            self.end_headers()
            self.wfile.write(json.dumps(value).encode())

        do_GET = do_PUT = do_DELETE = answer  # noqa: N815 - named by the library

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pages) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def only(seen: Sight):
    (finding,) = seen.findings
    return finding


@pytest.mark.parametrize(
    ("module", "address"),
    [
        (kafka, NOBODY),
        (minio, f"http://{NOBODY}"),
        (elasticsearch, f"http://{NOBODY}"),
        (triton, NOBODY),
        (prometheus, f"http://{NOBODY}"),
    ],
    ids=lambda each: getattr(each, "__name__", "").rpartition(".")[2],
)
def test_a_server_that_is_down_is_named_with_its_address_and_the_remedy(module, address):
    name = module.__name__.rpartition(".")[2]
    found = only(module.look_at({f"ATHANOR_{name.upper()}": address}, Clock()))
    assert found.name == name
    assert f"{address} does not answer: " in found.found
    assert "make stack" in found.remedy


def node(**values):
    return {"nodes": {"n1": values}}


def elastic(*, health="green", put=200, behind_s=0.0):
    now_ms = int((time.time() - behind_s) * 1000)
    return {
        "GET /_cluster/health": (200, {"status": health}),
        "GET /_nodes/_local/stats": (200, node(timestamp=now_ms)),
        "GET /_nodes/_local": (200, node(version="8.19.3")),
        "PUT /": (put, {"error": "no permission"}),
        "DELETE /": (put, None),
    }


@pytest.mark.parametrize(
    ("pages", "found", "remedy"),
    [
        (elastic(), "8.19.3, green; all rights", ""),
        (elastic(health="red"), "8.19.3, red: shards are lost", "make stack"),
        (elastic(put=403), "we may not create an index: 403 .*no permission", "grant our user"),
    ],
    ids=["well", "red", "no right"],
)
def test_elasticsearch_tells_version_health_and_rights(pages, found, remedy):
    with serving(pages) as url:
        seen = only(elasticsearch.look_at({"ATHANOR_ELASTICSEARCH": url}, Clock()))
    assert re.search(found, seen.found)
    assert remedy in seen.remedy
    assert bool(seen.remedy) == bool(remedy)


TARGETS = {
    "activeTargets": [
        {"scrapeUrl": "http://a/metrics", "health": "up"},
        {"scrapeUrl": "http://b/metrics", "health": "down"},
    ]
}


def test_prometheus_tells_which_targets_do_not_answer():
    pages = {
        "GET /api/v1/status/buildinfo": (200, {"data": {"version": "2.42.0"}}),
        "GET /api/v1/targets": (200, {"data": TARGETS}),
    }
    with serving(pages) as url:
        seen = only(prometheus.look_at({"ATHANOR_PROMETHEUS": url}, Clock()))
    assert seen.found.endswith("2.42.0, 1 of 2 targets answer")
    assert "http://b/metrics" in seen.remedy


@pytest.mark.parametrize(("shift_s", "remedy"), [(0.0, ""), (-3600.0, "timedatectl")])
def test_a_clock_that_is_off_is_told_in_seconds(tmp_path, shift_s, remedy):
    (tmp_path / "shift").write_text(str(shift_s))
    with serving(elastic()) as url:
        settings = {"ATHANOR_ELASTICSEARCH": url, "ATHANOR_PROFILE": "cluster"}
        *_, clocks = sights.examine(settings, Clock(tmp_path / "shift"))
    assert clocks.name == "clocks"
    assert clocks.found.startswith("theirs less ours: elasticsearch +" if remedy else "theirs")
    assert remedy in clocks.remedy
    assert bool(clocks.remedy) == bool(remedy)


def test_minios_clock_is_read_from_its_answer(monkeypatch):
    monkeypatch.setattr(minio, "has", lambda _: False)
    late = formatdate(time.time() - 1000, usegmt=True)
    with serving({"GET /minio/health/live": (200, None)}, date=late) as url:
        seen = minio.look_at({"ATHANOR_MINIO": url}, Clock())
    assert seen.skew_s == pytest.approx(-1000, abs=30)


@pytest.mark.parametrize("code", ["InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied"])
def test_credentials_of_another_server_are_told_from_missing_rights(code, monkeypatch):
    monkeypatch.setattr(minio, "denials", lambda *_: {"look for buckets": f"code: {code}"})
    monkeypatch.setattr(minio, "_version", lambda *_: "v1")
    found = minio._rights("http://minio.example", {})
    expected = "python -m deploy.minio apply" if code == "AccessDenied" else "stack.env"
    assert expected in found.remedy


def test_where_no_package_is_installed_a_server_is_still_said_to_answer(monkeypatch):
    monkeypatch.setattr(minio, "has", lambda _: False)
    with serving({"GET /minio/health/live": (200, None)}) as url:
        seen = only(minio.look_at({"ATHANOR_MINIO": url}, Clock()))
    assert "answers" in seen.found
    assert seen.remedy == "make setup"


def test_without_a_cluster_nothing_is_missing():
    (found,) = sights.examine({}, Clock())
    assert (found.remedy, found.needed) == ("make stack", False)


def test_on_the_cluster_profile_every_server_must_be_named():
    found = sights.examine({"ATHANOR_PROFILE": "cluster"}, Clock())
    assert [each.name for each in found] == ["kafka", "minio", "elasticsearch", "triton"]
    assert all(each.needed and "is not set" in each.found for each in found)


def test_a_secret_is_read_from_its_file(tmp_path):
    (tmp_path / "key").write_text("sesame\n")
    assert sight.secret({"KEY_FILE": str(tmp_path / "key"), "KEY": "x"}, "KEY") == "sesame"
    assert sight.secret({"KEY": "x"}, "KEY") == "x"
    assert sight.secret({"KEY_FILE": str(tmp_path / "absent")}, "KEY") == ""


def test_acts_that_are_refused_are_told_in_one_line():
    def refuse():
        raise OSError("denied\nwith more")

    assert sight.denials({"look": int, "write": refuse}, (OSError,)) == {"write": "denied"}


def test_an_act_that_fails_for_another_reason_is_a_bug():
    with pytest.raises(ZeroDivisionError):
        sight.denials({"count": lambda: 1 / 0}, (OSError,))
