"""Carry out what `crawl.plan` decides: fetch in parallel, at each host's pace, and keep a journal.

Every thread waits for its host's next free moment, fetches, and reads the page it got, so pages are
extracted while others are on their way. Threads only write visits; what to do next is decided from
all of them, between waves.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass

from services.corpus.addresses import canonical, origin
from services.corpus.crawl import MAX_REDIRECTS, Outcome, Scope, Visit, Wave, plan
from services.corpus.extract import TEXT_TYPES, Page, read
from services.corpus.journal import Journal
from services.corpus.ports import Fetcher, Response, Unanswered
from services.corpus.refusals import Reason, Refusal
from services.corpus.robots import Site, Sitemap, site_of, sitemap_of

NUM_THREADS = 8
_LOOK_S = 0.5
_ATTEMPTS = 3
_MAX_RETRY_AFTER_S = 30.0
_MAX_SITEMAPS = 50
_MAX_SITEMAP_BYTES = 50 << 20
"""sitemaps.org allows no more; robots.txt, too, is read whatever the limit for pages."""
_REASONS_BY_STATUS = {
    401: Reason.FORBIDDEN,
    403: Reason.FORBIDDEN,
    429: Reason.SERVER_ERROR,
    451: Reason.FORBIDDEN,
}
_PASSING = (429, 500, 502, 503, 504)
"""Statuses worth another attempt."""
Report = Callable[[int, int], None]
"""Takes pages done and pages known; may raise to stop the crawl."""


class Stopped(Exception):
    """The crawl is over; the waiting thread goes home."""


class Pace:
    """Gives each origin its requests one by one, never two within its delay."""

    def __init__(self) -> None:
        self._next: dict[str, float] = {}
        self._lock = threading.Lock()
        self.stopped = threading.Event()

    def wait(self, origin: str, delay_s: float, extra_s: float = 0.0) -> None:
        """Wait for the origin's next free moment. Raises `Stopped`."""
        with self._lock:
            now = time.monotonic()
            moment = max(now + extra_s, self._next.get(origin, now))
            self._next[origin] = moment + delay_s
        if self.stopped.wait(max(0.0, moment - now)):
            raise Stopped


