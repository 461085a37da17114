"""What Triton's python backend runs for one model: load, digest, answer.

Publishing copies this file into the model's version folder as `model.py`, beside the arithmetic
that the lm host runs, `calls`, and the checkpoint. The backend's process sees site-packages and
that folder, nothing of Athanor's tree. Every answer carries the digest that was computed from the
tensors in memory, so weights that are others than published never answer: `initialize` raises,
Triton does not take the version up, and an older one serves on.

All arithmetic runs on one thread in turns, as in the lm host: a long generation keeps nobody
waiting, and the batches are what the caller made them. Torch is imported while it initialises:
Triton also starts this program only to ask for its configuration, and would wait for torch twice.
A failure is told as `<Kind>: <message>`, the kinds being those of `libs.errors`.
"""

import json
import math
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

_TURN_S = 0.05
"""No new item begins after this: what a streamed token waits for its company at most."""
_INPUTS = ("call", "texts", "options", "num_options", "batch_size", "values", "shape", "has_values")
_INPUTS += ("token_ids", "num_token_ids", "seeds", "max_new_tokens", "temperature", "top_k")
_INPUTS += ("top_p", "stop", "normalize", "layers", "last_only", "ticket", "timeout_s")


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

        from libs.lm import digest, prompts
        from libs.lm.triton import calls

        manifest = json.loads((folder / "manifest.json").read_text())
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
        self._begin, self._unusable = calls.begin, prompts.UnusableError
        self._turns: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._jobs: dict[str, _Job] = {}
        self._thread = threading.Thread(target=self._compute, args=(manifest["num_threads"],))
        self._thread.start()

    def execute(self, requests: Sequence[Any]) -> None:
        """Put each request at the end of the queue; they are answered from the other thread."""
        for request in requests:
            asked = {
                name: value for name in _INPUTS if (value := _input(request, name)) is not None
            }
            job = _Job(self, request.get_response_sender(), asked)
            if asked["call"] == ["stop"]:
                self._stop(job, asked)
            else:
                self._jobs[job.ticket] = job
                self._turns.put(job)

    def finalize(self) -> None:
        """End the thread, when all has been answered."""
        self._turns.put(None)
        self._thread.join()

    def _compute(self, num_threads: int) -> None:
        _prepare(num_threads)
        while (job := self._turns.get()) is not None:
            if job.advance():
                self._turns.put(job)
            else:
                self._jobs.pop(job.ticket, None)

    def _stop(self, asking: "_Job", asked: dict[str, Any]) -> None:
        """End the call of a ticket; here and not in its turn, which may come late."""
        (ticket,) = asked["ticket"]
        if job := self._jobs.get(ticket):
            job.is_wanted = False
        asking.end(self.response({}))

    def begin(self, asked: dict[str, Any], is_wanted: Callable[[], bool]) -> Any:
        """Begin a call; see `calls.begin`."""
        return self._begin(self._model, self._tokenizer, asked, is_wanted)

    def response(self, tensors: dict[str, Any]) -> Any:
        """Return an answer with the digest of the weights that made it."""
        named = {"weights_digest": [self._digest], **tensors}
        # Triton takes no tensor of no elements.
        outputs = [
            pb_utils.Tensor(name, _array(value)) for name, value in named.items() if len(value)
        ]
        return pb_utils.InferenceResponse(output_tensors=outputs)

    def failure(self, error: Exception) -> Any:
        """Return how a call failed, so that the caller finds the kind."""
        if isinstance(error, self._unusable):
            message, code = f"InvalidInput: {error}", pb_utils.TritonError.INVALID_ARG
        elif isinstance(error, _LateError):
            message, code = f"DeadlineExceeded: {error}", pb_utils.TritonError.CANCELLED
        else:
            message, code = f"Internal: {error!r}", pb_utils.TritonError.INTERNAL
        return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, code))


class _Job:
    """One request that is being answered."""

    def __init__(self, model: TritonPythonModel, sender: Any, asked: dict[str, Any]) -> None:
        self.is_wanted = True
        """False once the caller has said that it left: it does not cancel, see `stream`."""
        (self.ticket,) = asked.get("ticket", [""])
        (self._timeout_s,) = asked.get("timeout_s", [math.inf])
        self._ends = time.monotonic() + self._timeout_s
        self._model, self._sender = model, sender
        self._answers = self._answered(asked)
        self._last: Any = None
        """An answer that waits to be sent with the word that it is the last."""

    def advance(self) -> bool:
        """Compute for a turn and send what is to be sent; tell whether more is to come."""
        try:
            self._check_deadline()
            for response in next(self._answers):
                self._sender.send(response)
        except StopIteration:
            self.end(self._last)
            return False
        except Exception as error:  # noqa: BLE001 - the process edge: the caller is told
            self.end(self._model.failure(error))
            return False
        return True

    def end(self, response: Any) -> None:
        """Send a last answer, if there is one."""
        final = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL
        self._sender.send(*([] if response is None else [response]), flags=final)

    def _answered(self, asked: dict[str, Any]) -> Iterator[list[Any]]:
        """Yield the answers of each turn, few or none."""
        call = self._model.begin(asked, self._is_awaited)
        found: list[Any] = []
        for items in _turns(call.items):
            found += items
            if call.is_streamed:
                yield [self._model.response(each) for each in call.answers(found)]
                found = []
            else:
                yield []
        if not call.is_streamed:
            self._last = next(map(self._model.response, call.answers(found)), None)

    def _is_awaited(self) -> bool:
        return self.is_wanted and not self._sender.is_cancelled()

    def _check_deadline(self) -> None:
        if time.monotonic() > self._ends:
            raise _LateError(f"did not end within {self._timeout_s:g} s")


class _LateError(Exception):
    """The caller's time is up."""


def _turns(items: Iterator[Any]) -> Iterator[list[Any]]:
    """Yield the items, those of a turn together, one at least."""
    found, ends = [], time.monotonic() + _TURN_S
    for item in items:
        found.append(item)
        if time.monotonic() >= ends:
            yield found
            found, ends = [], time.monotonic() + _TURN_S
    if found:
        yield found


def _prepare(num_threads: int) -> None:
    """Fix what the bits of an answer depend on, as the lm host does."""
    import torch

    torch.set_num_threads(num_threads)
    torch.use_deterministic_algorithms(True)


def _load(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
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


def _input(request: Any, name: str) -> Any:
    """Return the values of an input, None if the caller left it out."""
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    if tensor is None:
        return None
    array = tensor.as_numpy().reshape(-1)
    return [text.decode() for text in array] if array.dtype.kind == "O" else array


def _array(value: Any) -> Any:
    if isinstance(value, list):
        return np.array([text.encode() for text in value], dtype=np.object_)
    return value
