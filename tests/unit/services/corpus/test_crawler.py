"""A crawl over real sockets, from the seed to what is kept."""

import gzip
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from services.corpus.adapters import HttpFetcher
from services.corpus.crawl import Outcome, Scope
from services.corpus.crawler import Crawler, Pace, Stopped
from services.corpus.journal import Journal
from services.corpus.ports import Fetcher, Response, Unanswered
from services.corpus.refusals import Reason

from .conftest import Reply, Site, page, prose

FAST = 500.0


class Counted:
    """A fetcher that notes what it is asked and may break."""

    def __init__(self, inner: Fetcher, *, breaks_at: str = "") -> None:
        self.inner, self.breaks_at = inner, breaks_at
        self.asked: list[str] = []

    def fetch(
        self, url: str, *, types: tuple[str, ...] = (), max_bytes: int | None = None
    ) -> Response | Unanswered:
        if self.breaks_at and url.endswith(self.breaks_at):
            raise RuntimeError("killed")
        self.asked.append(url)
        return self.inner.fetch(url, types=types, max_bytes=max_bytes)


def crawl(
    site: Site,
    folder: Path,
    *,
    breaks_at: str = "",
    report: Callable[[int, int], None] = lambda *_: None,
    **scope: object,
) -> tuple[Counted, dict[str, Reason], dict[str, str]]:
    """Crawl the site; return the fetcher, refusals and texts, both by path."""
    chosen = Scope(**{"seeds": [site.url("/")], "max_pages": 100, "max_depth": 5} | scope)
    journal = Journal(folder)
    try:
        with HttpFetcher(
            max_bytes=100_000, timeout_s=0.25, allow_private_hosts=[site.host]
        ) as inner:
            fetcher = Counted(inner, breaks_at=breaks_at)
            crawler = Crawler(
                scope=chosen, fetcher=fetcher, journal=journal, rate_per_s=FAST, retry_s=0.01
            )
            refused = {url: each.reason for url, each in crawler.run(report).items()}
    finally:
        journal.close()
    for visit in journal.visits.values():
        if visit.outcome is Outcome.REFUSED:
            refused[visit.url] = Reason(visit.reason)
    texts = {
        v.url: journal.page(v.url).text
        for v in journal.visits.values()
        if v.outcome is Outcome.PAGE
    }
    host = site.url("")
    return (
        fetcher,
        {url.removeprefix(host): reason for url, reason in refused.items()},
        {url.removeprefix(host): text for url, text in texts.items()},
    )


@pytest.fixture
def odd(site: Site) -> Site:
    """A site with one of everything that real sites have."""
    html = {"Content-Type": "text/html"}
    latin = {"Content-Type": "text/html; charset=iso-8859-1"}
    names = (
        "moved",
        "loop",
        "gone",
        "latin",
        "packed",
        "broken",
        "huge",
        "slow",
        "data.bin",
        "zeros",
    )
    site.replies = {
        "/robots.txt": Reply(b"User-agent: *\nDisallow: /private/\nSitemap: /map.xml"),
        "/map.xml": Reply(f"<urlset><loc>{site.url('/mapped')}</loc></urlset>".encode()),
        "/": page("Home", prose(1), links=(*(f"/{name}" for name in names), "/private/x")),
        "/mapped": page("Mapped", prose(2)),
        "/moved": Reply(status=301, headers={"Location": "/hop"}),
        "/hop": Reply(status=307, headers={"Location": "target"}),
        "/target": page("Target", prose(3)),
        "/loop": Reply(status=302, headers={"Location": "/loop2"}),
        "/loop2": Reply(status=302, headers={"Location": "/loop"}),
        "/latin": Reply(f"<p>{prose(4)} café</p>".encode("latin-1"), headers=latin),
        "/packed": Reply(
            gzip.compress(page("Packed", prose(5)).body),
            headers=html | {"Content-Encoding": "gzip"},
        ),
        "/broken": Reply(f"<p>{prose(6)} \xff\xfe</p>".encode("latin-1"), headers=html),
        "/huge": Reply(
            stream=lambda write: [write(bytes(65536)) for _ in range(16000)], headers=html
        ),
        "/slow": Reply(stream=lambda write: site.released.wait(), headers=html),
        "/data.bin": Reply(b"PK", headers={"Content-Type": "application/zip"}),
        "/zeros": Reply(bytes(5000), headers=html),
        "/private/x": page("Private", prose(7)),
    }
    return site


def test_a_site_with_one_of_everything(odd, tmp_path):
    _, refused, texts = crawl(odd, tmp_path)
    assert set(texts) == {"/", "/mapped", "/target", "/latin", "/packed", "/broken"}
    assert texts["/latin"] == f"{prose(4)} café"
    assert texts["/packed"] == prose(5)
    assert "\ufffd" in texts["/broken"]
    assert refused == {
        "/private/x": Reason.ROBOTS,
        "/gone": Reason.NOT_FOUND,
        "/loop": Reason.REDIRECT_LOOP,
        "/huge": Reason.TOO_LARGE,
        "/slow": Reason.TIMED_OUT,
        "/data.bin": Reason.NOT_TEXT,
        "/zeros": Reason.UNDECODABLE,
    }
    assert "/private/x" not in odd.asked


