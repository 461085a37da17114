"""The cluster profile for tests of whole rounds, in a namespace that goes with them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest
from elasticsearch import Elasticsearch
from kafka import KafkaAdminClient

from libs.profile import Profile
from tests import buckets


@contextmanager
def entered(profile: Profile, request: pytest.FixtureRequest) -> Iterator[Mapping[str, str]]:
    """Let what starts during the block use the profile; give its settings.

    Skips the test of the cluster's where no stack runs.
    """
    settings = {"ATHANOR_PROFILE": str(profile)}
    with pytest.MonkeyPatch.context() as patch:
        if profile is Profile.EMBEDDED:
            patch.setenv("ATHANOR_PROFILE", profile)
            yield settings
            return
        stack = dict(request.getfixturevalue("stack"))
        with _namespace(stack) as namespace:
            settings |= stack | {"ATHANOR_NAMESPACE": namespace}
            for name, value in settings.items():
                patch.setenv(name, value)
            yield settings


@contextmanager
def _namespace(stack: Mapping[str, str]) -> Iterator[str]:
    with buckets.fresh_namespace(stack) as namespace:
        try:
            yield namespace
        finally:
            _remove_topics(stack["ATHANOR_KAFKA"], namespace)
            with Elasticsearch(stack["ATHANOR_ELASTICSEARCH"], request_timeout=30) as client:
                for name in client.indices.get(index=f"{namespace}*", filter_path="*.aliases").body:
                    client.indices.delete(index=name, ignore_unavailable=True)


def _remove_topics(servers: str, namespace: str) -> None:
    admin = KafkaAdminClient(bootstrap_servers=servers)
    try:
        admin.delete_topics([name for name in admin.list_topics() if name.startswith(namespace)])
    finally:
        admin.close()
