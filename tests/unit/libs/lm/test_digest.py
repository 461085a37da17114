import hashlib
import json
import struct

import torch

from libs.lm.digest import folder_digest, weights_digest
from libs.lm.folder import load_model


class Tied(torch.nn.Module):
    def __init__(self, *, tie):
        super().__init__()
        self.b = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
        self.a = self.b if tie else torch.nn.Parameter(self.b.detach().clone())


def test_a_digest_is_taken_over_name_type_shape_and_bytes():
    by_hand = hashlib.sha256()
    by_hand.update(json.dumps(["a", "float32", [2]]).encode() + b"\n" + struct.pack("<2f", 1, -2))
    assert weights_digest(Tied(tie=True)) == by_hand.hexdigest()


def test_a_shared_tensor_counts_once_and_equal_ones_twice():
    assert weights_digest(Tied(tie=True)) != weights_digest(Tied(tie=False))


def test_one_bit_changes_the_digest():
    model = Tied(tie=False)
    before = weights_digest(model)
    with torch.no_grad():
        model.b[0] = torch.nextafter(model.b[0], torch.tensor(2.0))
    assert weights_digest(model) != before


def test_strides_do_not_change_the_digest():
    model = torch.nn.Linear(3, 2)
    before = weights_digest(model)
    model.weight.data = model.weight.data.t().contiguous().t()
    assert not model.weight.is_contiguous()
    assert weights_digest(model) == before


def test_shards_and_files_do_not_change_the_digest(tmp_path, make_checkpoint):
    folder = make_checkpoint(tmp_path / "whole", tie_word_embeddings=True)
    model = load_model(folder)
    sharded = tmp_path / "sharded"
    model.save_pretrained(str(sharded), max_shard_size="10KB")
    assert len(list(sharded.glob("*.safetensors"))) > 1
    assert folder_digest(sharded) == folder_digest(folder) == weights_digest(model)


def test_the_type_a_model_is_stored_in_is_part_of_its_digest(tmp_path, make_checkpoint):
    model = load_model(make_checkpoint(tmp_path / "single"))
    half = tmp_path / "half"
    model.bfloat16().save_pretrained(str(half))
    assert folder_digest(half) == weights_digest(model) != weights_digest(model.float())
