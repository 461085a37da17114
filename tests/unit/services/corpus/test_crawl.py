"""Decisions of a crawl, without a network: a web is a table of visits."""

import random
from collections.abc import Mapping

import pytest

from services.corpus.crawl import Outcome, Scope, Visit, plan
from services.corpus.refusals import Reason
from services.corpus.robots import Site

HOST = "http://e"


def linked(*links: str) -> Visit:
    return Visit(url="", outcome=Outcome.PAGE, links=[HOST + link for link in links])


def moved(to: str) -> Visit:
    return Visit(url="", outcome=Outcome.REDIRECT, location=to if ":" in to else HOST + to)


def crawled(web: Mapping[str, Visit], rules: str = "", listed: tuple[str, ...] = (), **scope: int):
    """Crawl a web of path to visit; return the paths in the order fetched, and the refusals."""
    limits = {"max_pages": 100, "max_depth": 9, **scope}
    chosen = Scope(seeds=[f"{HOST}/"], **limits)
    sites: dict[str, Site] = {}
    visits: dict[str, Visit] = {}
    while True:
        wave = plan(chosen, sites, visits)
        for origin in wave.origins:
            sites[origin] = Site(origin, text=rules, listed=[HOST + path for path in listed])
        # Answers come in any order; the decisions may not depend on it.
        for url in random.Random(len(visits)).sample(wave.urls, len(wave.urls)):
            gone = Visit(url=url, outcome=Outcome.REFUSED, reason="not_found")
            visits[url] = web.get(url.removeprefix(HOST), gone)
        if not wave.origins and not wave.urls:
            return [url.removeprefix(HOST) for url in visits], wave.refusals


def test_every_page_is_fetched_once_level_by_level():
    web = {
        "/": linked("/a", "/b", "/"),
        "/a": linked("/b", "/c"),
        "/b": linked("/c", "/a"),
        "/c": linked(),
    }
    paths, refusals = crawled(web)
    assert paths[0] == "/"
    assert set(paths[1:3]) == {"/a", "/b"}
    assert paths[3:] == ["/c"]
    assert refusals == {}


def test_the_page_budget_takes_the_same_pages_whatever_came_first():
    web = {"/": linked(*(f"/{number}" for number in range(50)))}
    backwards = {"/": linked(*(f"/{number}" for number in reversed(range(50))))}
    first, second = crawled(web, max_pages=11)[0], crawled(backwards, max_pages=11)[0]
    assert len(first) == 11
    assert set(first) == set(second)


def test_links_are_followed_to_the_depth_asked_for():
    web = {"/": linked("/1"), "/1": linked("/2"), "/2": linked("/3")}
    assert crawled(web, max_depth=2)[0] == ["/", "/1", "/2"]
    assert crawled(web, max_depth=0, listed=("/x",))[0] == ["/"]


def test_a_sitemap_counts_as_links_of_the_seed():
    assert crawled({"/": linked()}, listed=("/x",), max_depth=1)[0] == ["/", "/x"]


def test_links_to_other_sites_are_not_followed_but_a_seed_may_move():
    away = Visit(url="", outcome=Outcome.PAGE, links=["http://other/"])
    assert crawled({"/": away})[0] == ["/"]
    web = {"/": moved("http://other/"), "http://other/": linked()}
    assert crawled(web)[0] == ["/", "http://other/"]


def test_a_page_that_moves_to_another_site_is_refused():
    paths, refusals = crawled({"/": linked("/a"), "/a": moved("http://other/")})
    assert paths == ["/", "/a"]
    assert refusals[f"{HOST}/a"].reason is Reason.OFF_SITE


def test_a_chain_of_redirects_is_followed_and_a_loop_is_refused():
    web = {"/": linked("/a", "/x"), "/a": moved("/b"), "/b": moved("/c"), "/c": linked()}
    paths, refusals = crawled(web | {"/x": moved("/y"), "/y": moved("/x")})
    assert "/c" in paths
    assert {url for url, each in refusals.items() if each.reason is Reason.REDIRECT_LOOP} == {
        f"{HOST}/x"
    }


def test_a_page_that_moves_to_itself_is_a_loop():
    assert crawled({"/": moved("/")})[1][f"{HOST}/"].reason is Reason.REDIRECT_LOOP


def test_redirects_without_end_are_given_up():
    web = {f"/{number}": moved(f"/{number + 1}") for number in range(40)}
    paths, refusals = crawled(web | {"/": moved("/0")})
    assert len(paths) == 11
    assert [each.reason for each in refusals.values()] == [Reason.REDIRECT_LOOP]


def test_a_redirect_stays_on_its_level():
    web = {"/": linked("/a"), "/a": moved("/b"), "/b": linked("/c")}
    assert crawled(web, max_depth=1)[0] == ["/", "/a", "/b"]


def test_what_robots_forbid_is_refused_and_costs_no_budget():
    web = {"/": linked("/private/1", "/private/2", "/a", "/b")}
    paths, refusals = crawled(web, "User-agent: *\nDisallow: /private/", max_pages=3)
    assert set(paths) == {"/", "/a", "/b"}
    assert {each.reason for each in refusals.values()} == {Reason.ROBOTS}
    assert len(refusals) == 2


@pytest.mark.parametrize("cut", range(1, 5))
def test_a_crawl_goes_on_from_any_part_of_its_visits(cut):
    web = {"/": linked("/a", "/b", "/c"), "/a": linked("/d")}
    whole, _ = crawled(web)
    scope = Scope(seeds=[f"{HOST}/"], max_pages=100, max_depth=9)
    kept = {HOST + path: web.get(path, linked()) for path in whole[:cut]}
    wave = plan(scope, {HOST: Site(HOST)}, kept)
    assert wave.urls
    assert not set(wave.urls) & set(kept)
