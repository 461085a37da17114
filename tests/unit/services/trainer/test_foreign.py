import pytest

from libs.errors import InvalidInput, NotFound
from services.trainer import foreign


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("config.json", "tokenizer.json", "model.safetensors", "tokenizer_config.json"):
        (folder / name).write_text(name)
    return folder


def test_only_what_a_checkpoint_needs_is_copied_and_links_are_followed(folder, tmp_path):
    for name in ("README.md", "modeling_theirs.py", "pytorch_model.bin", "optimizer.pt"):
        (folder / name).write_text("not wanted")
    (folder / "model.safetensors").rename(tmp_path / "weights")
    (folder / "model.safetensors").symlink_to(tmp_path / "weights")
    out = tmp_path / "out"
    out.mkdir()
    foreign.copy(folder, out)
    names = {"config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"}
    assert {path.name for path in out.iterdir()} == names
    assert not (out / "model.safetensors").is_symlink()


def test_an_absent_folder_is_not_found(tmp_path):
    with pytest.raises(NotFound, match="no folder"):
        foreign.check_folder(str(tmp_path / "nowhere"))


def test_a_relative_path_is_refused():
    with pytest.raises(InvalidInput, match="absolute"):
        foreign.check_folder("models/mine")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_folder_that_lacks_a_file_is_refused_by_its_name(folder, name):
    (folder / name).unlink()
    with pytest.raises(InvalidInput, match="safetensors" if "model" in name else name):
        foreign.check_folder(str(folder))
