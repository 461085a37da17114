"""Decide what a crawl fetches next: snapshot in, decision out, nothing remembered in between.

Levels of links are fetched whole, one after the other, so the result does not depend on which
answer came first, and a crawl that was killed goes on from its visits alone. Within a level, and
when the page budget runs out, the order is that of the sha256 of the address.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from services.corpus.addresses import origin, sha256
from services.corpus.refusals import Reason, Refusal
from services.corpus.robots import Site

MAX_REDIRECTS = 10


class Outcome(StrEnum):
    """What came of one fetch."""

    PAGE = "page"
    REDIRECT = "redirect"
    REFUSED = "refused"


@dataclass(frozen=True, kw_only=True)
class Visit:
    """One fetch, as the journal keeps it."""

    url: str
    outcome: Outcome
    location: str = ""
    """Where a redirect leads, in normal form."""
    links: Sequence[str] = ()
    """Addresses that a page links to, in normal form."""
    reason: str = ""
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class Scope:
    """What the request allows."""

    seeds: Sequence[str]
    """In normal form."""
    max_pages: int
    """Fetches at most, redirects included."""
    max_depth: int

    def ordered(self, urls: Iterable[str]) -> list[str]:
        """Return the addresses in an order that nobody can bend and every machine agrees on."""
        return sorted(set(urls), key=lambda url: sha256(url))


class Wave(NamedTuple):
    """What to do next: read these sites' rules, or fetch these pages. Both empty: the end."""

    origins: list[str]
    urls: list[str]
    refusals: dict[str, Refusal]
    """By address, of what was not fetched at all."""


def plan(scope: Scope, sites: Mapping[str, Site], visits: Mapping[str, Visit]) -> Wave:
    """Return the next wave of a crawl that knows these sites and has made these visits."""
    walk = _Walk(scope, sites, visits)
    level = scope.ordered(scope.seeds)
    for depth in range(scope.max_depth + 1):
        wave = walk.level(level, may_leave=depth == 0)
        if wave is not None:
            return wave
        level = scope.ordered(walk.onward(with_sitemaps=depth == 0))
    return Wave([], [], walk.refusals)


class _Walk:
    """One pass over the levels, from the seeds on."""

    def __init__(
        self, scope: Scope, sites: Mapping[str, Site], visits: Mapping[str, Visit]
    ) -> None:
        self.refusals: dict[str, Refusal] = {}
        self._scope, self._sites, self._visits = scope, sites, visits
        self._seen: set[str] = set()
        self._hops: dict[str, int] = {}
        self._reached: list[str] = []
        self._origins = {origin(seed) for seed in scope.seeds}
        self._budget = scope.max_pages

    def level(self, urls: Sequence[str], *, may_leave: bool) -> Wave | None:
        """Pass one level, redirects followed; return what is missing, if anything is."""
        self._reached = []
        while urls := [url for url in urls if url not in self._seen]:
            strange = {origin(url) for url in urls} - set(self._sites)
            if strange:
                return Wave(sorted(strange), [], self.refusals)
            taken = self._take(urls)
            missing = [url for url in taken if url not in self._visits]
            if missing:
                return Wave([], missing, self.refusals)
            self._reached += taken
            urls = self._scope.ordered(self._targets(taken, may_leave=may_leave))
        return None

    def onward(self, *, with_sitemaps: bool) -> Iterable[str]:
        """Yield what the pages of this level link to, as far as it is part of the crawl."""
        for url in self._reached:
            yield from (link for link in self._visits[url].links if self._is_ours(link))
        if with_sitemaps:
            for site in self._sites.values():
                yield from (link for link in site.listed if self._is_ours(link))

    def _is_ours(self, url: str) -> bool:
        return origin(url) in self._origins

    def _take(self, urls: Sequence[str]) -> list[str]:
        """Return those that the sites allow and the budget still covers."""
        self._seen.update(urls)
        allowed = [url for url in urls if self._allowed(url)]
        taken = allowed[: self._budget]
        self._budget -= len(taken)
        return taken

    def _allowed(self, url: str) -> bool:
        site = self._sites[origin(url)]
        if site.allows(url):
            return True
        self._refuse(url, site.barred or Reason.ROBOTS, site.detail or "robots.txt forbids it")
        return False

    def _targets(self, urls: Sequence[str], *, may_leave: bool) -> Iterable[str]:
        """Yield where the redirects among `urls` lead; a seed's may lead to another site."""
        for url in urls:
            visit = self._visits[url]
            if visit.outcome is not Outcome.REDIRECT:
                continue
            if may_leave:
                self._origins.add(origin(visit.location))
            hops = self._hops.get(url, 0) + 1
            if not self._is_ours(visit.location):
                detail = f"redirects to {visit.location}"
                self._refuse(url, Reason.OFF_SITE, detail)
            elif hops > MAX_REDIRECTS or self._returns(url):
                self._refuse(url, Reason.REDIRECT_LOOP, "its redirects do not end")
            else:
                self._hops[visit.location] = min(hops, self._hops.get(visit.location, hops))
                yield visit.location

    def _returns(self, url: str) -> bool:
        """Tell whether the redirects from `url`, as far as they are known, lead back to it."""
        at = url
        for _ in range(MAX_REDIRECTS + 1):
            visit = self._visits.get(at)
            if visit is None or visit.outcome is not Outcome.REDIRECT:
                return False
            at = visit.location
            if at == url:
                return True
        return False

    def _refuse(self, url: str, reason: Reason, detail: str) -> None:
        self.refusals[url] = Refusal(url, reason, detail)
