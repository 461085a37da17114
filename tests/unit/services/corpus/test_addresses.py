"""One page, one name."""

import pytest

from services.corpus.addresses import canonical, origin, precedence, topic_of


@pytest.mark.parametrize(
    ("url", "base", "expected"),
    [
        ("HTTP://Example.ORG:80", "", "http://example.org/"),
        ("https://example.org:443/a#part", "", "https://example.org/a"),
        ("https://example.org:8443/a?b=1#c", "", "https://example.org:8443/a?b=1"),
        ("../b/./c.html", "http://e.org/x/y/z.html", "http://e.org/x/b/c.html"),
        ("http://e.org/a/../../b", "", "http://e.org/b"),
        ("//other.org/x", "https://e.org/", "https://other.org/x"),
        ("/späße und mehr", "http://e.org/", "http://e.org/sp%C3%A4%C3%9Fe%20und%20mehr"),
        ("http://e.org/%c3%a4", "", "http://e.org/%C3%A4"),
        ("http://bücher.de/", "", "http://xn--bcher-kva.de/"),
        ("http://[::1]:8080/", "", "http://[::1]:8080/"),
        ("?page=2", "http://e.org/list", "http://e.org/list?page=2"),
        ("http://e.org//double", "", "http://e.org//double"),
    ],
)
def test_an_address_has_one_normal_form(url, base, expected):
    assert canonical(url, base) == expected
    assert canonical(expected) == expected


@pytest.mark.parametrize(
    "url",
    [
        "ftp://e.org/",
        "javascript:alert(1)",
        "mailto:a@e.org",
        "http://user:word@e.org/",
        "http://[broken/",
        "http://e.org:port/",
        "http:///path",
        "http://e.org/" + "x" * 3000,
        "http://" + "x" * 70 + ".org/",
        "",
        "relative.html",
    ],
)
def test_what_is_no_address_of_the_web_is_none(url):
    assert canonical(url) is None


def test_the_topic_is_that_of_the_longest_suffix_of_the_path():
    topics = {"client.html": "networking", "http.client.html": "internet"}
    assert topic_of("http://e.org/http.client.html?q=client.html", topics) == "internet"
    assert topic_of("http://e.org/xmlrpc.client.html", topics) == "networking"
    assert topic_of("http://e.org/index.html", topics) == ""


def test_of_equal_texts_the_known_topic_then_the_shorter_address_comes_first():
    order = [("http://e/long-copy", "t"), ("http://e/a", ""), ("http://e/b", "t")]
    assert [url for url, _ in sorted(order, key=lambda each: precedence(*each))] == [
        "http://e/b",
        "http://e/long-copy",
        "http://e/a",
    ]


def test_an_origin_has_the_port():
    assert origin("http://e.org:81/a?b") == "http://e.org:81"
