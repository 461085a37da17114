"""Addresses in one spelling, so that a page has one name however it was linked.

Source of the normal form: RFC 3986, section 6.2.2.
"""

import hashlib
import re
from collections.abc import Mapping
from urllib.parse import quote, urljoin, urlsplit, urlunsplit

MAX_LENGTH = 2048
"""Longer addresses are traps or data, not pages."""
_DEFAULT_PORTS = {"http": 80, "https": 443}
_SAFE = "%/:=&?~+!$,;'@()*[]"
_ESCAPE = re.compile(r"%[0-9a-fA-F]{2}")


def canonical(url: str, base: str = "") -> str | None:
    """Return the address in normal form, taken relative to `base`; None if it is not HTTP's."""
    try:
        joined = urljoin(base, url.strip()) if base else url.strip()
        parts = urlsplit(joined)
        host, port = (parts.hostname or "").encode("idna").decode(), parts.port
        if parts.scheme not in _DEFAULT_PORTS or not host or parts.username is not None:
            return None
        result = urlunsplit(
            (parts.scheme, _netloc(parts.scheme, host, port), *_rest(parts.path, parts.query), "")
        )
    except ValueError:
        return None
    return result if len(result) <= MAX_LENGTH else None


def _netloc(scheme: str, host: str, port: int | None) -> str:
    name = f"[{host}]" if ":" in host else host
    return name if port in (None, _DEFAULT_PORTS[scheme]) else f"{name}:{port}"


def _rest(path: str, query: str) -> tuple[str, str]:
    rooted = path if path.startswith("/") else f"/{path}"
    if not rooted.startswith("//"):
        rooted = urlsplit(urljoin("http://host/", rooted)).path or "/"
    return _escaped(rooted), _escaped(query)


def _escaped(text: str) -> str:
    return _ESCAPE.sub(lambda match: match[0].upper(), quote(text, safe=_SAFE))


def origin(url: str) -> str:
    """Return scheme, host and port: what one `robots.txt` speaks for."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def topic_of(url: str, topics_by_suffix: Mapping[str, str]) -> str:
    """Return the topic of the longest suffix that the address's path ends with, or none."""
    path = urlsplit(url).path
    matching = [suffix for suffix in topics_by_suffix if path.endswith(suffix)]
    return topics_by_suffix[max(matching, key=len)] if matching else ""


def precedence(url: str, topic: str) -> tuple[bool, int, str]:
    """Return the sort key by which one of several equal texts is kept.

    One whose topic is known comes first, then the shorter address (`json.html` before its copy
    `json-copy.html`), then the smaller.
    """
    return (not topic, len(url), url)


def sha256(text: str) -> str:
    """Return the digest of a text, 64 hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()
