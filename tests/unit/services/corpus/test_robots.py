"""What a site allows."""

import gzip

import pytest

from services.corpus.refusals import Reason
from services.corpus.robots import site_of, sitemap_of

RULES = b"""User-agent: *
Disallow: /private/
Crawl-delay: 2
Sitemap: /map.xml

User-agent: athanor
Disallow: /not-for-athanor/
"""


def test_rules_for_us_by_name_come_before_those_for_all():
    site = site_of("http://e", 200, RULES)
    assert site.allows("http://e/private/x")
    assert not site.allows("http://e/not-for-athanor/x")
    assert site.sitemaps() == ["http://e/map.xml"]


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_missing_file_allows_everything(status):
    site = site_of("http://e", status, b"")
    assert site.allows("http://e/anything")
    assert site.sitemaps() == ["http://e/sitemap.xml"]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_broken_server_forbids_everything(status):
    site = site_of("http://e", status, b"")
    assert site.barred is Reason.ROBOTS
    assert not site.allows("http://e/anything")


@pytest.mark.parametrize(
    ("rules", "rate", "expected"),
    [
        (b"", 4.0, 0.25),
        (b"User-agent: *\nCrawl-delay: 2", 4.0, 2.0),
        (b"User-agent: *\nCrawl-delay: 2", 0.1, 10.0),
        (b"User-agent: *\nRequest-rate: 1/5", 4.0, 5.0),
    ],
)
def test_the_stricter_of_rate_and_crawl_delay_holds(rules, rate, expected):
    assert site_of("http://e", 200, rules).delay_s(rate) == expected


def test_binary_nonsense_allows_everything():
    assert site_of("http://e", 200, bytes(range(256))).allows("http://e/")


def xml(root: str, *locations: str) -> bytes:
    inner = "".join(f"<x><loc> {location} </loc></x>" for location in locations)
    return f'<?xml version="1.0"?><{root} xmlns="http://s">{inner}</{root}>'.encode()


def test_a_sitemap_lists_pages_and_an_index_lists_sitemaps():
    pages = sitemap_of("http://e/s.xml", xml("urlset", "/b", "http://e/a"), max_bytes=1000)
    assert pages.pages == ("http://e/a", "http://e/b")
    nested = sitemap_of("http://e/s.xml", xml("sitemapindex", "/two.xml"), max_bytes=1000)
    assert (nested.pages, nested.nested) == ((), ("http://e/two.xml",))


def test_packed_and_plain_sitemaps_are_read():
    packed = gzip.compress(xml("urlset", "/a"))
    assert sitemap_of("http://e/s.xml.gz", packed, max_bytes=1000).pages == ("http://e/a",)
    listed = sitemap_of("http://e/s.txt", b"http://e/b\nftp://e/c\n", max_bytes=1000)
    assert listed.pages == ("http://e/b",)


def test_entities_of_a_sitemap_are_not_expanded(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("http://e/secret")
    attack = f'<!DOCTYPE x [<!ENTITY s SYSTEM "file://{secret}">]><urlset><loc>&s;</loc></urlset>'
    assert sitemap_of("http://e/s.xml", attack.encode(), max_bytes=1000).pages in (
        (),
        ("http://e/s.xml",),
    )


@pytest.mark.parametrize("body", [b"", b"<", b"\x1f\x8bbroken", b"<html>no sitemap", b"<\xff\xfe>"])
def test_what_is_no_sitemap_lists_nothing(body):
    assert sitemap_of("http://e/s.xml", body, max_bytes=1000).pages == ()
