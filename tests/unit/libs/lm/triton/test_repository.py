import json

import pytest

from libs.errors import Conflict, Corrupt, Unavailable
from libs.lm.triton.repository import Repository, config, config_json, model_name, served_version

FOLDER = "models/repository/live"
FIRST, SECOND = "a" * 64, "b" * 64


@pytest.fixture
def models(world):
    return world.models


@pytest.fixture
def repository(models):
    return Repository(models)


@pytest.fixture
def checkpoint(tmp_path):
    def make(content):
        path = tmp_path / f"weights-{content}"
        path.write_text(content)
        return {"model.safetensors": path}

    return make


def names(models):
    return {blob.name.removeprefix(f"{FOLDER}/") for blob in models.list(f"{FOLDER}/")}


def test_a_configuration_names_the_version_that_serves():
    assert served_version(config("live", 7)) == 7
    assert json.loads(config_json("live", 7))["version_policy"]["specific"]["versions"] == ["7"]


@pytest.mark.parametrize("text", ["nonsense", 'name: "live"'])
def test_a_configuration_of_others_is_corrupt(text):
    with pytest.raises(Corrupt):
        served_version(text)


def test_a_candidate_is_named_by_the_beginning_of_its_digest():
    assert model_name("0123456789abcdef" * 4) == "lm-0123456789ab"


def test_publishing_again_writes_nothing(repository, models, checkpoint):
    assert repository.publish("live", FIRST, checkpoint("one")) == 1
    before = names(models)
    assert repository.publish("live", FIRST, checkpoint("one")) == 1
    assert names(models) == before


def test_other_weights_are_another_version(repository, checkpoint):
    repository.publish("live", FIRST, checkpoint("one"))
    assert repository.publish("live", SECOND, checkpoint("two")) == 2
    assert (repository.served("live"), repository.weights_digest("live")) == (2, SECOND)


def test_a_version_that_waits_does_not_serve_and_is_found_again(repository, checkpoint):
    repository.publish("live", FIRST, checkpoint("one"))
    waiting = repository.add("live", SECOND, checkpoint("two"))
    assert repository.served("live") == 1
    assert repository.add("live", SECOND, checkpoint("two")) == waiting == 2


def test_what_served_before_is_published_as_a_new_version(repository, checkpoint):
    for content, digest in (("one", FIRST), ("two", SECOND), ("one", FIRST)):
        repository.publish("live", digest, checkpoint(content))
    assert repository.served("live") == 3


def test_a_publication_that_was_killed_is_begun_anew_and_never_serves(
    repository, models, checkpoint
):
    class Killed(Exception):
        pass

    class Dying:
        def __init__(self, at):
            self.left = at

        def __getattr__(self, name):
            return getattr(models, name)

        def create(self, name, content):
            if not self.left:
                raise Killed
            self.left -= 1
            return models.create(name, content)

    for at in range(6):  # owner, four files, manifest
        with pytest.raises(Killed):
            Repository(Dying(at)).publish("live", FIRST, checkpoint("one"))
        assert repository.served("live") == 0
    number = repository.publish("live", FIRST, checkpoint("one"))
    assert f"{number}/manifest.json" in names(models)


def test_the_configuration_never_goes_back(repository, checkpoint):
    for content, digest in (("one", FIRST), ("two", SECOND)):
        repository.publish("live", digest, checkpoint(content))
    with pytest.raises(Conflict, match="later version"):
        repository.serve("live", 1)


def test_pruning_keeps_what_serves_and_what_is_being_written(repository, models, checkpoint):
    for content, digest in (("one", FIRST), ("two", SECOND)):
        repository.publish("live", digest, checkpoint(content))
    repository.add("live", FIRST, checkpoint("three"))
    repository.prune("live")
    repository.prune("live")
    assert {name.partition("/")[0] for name in names(models)} == {"config.pbtxt", "2", "3"}


def test_sound_bytes_are_kept(repository, checkpoint):
    number = repository.publish("live", FIRST, checkpoint("one"))
    assert not repository.discard_rotten("live", number)
    assert repository.publish("live", FIRST, checkpoint("one")) == number


def test_rotten_bytes_are_published_again(repository, models, checkpoint):
    number = repository.publish("live", FIRST, checkpoint("one"))
    rotten = f"{FOLDER}/{number}/checkpoint/model.safetensors"
    models.delete(rotten)
    models.create(rotten, b"rot")
    assert repository.discard_rotten("live", number)
    assert repository.publish("live", FIRST, checkpoint("one")) == number + 1


def test_a_store_that_is_down_is_said_to_be(repository, models, monkeypatch):
    def down(name):
        raise Unavailable("MinIO is down")

    monkeypatch.setattr(models, "read", down)
    with pytest.raises(Unavailable, match="MinIO"):
        repository.served("live")
