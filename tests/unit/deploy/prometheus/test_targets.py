import json

import pytest

from deploy.prometheus.targets import remove, rendered, write
from libs.errors import Unavailable
from libs.launcher import Report

CORPUS = Report(name="corpus", pid=1, port=2, metrics_port=3, restarts=0)
LOOP = Report(name="loop", pid=4, port=5, metrics_port=6, restarts=0)


def test_every_process_is_a_target_by_its_name(tmp_path):
    groups = json.loads(rendered([LOOP, CORPUS], home=tmp_path))
    assert [group["targets"] for group in groups] == [["127.0.0.1:3"], ["127.0.0.1:6"]]
    assert groups[0]["labels"] == {"job": "athanor", "program": "corpus", "home": str(tmp_path)}


def test_two_home_folders_have_a_file_each(tmp_path):
    one = write(tmp_path / "targets", [CORPUS], home=tmp_path / "one")
    other = write(tmp_path / "targets", [LOOP], home=tmp_path / "other")
    assert sorted((tmp_path / "targets").iterdir()) == sorted([one, other])
    remove(tmp_path / "targets", home=tmp_path / "one")
    remove(tmp_path / "targets", home=tmp_path / "one")
    assert list((tmp_path / "targets").iterdir()) == [other]


def test_a_folder_that_cannot_be_written_is_unavailable(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match="targets cannot be kept in"):
        write(tmp_path / "file", [CORPUS], home=tmp_path)