def test_no_page_is_fetched_twice(odd, tmp_path):
    crawl(odd, tmp_path)
    assert len(odd.asked) == len(set(odd.asked))


@pytest.mark.parametrize("breaks_at", ["/robots.txt", "/", "/target", "/latin"])
def test_a_killed_crawl_goes_on_without_fetching_anything_again(odd, tmp_path, breaks_at):
    whole = crawl(odd, tmp_path / "whole")[1:]
    odd.asked.clear()
    with pytest.raises(RuntimeError, match="killed"):
        crawl(odd, tmp_path / "killed", breaks_at=breaks_at)
    assert crawl(odd, tmp_path / "killed")[1:] == whole
    assert len(odd.asked) == len(set(odd.asked))


def test_a_finished_crawl_fetches_nothing(odd, tmp_path):
    crawl(odd, tmp_path)
    again, _, texts = crawl(odd, tmp_path)
    assert again.asked == []
    assert len(texts) == 6


def test_a_crawl_that_is_stopped_ends_and_keeps_what_it_has(odd, tmp_path):
    class Enough(Exception):
        pass

    def report(done: int, total: int) -> None:
        if done >= 3:
            raise Enough

    with pytest.raises(Enough):
        crawl(odd, tmp_path, report=report)
    assert threading.active_count() < 20
    fetched = [path for path in odd.asked if path != "/map.xml"]
    assert len(fetched) >= 3
    assert set(crawl(odd, tmp_path)[2]) == {
        "/",
        "/mapped",
        "/target",
        "/latin",
        "/packed",
        "/broken",
    }


def test_a_crawl_is_stopped_while_a_site_asks_for_an_hour_between_requests(site, tmp_path):
    class Enough(Exception):
        pass

    def report(done: int, total: int) -> None:
        if time.monotonic() > begun + 1:
            raise Enough

    rules = Reply(b"User-agent: *\nCrawl-delay: 3600")
    site.replies = {"/robots.txt": rules, "/": page("Home", prose(1))}
    begun = time.monotonic()
    with pytest.raises(Enough):
        crawl(site, tmp_path, report=report)
    assert time.monotonic() < begun + 10


def test_rules_and_sitemaps_may_be_larger_than_a_page(site, tmp_path):
    urls = "".join(f"<loc>{site.url(f'/none{n:05}')}</loc>" for n in range(4000))
    sitemap = f"<urlset>{urls}<loc>{site.url('/listed')}</loc></urlset>".encode()
    site.replies = {
        "/robots.txt": Reply(b"#" * 150_000 + b"\nUser-agent: *\nDisallow: /none"),
        "/sitemap.xml": Reply(sitemap),
        "/": page("Home", prose(1)),
        "/listed": page("Listed", prose(2)),
    }
    assert set(crawl(site, tmp_path)[2]) == {"/", "/listed"}


def test_a_page_budget_is_kept(odd, tmp_path):
    crawl(odd, tmp_path, max_pages=4)
    pages_asked = [path for path in odd.asked if path not in ("/robots.txt", "/map.xml")]
    assert len(pages_asked) == 4


@pytest.mark.parametrize("status", [500, 503])
def test_a_site_whose_rules_cannot_be_read_is_not_crawled(site, tmp_path, status):
    site.replies = {"/robots.txt": Reply(status=status), "/": page("Home", prose(1))}
    _, refused, texts = crawl(site, tmp_path)
    assert refused == {"/": Reason.ROBOTS}
    assert texts == {}
    assert set(site.asked) == {"/robots.txt"}


def test_a_site_without_rules_is_crawled(site, tmp_path):
    site.replies = {"/": page("Home", prose(1))}
    assert set(crawl(site, tmp_path)[2]) == {"/"}


def test_a_private_site_is_refused_by_name_also_behind_a_redirect(site, tmp_path):
    site.replies = {"/": Reply(status=302, headers={"Location": "http://localhost:9/secret"})}
    _, refused, _ = crawl(site, tmp_path)
    assert refused == {"http://localhost:9/secret": Reason.PRIVATE_ADDRESS}


def test_a_server_that_is_busy_is_asked_again(site, tmp_path):
    class Busy(dict):
        """Answers 503 once."""

        def get(self, path: str, default: Reply) -> Reply:
            if path == "/" and site.asked.count("/") == 1:
                return Reply(status=503, headers={"Retry-After": "0"})
            return super().get(path, default)

    site.replies = Busy({"/": page("Home", prose(1))})
    assert set(crawl(site, tmp_path)[2]) == {"/"}
    assert site.asked.count("/") == 2


def test_two_crawls_give_the_same_whatever_came_first(odd, tmp_path):
    assert crawl(odd, tmp_path / "one")[1:] == crawl(odd, tmp_path / "two")[1:]


def test_requests_to_one_host_keep_their_distance():
    pace, waited = Pace(), []
    pace.stopped.wait = lambda seconds: waited.append(seconds)  # type: ignore[method-assign]
    for _ in range(3):
        pace.wait("http://a", 2.0)
    pace.wait("http://b", 2.0)
    assert waited == pytest.approx([0.0, 2.0, 4.0, 0.0], abs=0.1)


def test_a_wait_ends_when_the_crawl_does():
    pace = Pace()
    pace.stopped.set()
    with pytest.raises(Stopped):
        pace.wait("http://a", 60.0, 60.0)
