"""The same model repository for clusters with GPUs: Triton's vLLM backend in the place of ours.

Generated and checked by parsing; nothing here runs it. That backend does not digest what it loads,
so it serves what needs no digest (users, rollouts that are scored again); exams ask our models.
Source: https://github.com/triton-inference-server/vllm_backend/blob/main/README.md
"""

from dataclasses import dataclass

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from libs.errors import InvalidInput
from libs.formats import canonical_json

_DTYPES = ("auto", "float32", "float16", "bfloat16")


@dataclass(frozen=True, kw_only=True)
class Engine:
    """How vLLM holds one model."""

    checkpoint: str
    """Folder on the server, in the Hugging Face layout."""
    num_gpus: int = 1
    """The weights are cut across so many, tensor by tensor."""
    memory_share: float = 0.9
    """Of each GPU, for weights and key-value cache, in (0, 1]."""
    dtype: str = "auto"
    """`auto` is what the weights are stored in."""
    max_tokens: int = 0
    """Longest prompt and answer together; 0 is the model's own context."""

    def __post_init__(self) -> None:
        if not 0 < self.memory_share <= 1:
            raise InvalidInput(f"memory_share must lie in (0, 1], got {self.memory_share}")
        if self.num_gpus < 1 or self.max_tokens < 0:
            raise InvalidInput(
                f"num_gpus must be 1 or more and max_tokens 0 or more, got {self.num_gpus} "
                f"and {self.max_tokens}"
            )
        if self.dtype not in _DTYPES:
            raise InvalidInput(f"dtype must be one of {', '.join(_DTYPES)}, got {self.dtype[:40]}")


def files(name: str, version: int, engine: Engine) -> dict[str, bytes]:
    """Return the files of one model by their path in the repository.

    Args:
        name: what Triton calls the model.
        version: which one serves.
        engine: written as `model.json`, the arguments of vLLM's `AsyncEngineArgs`.
    """
    arguments: dict[str, object] = {
        "model": engine.checkpoint,
        "tokenizer": engine.checkpoint,
        "dtype": engine.dtype,
        "tensor_parallel_size": engine.num_gpus,
        "gpu_memory_utilization": engine.memory_share,
        # A checkpoint is data: loading it runs nothing that came with it.
        "trust_remote_code": False,
        "load_format": "safetensors",
    }
    if engine.max_tokens:
        arguments["max_model_len"] = engine.max_tokens
    return {
        f"{name}/config.pbtxt": config(name, version).encode(),
        f"{name}/{version}/model.json": canonical_json(arguments),
    }


def config(name: str, version: int) -> str:
    """Return the `config.pbtxt`; the backend adds its own tensors to it, and batches itself."""
    made = model_config_pb2.ModelConfig(name=name, backend="vllm")
    # The engine chooses its own devices; one instance, or the weights are held twice.
    made.instance_group.add(kind=model_config_pb2.ModelInstanceGroup.KIND_MODEL, count=1)
    made.model_transaction_policy.decoupled = True
    made.version_policy.specific.versions.append(version)
    return text_format.MessageToString(made)
