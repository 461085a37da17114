"""Fetching from a real socket, within limits."""

import gzip
import time
import tracemalloc
import zlib
from collections.abc import Callable

import pytest

from services.corpus.adapters import HttpFetcher, is_public
from services.corpus.ports import Response, Unanswered
from services.corpus.refusals import Reason

from .conftest import Reply, Site, page

MEGABYTE = 1 << 20


def fetched(site: Site, path: str = "/", **options: object) -> Response | Unanswered:
    given = {"max_bytes": MEGABYTE, "timeout_s": 5.0, "allow_private_hosts": [site.host]}
    with HttpFetcher(**given | options) as fetcher:
        return fetcher.fetch(site.url(path), types=("text/html", ""))


def reason(answer: Response | Unanswered) -> Reason | None:
    return answer.reason if isinstance(answer, Unanswered) else None


def test_a_page_comes_with_its_headers(site):
    site.replies["/"] = page("Home", "Hello")
    answer = fetched(site)
    assert isinstance(answer, Response)
    assert b"Hello" in answer.body
    assert answer.headers["content-type"] == "text/html; charset=utf-8"


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [
        ("gzip", gzip.compress),
        ("x-gzip", lambda body: gzip.compress(body[:7]) + gzip.compress(body[7:])),
        ("deflate", zlib.compress),
        ("Deflate", lambda body: zlib.compress(body)[2:-4]),
        ("identity", bytes),
    ],
)
def test_bodies_are_decompressed(site, encoding: str, pack: Callable[[bytes], bytes]):
    body = b"packed page " * 5000
    site.replies["/"] = Reply(pack(body), headers={"Content-Encoding": encoding})
    answer = fetched(site)
    assert isinstance(answer, Response)
    assert answer.body == body


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("br", b"x"),
        ("gzip", b"no gzip"),
        ("gzip", gzip.compress(bytes(100_000))[:-20]),
        ("deflate", b"\xff\xff\xff"),
    ],
)
def test_a_broken_or_foreign_compression_is_undecodable(site, encoding, body):
    site.replies["/"] = Reply(body, headers={"Content-Encoding": encoding})
    assert reason(fetched(site)) is Reason.UNDECODABLE


def test_members_of_gzip_may_be_cut_anywhere_on_the_way(site):
    packed = gzip.compress(b"A" * 50) + gzip.compress(b"B" * 50)
    first = len(gzip.compress(b"A" * 50))

    def in_two(write: Callable[[bytes], object]) -> None:
        write(packed[: first + 1])
        time.sleep(0.1)  # so that the cut arrives as it is
        write(packed[first + 1 :])

    headers = {"Content-Type": "text/html", "Content-Encoding": "gzip"}
    site.replies["/"] = Reply(stream=in_two, headers=headers)
    answer = fetched(site)
    assert isinstance(answer, Response)
    assert answer.body == b"A" * 50 + b"B" * 50


def test_addresses_in_headers_may_be_utf_8(site):
    moved = {"Location": "/café".encode().decode("latin-1")}
    site.replies["/"] = Reply(status=301, headers=moved)
    answer = fetched(site)
    assert isinstance(answer, Response)
    assert answer.headers["location"] == "/café"


def test_of_a_page_of_a_gigabyte_little_is_read_and_less_is_held(site):
    sent = [0]

    def endless(write: Callable[[bytes], object]) -> None:
        chunk = bytes(65536)
        while sent[0] < 1 << 30:
            write(chunk)
            sent[0] += len(chunk)

    site.replies["/"] = Reply(stream=endless, headers={"Content-Type": "text/html"})
    tracemalloc.start()
    answer = fetched(site)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert reason(answer) is Reason.TOO_LARGE
    assert peak < 8 * MEGABYTE
    # What the sockets' own buffers took beyond the limit.
    assert sent[0] < 32 * MEGABYTE


def test_a_compressed_bomb_is_dropped_at_the_limit(site):
    bomb = gzip.compress(bytes(200 * MEGABYTE), compresslevel=1)
    site.replies["/"] = Reply(bomb, headers={"Content-Encoding": "gzip"})
    tracemalloc.start()
    answer = fetched(site)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert reason(answer) is Reason.TOO_LARGE
    assert peak < 8 * MEGABYTE


