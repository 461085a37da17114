"""What the corpus needs from the outside, in its own words, beside what `libs` gives."""

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

from services.corpus.refusals import Reason


@dataclass(frozen=True, kw_only=True)
class Response:
    """One answer of a site; redirects are not followed."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    """Names in lower case; of several with one name, the first."""
    body: bytes = b""
    """Decompressed; empty unless the status is 2xx."""


@dataclass(frozen=True, kw_only=True)
class Unanswered:
    """Why there is no answer, or none that may be kept."""

    reason: Reason
    detail: str = ""


class Fetcher(Protocol):
    """Fetches one address within fixed limits of size and time. Threads may share it."""

    def fetch(
        self, url: str, *, types: tuple[str, ...] = (), max_bytes: int | None = None
    ) -> Response | Unanswered:
        """Return the answer.

        Args:
            url: in normal form.
            types: media types whose body is wanted, all if empty; another is `NOT_TEXT`, unread.
            max_bytes: of this body, in place of the fetcher's limit.
        """
        ...


class Fetchers(Protocol):
    """Makes a fetcher for one crawl; leaving its block closes what it holds open."""

    def __call__(
        self, *, max_bytes: int, timeout_s: float, allow_private_hosts: Iterable[str]
    ) -> AbstractContextManager[Fetcher]:
        """Set the limits.

        Args:
            max_bytes: of a body, both as sent and decompressed.
            timeout_s: for a whole fetch, connecting included.
            allow_private_hosts: `name` or `name:port` that may have a private address.
        """
        ...
