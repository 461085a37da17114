"""Which adapters the environment chooses."""

import pytest

from libs import profile
from libs.blobs.folder import FolderBlobs
from libs.clock import Clock
from libs.config import ServiceConfig
from libs.errors import InvalidInput
from libs.profile import Adapters, Profile

SERVERS = {
    "ATHANOR_PROFILE": "cluster",
    "ATHANOR_KAFKA": "k:1",
    "ATHANOR_MINIO": "http://m:2",
    "ATHANOR_MINIO_ACCESS_KEY": "who",
    "ATHANOR_MINIO_SECRET_KEY": "hidden",
    "ATHANOR_ELASTICSEARCH": "http://e:3",
    "ATHANOR_TRITON": "t:4",
}


def test_without_a_word_it_is_the_embedded_profile():
    assert profile.chosen({}) is Profile.EMBEDDED
    assert profile.servers({"ATHANOR_KAFKA": "k:1"}) is None


def test_an_unknown_profile_is_refused_with_those_there_are():
    with pytest.raises(InvalidInput, match="embedded or cluster, got 'swarm'"):
        profile.chosen({"ATHANOR_PROFILE": "swarm"})


def test_the_clusters_servers_are_read_and_other_names_of_the_environment_left_alone():
    found = profile.servers({**SERVERS, "ATHANOR_HOME": "/x", "ATHANOR_NAMESPACE": "n-"})
    assert (found.kafka, found.minio, found.namespace) == ("k:1", "http://m:2", "n-")


@pytest.mark.parametrize("name", sorted(set(SERVERS) - {"ATHANOR_PROFILE"}))
def test_a_server_that_is_not_named_is_an_error_that_names_it(name):
    with pytest.raises(InvalidInput, match=f"{name} must be set"):
        profile.servers({key: value for key, value in SERVERS.items() if key != name})


def test_the_embedded_store_lies_in_the_home_folder(tmp_path):
    at = Adapters(ServiceConfig(home=tmp_path), {})
    at.blobs.create("bucket/name", b"x")
    assert FolderBlobs(tmp_path / "blobs").read("bucket/name").data == b"x"


def test_the_embedded_profile_needs_the_lm_hosts_address(tmp_path):
    at = Adapters(ServiceConfig(home=tmp_path), {})
    with pytest.raises(InvalidInput, match="address"), at.lm(""):
        pass


def test_the_same_settings_open_the_same_store(tmp_path):
    blobs = profile.open_blobs(None, tmp_path, Clock())
    blobs.create("bucket/name", b"x")
    assert Adapters(ServiceConfig(home=tmp_path), {}).blobs.read("bucket/name").data == b"x"
