"""A plan as a PyTorch dataset: `DataLoader(StreamDataset(...), batch_size=None)`.

The order is the plan's, whatever the number of workers: worker w of W reads the batches w, w + W,
w + 2 W and so on, and the loader takes from its workers in turn.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import IterableDataset, get_worker_info

from athanor.client.batches import Cut, read_batches
from athanor.client.tls import Tls


class StreamDataset(IterableDataset[dict[str, Any]]):
    """Yields `{"input_ids": int64 of shape (batch, length), "position": int}`, batch by batch.

    `position` is the global position of the batch's first sequence; to resume after a batch, pass
    its position plus its number of rows as `from_position`.

    With workers, start them by `multiprocessing_context="spawn"`: gRPC does not survive a fork.

    Raises, while iterating:
        StreamLostError: the sampler gave nothing for `deadline_s` seconds.
        AthanorError: it refuses: no such plan, impossible lengths.
    """

    def __init__(
        self,
        address: str,
        plan_id: str,
        sequence_length: int,
        batch_size: int,
        from_position: int = 0,
        *,
        deadline_s: float = 60.0,
        tls: Tls | None = None,
    ) -> None:
        """Describe the stream; nothing is connected before the first batch is asked for."""
        self._address, self._deadline_s, self._tls = address, deadline_s, tls
        self._plan_id, self._sequence_length = plan_id, sequence_length
        self._batch_size, self._from_position = batch_size, from_position

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Stream from the first position of this worker's share to the end."""
        worker = get_worker_info()
        number, num_workers = (worker.id, worker.num_workers) if worker else (0, 1)
        cut = Cut(
            plan_id=self._plan_id,
            sequence_length=self._sequence_length,
            batch_size=self._batch_size,
            from_position=self._from_position + number * self._batch_size,
            every=num_workers,
        )
        for batch in read_batches(self._address, cut, deadline_s=self._deadline_s, tls=self._tls):
            input_ids = torch.from_numpy(batch.tokens.astype("int64"))
            yield {"input_ids": input_ids, "position": batch.position}