def test_a_stated_length_above_the_limit_is_refused_unread(site):
    site.replies["/"] = Reply(bytes(3 * MEGABYTE))
    assert reason(fetched(site)) is Reason.TOO_LARGE


@pytest.mark.parametrize("begin", [b"", b"<html>"])
def test_a_page_that_stalls_is_given_up_in_time(site, begin):
    def slow(write: Callable[[bytes], object]) -> None:
        write(begin)
        site.released.wait()

    site.replies["/"] = Reply(stream=slow, headers={"Content-Type": "text/html"})
    assert reason(fetched(site, timeout_s=0.2)) is Reason.TIMED_OUT


def test_a_page_that_drips_is_given_up_in_time(site):
    def dripping(write: Callable[[bytes], object]) -> None:
        while not site.released.wait(0.02):
            write(b"x")

    site.replies["/"] = Reply(stream=dripping, headers={"Content-Type": "text/html"})
    assert reason(fetched(site, timeout_s=0.3)) is Reason.TIMED_OUT


def test_another_media_type_is_not_read(site):
    site.replies["/"] = Reply(b"%PDF", headers={"Content-Type": "application/pdf"})
    assert reason(fetched(site)) is Reason.NOT_TEXT


def test_an_error_has_its_status_and_no_body(site):
    answer = fetched(site, "/missing")
    assert isinstance(answer, Response)
    assert (answer.status, answer.body) == (404, b"")


def test_a_host_that_does_not_answer_is_unreachable(site):
    with HttpFetcher(max_bytes=1, timeout_s=5, allow_private_hosts=["127.0.0.1"]) as fetcher:
        assert reason(fetcher.fetch("http://127.0.0.1:1/")) is Reason.UNREACHABLE


def test_a_private_address_is_refused_before_anything_is_sent(site):
    assert reason(fetched(site, allow_private_hosts=[])) is Reason.PRIVATE_ADDRESS
    assert reason(fetched(site, allow_private_hosts=["127.0.0.1:1"])) is Reason.PRIVATE_ADDRESS
    assert site.asked == []


def test_one_private_address_among_public_ones_is_enough_to_refuse():
    both = lambda host, port: ["93.184.216.34", "127.0.0.1"]  # noqa: E731
    with HttpFetcher(max_bytes=1, timeout_s=1, resolve=both) as fetcher:
        assert reason(fetcher.fetch("http://rebinding.example/")) is Reason.PRIVATE_ADDRESS


def test_the_connection_goes_to_the_address_that_was_checked(site):
    site.replies["/"] = page("Home", "Hello")
    looked_up: list[str] = []

    def resolve(host: str, port: int) -> list[str]:
        looked_up.append(host)
        return ["127.0.0.1"]

    allowed = [f"name.example:{site.port}"]
    with HttpFetcher(
        max_bytes=MEGABYTE, timeout_s=5, allow_private_hosts=allowed, resolve=resolve
    ) as fetcher:
        answer = fetcher.fetch(f"http://name.example:{site.port}/")
    assert isinstance(answer, Response)
    assert looked_up == ["name.example"]


def test_a_name_of_ones_own_leads_to_its_address_and_port_when_it_is_allowed(site):
    site.replies["/"] = page("Home", "Hello")
    hosts = {"docs.example": ("127.0.0.1", site.port)}
    given = {"max_bytes": MEGABYTE, "timeout_s": 5.0, "hosts": hosts}
    with HttpFetcher(**given, allow_private_hosts=["docs.example"]) as fetcher:
        assert isinstance(fetcher.fetch("http://docs.example/"), Response)
    with HttpFetcher(**given) as fetcher:
        assert reason(fetcher.fetch("http://docs.example/")) is Reason.PRIVATE_ADDRESS


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "169.254.169.254",
        "192.168.0.1",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "::1",
        "fe80::1%eth0",
        "fc00::1",
        "::ffff:10.0.0.1",
        "2002:0a00:0001::",
        "64:ff9b::7f00:1",
    ],
)
def test_an_address_outside_the_public_internet_is_not_public(address):
    assert not is_public(address)


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:2800:220:1::1", "64:ff9b::5db8:d822"])
def test_a_public_address_is_public(address):
    assert is_public(address)
