import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from libs.errors import Corrupt, InvalidInput
from libs.lm.folder import load_model, load_tokenizer


@pytest.fixture
def folder(tmp_path, make_checkpoint):
    return make_checkpoint(tmp_path / "model")


@pytest.mark.parametrize("kept", [0, 4, 100, -1])
def test_truncated_weights_are_corrupt(folder, kept):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:kept])
    with pytest.raises(Corrupt, match="truncated"):
        load_model(folder)


def test_weights_that_lack_a_tensor_are_corrupt(folder):
    weights = folder / "model.safetensors"
    tensors = load_file(weights)
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, weights, metadata={"format": "pt"})
    with pytest.raises(Corrupt, match="up_proj"):
        load_model(folder)


def test_weights_of_another_shape_are_corrupt(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 64}))
    with pytest.raises(Corrupt, match=r"config\.json"):
        load_model(folder)


def test_an_absent_shard_is_corrupt(folder):
    load_model(folder).save_pretrained(str(folder), max_shard_size="10KB")
    sorted(folder.glob("model-*.safetensors"))[0].unlink()
    with pytest.raises(Corrupt, match="absent"):
        load_model(folder)


@pytest.mark.parametrize("config", [None, {}, {"model_type": "no-such-model"}])
def test_a_folder_of_no_known_architecture_is_refused(folder, config):
    (folder / "config.json").unlink()
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InvalidInput, match=r"config\.json"):
        load_model(folder)


def test_code_that_comes_with_a_checkpoint_is_not_run(folder):
    config = json.loads((folder / "config.json").read_text())
    code = {"model_type": "theirs", "auto_map": {"AutoConfig": "theirs.Config"}}
    (folder / "config.json").write_text(json.dumps(config | code))
    (folder / "theirs.py").write_text("raise SystemExit('ran')")
    with pytest.raises(InvalidInput):
        load_model(folder)


def test_a_folder_without_safetensors_is_refused(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(InvalidInput, match="safetensors"):
        load_model(folder)


def test_a_folder_without_a_tokenizer_is_refused(folder):
    (folder / "tokenizer.json").unlink()
    with pytest.raises(InvalidInput, match="tokenizer"):
        load_tokenizer(folder)


def test_weights_are_read_in_the_type_asked_for(folder):
    assert load_model(folder, dtype=torch.float64).dtype is torch.float64
