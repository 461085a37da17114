import json

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from libs.errors import InvalidInput
from libs.lm.triton.repository import served_version
from libs.lm.triton.vllm import Engine, config, files

ENGINE = Engine(checkpoint="/models/one", num_gpus=4, max_tokens=32768, dtype="bfloat16")


def test_the_configuration_parses_as_one_streaming_model_of_the_vllm_backend():
    parsed = text_format.Parse(config("lm-0123", 3), model_config_pb2.ModelConfig())
    assert (parsed.name, parsed.backend, served_version(config("lm-0123", 3))) == (
        "lm-0123",
        "vllm",
        3,
    )
    assert parsed.model_transaction_policy.decoupled
    (group,) = parsed.instance_group
    assert group.kind == model_config_pb2.ModelInstanceGroup.KIND_MODEL


def test_the_layout_is_that_of_the_backend():
    made = files("lm-0123", 3, ENGINE)
    assert set(made) == {"lm-0123/config.pbtxt", "lm-0123/3/model.json"}
    arguments = json.loads(made["lm-0123/3/model.json"])
    assert arguments["model"] == arguments["tokenizer"] == "/models/one"
    assert (arguments["tensor_parallel_size"], arguments["max_model_len"]) == (4, 32768)
    assert arguments["trust_remote_code"] is False


def test_the_models_own_context_is_the_default():
    made = files("m", 1, Engine(checkpoint="/models/one"))
    assert "max_model_len" not in json.loads(made["m/1/model.json"])


@pytest.mark.parametrize(
    "wrong",
    [
        {"num_gpus": 0},
        {"memory_share": 0.0},
        {"memory_share": 1.1},
        {"max_tokens": -1},
        {"dtype": "int3"},
    ],
)
def test_an_engine_that_cannot_be_is_refused(wrong):
    with pytest.raises(InvalidInput, match="must"):
        Engine(checkpoint="/models/one", **wrong)