@dataclass(frozen=True, kw_only=True)
class Crawler:
    """One crawl with the means that it has."""

    scope: Scope
    fetcher: Fetcher
    journal: Journal
    rate_per_s: float
    """Requests to one host."""
    retry_s: float = 0.5
    """Time before a second attempt, doubled before a third, where the site names none."""

    def run(self, report: Report) -> dict[str, Refusal]:
        """Crawl to the end and return, by address, what was never fetched.

        The visits and the pages are in the journal, also when this raises.
        """
        pace = Pace()
        with _threads(pace) as pool:
            while True:
                wave = plan(self.scope, self.journal.sites, self.journal.visits)
                if not wave.origins and not wave.urls:
                    return wave.refusals
                self._carry_out(wave, pace, pool, report)

    def _carry_out(self, wave: Wave, pace: Pace, pool: ThreadPoolExecutor, report: Report) -> None:
        tasks = {pool.submit(self._meet, origin, pace) for origin in wave.origins}
        tasks |= {pool.submit(self._visit, url, pace) for url in wave.urls}
        total = len(self.journal.visits) + len(wave.urls)
        while tasks:
            # A site may ask for an hour between requests: whoever cancels is heard meanwhile.
            done, tasks = wait(tasks, _LOOK_S, return_when=FIRST_COMPLETED)
            for task in done:
                task.result()
            report(len(self.journal.visits), total)

    def _meet(self, origin: str, pace: Pace) -> None:
        """Read a site's rules and its sitemaps."""
        rules = self._follow(f"{origin}/robots.txt", pace, Site(origin))
        if isinstance(rules, Unanswered):
            private = rules.reason is Reason.PRIVATE_ADDRESS
            detail = rules.detail if private else f"robots.txt could not be read: {rules.detail}"
            self.journal.add_site(Site(origin, barred=rules.reason, detail=detail))
            return
        site = site_of(origin, rules.status, rules.body)
        if site.barred is None and self.scope.max_depth > 0:
            site = Site(origin, text=site.text, listed=tuple(self._listed(site, pace)))
        self.journal.add_site(site)

    def _listed(self, site: Site, pace: Pace) -> Iterable[str]:
        """Return the addresses of all its sitemaps, nested ones included."""
        found: set[str] = set()
        waiting, seen = site.sitemaps(), set[str]()
        while waiting and len(seen) < _MAX_SITEMAPS:
            url = waiting.pop(0)
            if url in seen:
                continue
            seen.add(url)
            sitemap = self._sitemap(url, site, pace)
            found.update(sitemap.pages)
            waiting += sitemap.nested
        return sorted(found)

    def _sitemap(self, url: str, site: Site, pace: Pace) -> Sitemap:
        answer = self._follow(url, pace, site)
        if isinstance(answer, Unanswered) or answer.status != 200:
            return Sitemap()
        return sitemap_of(url, answer.body, max_bytes=_MAX_SITEMAP_BYTES)

    def _follow(self, url: str, pace: Pace, site: Site) -> Response | Unanswered:
        """Fetch a site's own file, redirects followed."""
        for _ in range(MAX_REDIRECTS):
            answer = self._fetch(url, pace, site, max_bytes=_MAX_SITEMAP_BYTES)
            if isinstance(answer, Unanswered) or not 300 <= answer.status < 400:
                return answer
            target = canonical(answer.headers.get("location", ""), url)
            if target is None:
                return answer
            url = target
        return Unanswered(reason=Reason.REDIRECT_LOOP, detail="its redirects do not end")

    def _visit(self, url: str, pace: Pace) -> None:
        """Fetch and read one page."""
        site = self.journal.sites[origin(url)]
        answer = self._fetch(url, pace, site, types=TEXT_TYPES)
        if isinstance(answer, Unanswered):
            self.journal.add(_refused(url, answer.reason, answer.detail))
        elif 300 <= answer.status < 400:
            self.journal.add(_redirected(url, answer))
        elif answer.status >= 400:
            fallback = Reason.SERVER_ERROR if answer.status >= 500 else Reason.NOT_FOUND
            reason = _REASONS_BY_STATUS.get(answer.status, fallback)
            self.journal.add(_refused(url, reason, f"answered {answer.status}"))
        else:
            kind, rules = (answer.headers.get(n, "") for n in ("content-type", "x-robots-tag"))
            self._keep(url, read(url, answer.body, kind, rules=rules))

    def _keep(self, url: str, page: Page | Reason) -> None:
        if isinstance(page, Reason):
            self.journal.add(_refused(url, page, "it has no readable text"))
        else:
            visit = Visit(url=url, outcome=Outcome.PAGE, links=page.links)
            self.journal.add(visit, page)

    def _fetch(
        self,
        url: str,
        pace: Pace,
        site: Site,
        *,
        types: tuple[str, ...] = (),
        max_bytes: int | None = None,
    ) -> Response | Unanswered:
        """Fetch at the host's pace, again where the failure may pass."""
        extra_s = 0.0
        for attempt in range(1, _ATTEMPTS + 1):
            pace.wait(origin(url), site.delay_s(self.rate_per_s), extra_s)
            answer = self.fetcher.fetch(url, types=types, max_bytes=max_bytes)
            if attempt == _ATTEMPTS or not _may_pass(answer):
                break
            extra_s = _asked_s(answer) or self.retry_s * 2 ** (attempt - 1)
        return answer


@contextmanager
def _threads(pace: Pace) -> Iterator[ThreadPoolExecutor]:
    """Give threads that end with the block, however it ends."""
    pool = ThreadPoolExecutor(NUM_THREADS, thread_name_prefix="crawl")
    try:
        yield pool
    finally:
        pace.stopped.set()
        pool.shutdown(cancel_futures=True)


def _may_pass(answer: Response | Unanswered) -> bool:
    if isinstance(answer, Unanswered):
        return answer.reason is Reason.UNREACHABLE
    return answer.status in _PASSING


def _asked_s(answer: Response | Unanswered) -> float:
    """Return how long the site asks us to wait, seconds, as far as we are ready to; else 0."""
    asked = answer.headers.get("retry-after", "") if isinstance(answer, Response) else ""
    return min(float(asked), _MAX_RETRY_AFTER_S) if asked.isdigit() else 0.0


def _refused(url: str, reason: Reason, detail: str) -> Visit:
    return Visit(url=url, outcome=Outcome.REFUSED, reason=reason.value, detail=detail)


def _redirected(url: str, answer: Response) -> Visit:
    location = canonical(answer.headers.get("location", ""), url)
    if location is None:
        return _refused(url, Reason.NOT_FOUND, f"answered {answer.status} without an address")
    return Visit(url=url, outcome=Outcome.REDIRECT, location=location)
