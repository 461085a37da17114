"""One Elasticsearch: its client, with a deadline on every request and its errors as ours."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import elasticsearch
from elasticsearch import ApiError, Elasticsearch

from libs.errors import (
    Busy,
    Conflict,
    Forbidden,
    InvalidInput,
    NotFound,
    ServiceError,
    Unavailable,
)


class Gone(NotFound):
    """The index is not there: nobody made it, or it was dropped."""


class Lost(Unavailable):
    """The shards or the opened view did not answer; what is opened anew may."""


class Server:
    """The client of one server; threads may share it."""

    def __init__(self, url: str, *, deadline_s: float) -> None:
        """Use the server at `http(s)://host:port`; connects at the first request."""
        self.name = f"Elasticsearch at {_address(url)}"
        self._deadline_s = deadline_s
        self.patience = f"{int(500 * deadline_s)}ms"
        """How long the server may wait for a shard or a master, so that its refusal arrives here
        before the deadline."""
        # One retry is for a kept connection that a restarted server has forgotten: every request
        # here may be repeated.
        self.client = Elasticsearch(
            url,
            request_timeout=deadline_s,
            max_retries=1,
            retry_on_timeout=False,
            retry_on_status=(),
        )

    @contextmanager
    def errors(self, what: str) -> Iterator[None]:
        """Raise what the client raises as one of ours, with `what` was asked and of whom."""
        try:
            yield
        except ApiError as error:
            raise self.error(what, error.meta.status, _cause(error.body)) from error
        except elasticsearch.ConnectionTimeout as error:
            waited = f"{self.name} did not answer within {self._deadline_s:g} s"
            raise Unavailable(f"{what}: {waited}") from error
        except elasticsearch.TransportError as error:
            raise Unavailable(f"{what}: {self.name} is not reachable: {error}") from error

    def error(self, what: str, status: int, cause: dict[str, Any]) -> ServiceError:
        """Return the error for a status and the server's `error` object."""
        type_, reason = cause.get("type", "unknown"), cause.get("reason") or "no reason given"
        return kind(status, type_)(f"{what}: {self.name} says {status} {type_}: {reason}")

    def require_whole(self, what: str, shards: dict[str, Any]) -> None:
        """Raise `Lost` when some shard did not take part."""
        if shards.get("failed"):
            raise Lost(
                f"{what}: {self.name} failed on {shards['failed']} of {shards['total']} shards"
            )


_KINDS: dict[int, type[ServiceError]] = {
    400: InvalidInput,
    401: Forbidden,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    413: InvalidInput,
    429: Busy,
    503: Lost,
}
_KINDS_BY_TYPE: dict[str, type[ServiceError]] = {
    "index_not_found_exception": Gone,
    "search_context_missing_exception": Lost,
    "search_phase_execution_exception": Lost,
    "resource_already_exists_exception": Conflict,
    "illegal_state_exception": Conflict,  # a second index to write to under one alias
    "cluster_block_exception": Busy,  # disk at its flood stage, or still starting
    "circuit_breaking_exception": Busy,
}


def kind(status: int, type_: str) -> type[ServiceError]:
    """Return which of ours an error of the server is."""
    return _KINDS_BY_TYPE.get(type_) or _KINDS.get(status, Unavailable)


def _cause(body: Any) -> dict[str, Any]:
    error = body.get("error") if isinstance(body, dict) else None
    return error if isinstance(error, dict) else {"reason": str(error or body)[:200]}


def _address(url: str) -> str:
    """Return host and port alone: an address may carry a password."""
    return urlsplit(url).netloc.rpartition("@")[2]
