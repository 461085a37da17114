"""Search engines for tests: either adapter, the real one in a namespace that goes with it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from elasticsearch import Elasticsearch

from libs.search.elasticsearch import ElasticsearchSearch
from libs.search.port import Search
from libs.search.tantivy import TantivySearch

ADAPTERS = ("tantivy", "elasticsearch")


@contextmanager
def opened(adapter: str, request: pytest.FixtureRequest, folder: Path) -> Iterator[Search]:
    """Give an engine without indexes. Skips the test of `elasticsearch` where no stack runs."""
    if adapter == "tantivy":
        yield TantivySearch(folder / "index")
        return
    with elasticsearch(request.getfixturevalue("stack")["ATHANOR_ELASTICSEARCH"]) as search:
        yield search


@contextmanager
def elasticsearch(url: str, **options: Any) -> Iterator[ElasticsearchSearch]:
    """Give the adapter in a namespace that nobody else uses, removed at the end."""
    with fresh_namespace(url) as namespace:
        search = ElasticsearchSearch(url, namespace=namespace, **options)
        yield search
        search.close()


@contextmanager
def fresh_namespace(url: str) -> Iterator[str]:
    """Give a prefix of names that nobody else uses, and remove what has it at the end."""
    namespace = f"t{uuid4().hex[:10]}-"
    try:
        yield namespace
    finally:
        with Elasticsearch(url, request_timeout=30) as client:
            for name in client.indices.get(index=f"{namespace}*", filter_path="*.aliases").body:
                client.indices.delete(index=name, ignore_unavailable=True)


def stored(url: str, namespace: str) -> Mapping[str, list[str]]:
    """Return the aliases of every index in a namespace, by its name there."""
    with Elasticsearch(url, request_timeout=30) as client:
        found = client.indices.get(index=f"{namespace}*", filter_path="*.aliases").body
    return {name: sorted(each.get("aliases", {})) for name, each in found.items()}
