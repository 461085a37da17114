"""From bytes to text, title and links."""

import pytest

from services.corpus.extract import Page, decode, read
from services.corpus.refusals import Reason

from .conftest import page, prose


def as_page(body: bytes | str, content_type: str = "text/html; charset=utf-8") -> Page:
    data = body.encode() if isinstance(body, str) else body
    found = read("http://e.org/dir/page.html", data, content_type)
    assert isinstance(found, Page)
    return found


@pytest.mark.parametrize(
    ("body", "content_type", "expected"),
    [
        ("café".encode(), "text/html", "café"),
        ("café".encode("latin-1"), "text/html; charset=ISO-8859-1", "café"),
        ("“café”".encode("cp1252"), "text/html; charset=latin-1", "“café”"),
        ("café".encode("utf-16"), "text/html", "café"),
        ("\ufeffcafé".encode(), "text/html; charset=latin-1", "café"),
        ("текст".encode("koi8-r"), 'text/plain; charset="KOI8-R"', "текст"),
        (
            '<meta charset="shift_jis">日本'.encode("shift_jis"),
            "",
            '<meta charset="shift_jis">日本',
        ),
        ("café".encode(), "text/html; charset=no-such-thing", "café"),
        ("café".encode(), "text/html; charset=base64", "café"),
        ("plain words " * 9 + "é").encode()
        and (b"plain words " * 9 + b"\xff", "", "plain words " * 9 + "\ufffd"),
    ],
)
def test_the_encoding_is_the_marks_then_the_headers_then_the_pages(body, content_type, expected):
    assert decode(body, content_type) == expected


@pytest.mark.parametrize("body", [bytes(range(256)) * 4, b"\xff\xfe\xfd" * 100, bytes(1000)])
def test_what_is_no_text_is_undecodable(body):
    assert read("http://e/", body, "text/html; charset=utf-8") is Reason.UNDECODABLE


def test_a_page_gives_title_paragraphs_and_links():
    links = ("other.html#part", "/root", "http://away.org/", "mailto:x@y", "javascript:0")
    found = as_page(page(" The\n title ", prose(1), prose(2), links=links).body)
    assert found.title == "The title"
    assert found.text.splitlines()[:2] == [prose(1), prose(2)]
    assert found.links == ("http://away.org/", "http://e.org/dir/other.html", "http://e.org/root")


def test_navigation_is_no_text():
    menu = "<nav><ul>" + "".join(f'<li><a href="/{n}">Menu {n}</a></li>' for n in range(30))
    found = as_page(
        f"<html><body>{menu}</ul></nav><article><p>{prose(1)}</p></article></body></html>"
    )
    assert found.text == prose(1)
    assert len(found.links) == 30


def test_links_follow_the_base_and_spare_nofollow():
    html = '<base href="/base/"><p>x</p><a href="a">a</a><a rel="nofollow" href="b">b</a>'
    assert as_page(html).links == ("http://e.org/base/a",)


def test_a_page_may_forbid_its_index_and_its_links():
    found = as_page('<meta name="Robots" content="NOINDEX, nofollow"><p>x</p><a href="a">a</a>')
    assert found.forbidden
    assert found.links == ()


@pytest.mark.parametrize(
    ("html", "rules"),
    [
        ('<meta name="robots" content="none"><p>x</p><a href="a">a</a>', ""),
        ('<p>x</p><a href="a">a</a>', "NoIndex, nofollow"),
        ('<p>x</p><a href="a">a</a>', "athanor: none"),
    ],
)
def test_none_and_the_header_forbid_too(html, rules):
    found = read("http://e.org/", html.encode(), "text/html", rules=rules)
    assert isinstance(found, Page)
    assert found.forbidden
    assert found.links == ()


def test_a_header_forbids_plain_text():
    found = read("http://e.org/", b"some text", "text/plain", rules="noindex")
    assert isinstance(found, Page)
    assert found.forbidden


def test_xhtml_is_html():
    html = f'<html><body><p>{prose(1)}</p><a href="a">a</a></body></html>'
    found = as_page(html, "application/xhtml+xml; charset=utf-8")
    assert found == as_page(html)
    assert found.links == ("http://e.org/dir/a",)


def test_plain_text_is_kept_as_it_is():
    found = as_page("# Title\r\n\r\nFirst  line\r\n<b>second</b>", "text/plain")
    assert found == Page("Title", "# Title\n\nFirst  line\n<b>second</b>")


@pytest.mark.parametrize("body", [b"", b" \n ", b"<!-- nothing -->", b"\xef\xbb\xbf"])
def test_a_page_without_anything_is_empty(body):
    found = read("http://e/", body, "text/html")
    assert found is Reason.EMPTY or (isinstance(found, Page) and not found.text.strip())


def test_what_utf_8_cannot_hold_is_taken_out():
    found = as_page(f"<title>a&#xD800;b&#1;</title><p>{prose(1)} &#xDFFF;&#2;</p>")
    assert (found.title + found.text).encode()
    assert "\x01" not in found.title


def test_an_encoding_named_inside_an_xml_page_is_no_obstacle():
    found = as_page(
        f'<?xml version="1.0" encoding="utf-8"?><html><body><p>{prose(1)}</p></body></html>'
    )
    assert found.text == prose(1)


def test_deep_nesting_is_survived():
    deep = "<div>" * 5000 + f"<p>{prose(1)}</p>"
    assert isinstance(read("http://e/", deep.encode(), "text/html"), Page | Reason)
