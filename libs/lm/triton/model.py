"""What Triton's python backend runs for one model: load, digest, answer.

Publishing copies this file into the model's version folder as `model.py`, beside the arithmetic
that the lm host runs (`libs.lm.arithmetic`) and the checkpoint. The backend's process sees
site-packages and that folder, nothing of Athanor's tree. Every answer carries the digest that was
computed from the tensors in memory, so weights that are others than published never answer:
`initialize` raises, Triton does not take the version up, and an older one serves on.

Torch is imported while it initialises: Triton also starts this program only to ask for its
configuration, and would wait for torch twice. A failure is told as `<Kind>: <message>`, the kinds
being those of `libs.errors`.
"""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """One model; Triton calls it from one thread."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the checkpoint of this version.

        Raises:
            ValueError: its weights have another digest than the manifest says, or cannot be read.
        """
        folder = Path(args["model_repository"]) / args["model_version"]
        sys.path.insert(0, str(folder))
        from transformers import AutoTokenizer

        from libs.lm import digest, prompts, scoring

        self._scoring = scoring
        self._unusable = prompts.UnusableError
        manifest = json.loads((folder / "manifest.json").read_text())
        _prepare(manifest["num_threads"])
        model = _load(folder / "checkpoint")
        self._digest = digest.weights_digest(model)
        if self._digest != manifest["weights_digest"]:
            raise ValueError(
                f"Corrupt: expected weights {manifest['weights_digest']}, the stored ones are "
                f"{self._digest}"
            )
        self._model = model.float()
        self._tokenizer = AutoTokenizer.from_pretrained(
            str(folder / "checkpoint"), local_files_only=True, trust_remote_code=False
        )
        self._calls = {"describe": self._describe, "score": self._score}

    def execute(self, requests: Sequence[Any]) -> None:
        """Answer each request on its own: batches are what the caller made them."""
        for request in requests:
            sender = request.get_response_sender()
            try:
                answer = pb_utils.InferenceResponse(output_tensors=self._answer(request))
            except self._unusable as error:
                answer = _failed(f"InvalidInput: {error}", pb_utils.TritonError.INVALID_ARG)
            except Exception as error:  # noqa: BLE001 - the process edge: the caller is told
                answer = _failed(f"Internal: {error!r}", pb_utils.TritonError.INTERNAL)
            sender.send(answer, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)

    def _answer(self, request: Any) -> list[Any]:
        (name,) = _texts(request, "call")
        call: Callable[[Any], dict[str, Any]] | None = self._calls.get(name)
        if call is None:
            raise ValueError(f"expected a call among {', '.join(self._calls)}, got {name}")
        tensors = {"weights_digest": _bytes([self._digest]), **call(request)}
        return [pb_utils.Tensor(key, value) for key, value in tensors.items()]

    def _describe(self, _request: Any) -> dict[str, Any]:
        count = sum(each.numel() for each in self._model.parameters())
        return {"num_parameters": np.array([count], dtype=np.int64)}

    def _score(self, request: Any) -> dict[str, Any]:
        options = iter(_texts(request, "options"))
        questions = [
            (stem, [next(options) for _ in range(count)])
            for stem, count in zip(
                _texts(request, "stems"), _numbers(request, "num_options"), strict=True
            )
        ]
        (batch_size,) = _numbers(request, "batch_size")
        scores = [*self._scoring.score(self._model, self._tokenizer, questions, batch_size)]
        flat = [option for each in scores for option in each.options]
        return {
            "log_likelihoods": np.array([each.log_likelihood for each in flat], dtype=np.float64),
            "num_tokens": np.array([each.num_tokens for each in flat], dtype=np.int32),
            "num_stem_tokens_cut": np.array(
                [each.num_stem_tokens_cut for each in scores], dtype=np.int32
            ),
        }


def _prepare(num_threads: int) -> None:
    """Fix what the bits of an answer depend on, as the lm host does."""
    import torch
    from transformers.utils import logging

    logging.disable_progress_bar()
    torch.set_num_threads(num_threads)
    torch.use_deterministic_algorithms(True)


def _load(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    try:
        return AutoModelForCausalLM.from_pretrained(
            str(folder),
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            dtype="auto",
        ).eval()
    except Exception as error:
        raise ValueError(f"Corrupt: the checkpoint cannot be read: {error}") from error


def _texts(request: Any, name: str) -> list[str]:
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    return [] if tensor is None else [text.decode() for text in tensor.as_numpy().reshape(-1)]


def _numbers(request: Any, name: str) -> list[int]:
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    return [] if tensor is None else [int(value) for value in tensor.as_numpy().reshape(-1)]


def _bytes(texts: Sequence[str]) -> Any:
    return np.array([text.encode() for text in texts], dtype=np.object_)


def _failed(message: str, code: int) -> Any:
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, code))
