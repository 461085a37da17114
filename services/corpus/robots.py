"""What a site allows: its `robots.txt` and the sitemaps that it lists.

A missing file allows everything, a broken server forbids everything until it answers again
(RFC 9309, section 2.3.1). A crawl delay can only make us slower than we were asked to be.
"""

import gzip
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from lxml import etree
from protego import Protego

from services.corpus.addresses import canonical
from services.corpus.refusals import Reason

USER_AGENT = "athanor"
MAX_BYTES = 500 * 1024
"""RFC 9309 asks for at least this much to be read; what follows is ignored."""


@dataclass(frozen=True)
class Site:
    """One origin's rules, as they were when the crawl began."""

    origin: str
    text: str = ""
    """Of `robots.txt`; empty allows everything."""
    barred: Reason | None = None
    """Set when nothing of the site may or can be fetched."""
    detail: str = ""
    listed: Sequence[str] = field(default=())
    """Addresses that its sitemaps list, in normal form."""

    @cached_property
    def _rules(self) -> Protego:
        return Protego.parse(self.text)

    def allows(self, url: str) -> bool:
        """Tell whether the rules let us fetch the address."""
        return self.barred is None and bool(self._rules.can_fetch(url, USER_AGENT))

    def delay_s(self, rate_per_s: float) -> float:
        """Return the time between two requests, seconds: the stricter of the rate and the rules."""
        asked = self._rules.crawl_delay(USER_AGENT) or 0.0
        rate = self._rules.request_rate(USER_AGENT)
        by_rate = rate.seconds / rate.requests if rate and rate.requests else 0.0
        return max(1 / rate_per_s, float(asked), by_rate)

    def sitemaps(self) -> list[str]:
        """Return the addresses of the sitemaps: those listed, else the customary place."""
        listed = (canonical(url, self.origin + "/") for url in self._rules.sitemaps)
        return sorted({url for url in listed if url}) or [f"{self.origin}/sitemap.xml"]


def site_of(origin: str, status: int, body: bytes) -> Site:
    """Return the rules that an answer to `/robots.txt` means."""
    if 200 <= status < 300:
        return Site(origin, text=body[:MAX_BYTES].decode("utf-8", "replace").lstrip("\ufeff"))
    if 400 <= status < 500 and status != 429:
        return Site(origin)
    return Site(origin, barred=Reason.ROBOTS, detail=f"robots.txt answered {status}")


@dataclass(frozen=True, kw_only=True)
class Sitemap:
    """The addresses of one sitemap file; `nested` are sitemaps themselves."""

    pages: Sequence[str] = ()
    nested: Sequence[str] = ()


def sitemap_of(url: str, body: bytes, *, max_bytes: int) -> Sitemap:
    """Read a sitemap: XML, a list of addresses, either also as a `.gz` file; else it is empty."""
    data = _unpacked(body, max_bytes)
    if not data.lstrip().startswith(b"<"):
        lines = data.decode("utf-8", "replace").split()
        return Sitemap(pages=_addresses(url, lines))
    # Entities are not resolved and no network is used: a sitemap is a stranger's file.
    parser = etree.XMLParser(resolve_entities=False, no_network=True, recover=True)
    root = etree.fromstring(data, parser)
    if root is None:
        return Sitemap()
    locations = [element.text or "" for element in root.iter("{*}loc")]
    found = _addresses(url, locations)
    is_index = etree.QName(root).localname == "sitemapindex"
    return Sitemap(nested=found) if is_index else Sitemap(pages=found)


def _unpacked(body: bytes, max_bytes: int) -> bytes:
    if not body.startswith(b"\x1f\x8b"):
        return body
    try:
        return zlib.decompressobj(wbits=31).decompress(body, max_bytes)
    except (zlib.error, gzip.BadGzipFile):
        return b""


def _addresses(base: str, locations: Sequence[str]) -> tuple[str, ...]:
    found = (canonical(location, base) for location in locations)
    return tuple(sorted({address for address in found if address}))


def delays(sites: Mapping[str, Site], rate_per_s: float) -> dict[str, float]:
    """Return seconds between two requests by origin."""
    return {origin: site.delay_s(rate_per_s) for origin, site in sites.items()}
