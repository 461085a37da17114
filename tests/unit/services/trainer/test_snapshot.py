import pytest
import torch

from services.trainer import snapshot

STATE = {"position": 3, "losses": [1.5], "model": {"w": torch.arange(3.0)}}


def test_the_state_saved_last_comes_back(tmp_path):
    snapshot.save(tmp_path, STATE | {"position": 1})
    snapshot.save(tmp_path, STATE)
    loaded = snapshot.load(tmp_path)
    assert loaded["position"] == 3
    assert torch.equal(loaded["model"]["w"], STATE["model"]["w"])


def test_an_empty_folder_has_none(tmp_path):
    assert snapshot.load(tmp_path) is None


def test_what_a_kill_left_half_written_is_not_read_and_goes(tmp_path):
    snapshot.save(tmp_path, STATE)
    (tmp_path / "snapshot.77.tmp").write_bytes(b"half")
    assert snapshot.load(tmp_path)["position"] == 3
    assert [path.name for path in tmp_path.iterdir()] == ["snapshot.pt"]


@pytest.mark.parametrize("kept", [0, 10, 500])
def test_a_truncated_snapshot_counts_as_none(tmp_path, kept):
    snapshot.save(tmp_path, STATE)
    path = tmp_path / "snapshot.pt"
    path.write_bytes(path.read_bytes()[:kept])
    assert snapshot.load(tmp_path) is None


def test_a_snapshot_of_another_version_counts_as_none(tmp_path, monkeypatch):
    snapshot.save(tmp_path, STATE)
    monkeypatch.setattr(snapshot, "VERSION", snapshot.VERSION + 1)
    assert snapshot.load(tmp_path) is None
