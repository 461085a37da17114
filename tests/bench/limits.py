"""What the processor can multiply: the bound of everything that is matrix products."""

from collections.abc import Callable

import numpy as np

from tests.bench.measure import seconds
from tests.bench.table import Spread

_SIZE = 1024


def numpy_flops() -> float:
    """Return float32 operations a second of numpy's matrix product, best of several."""
    a = np.random.default_rng(0).standard_normal((_SIZE, _SIZE), dtype=np.float32)
    return _best(lambda: a @ a)


def torch_flops() -> float:
    """Return float32 operations a second of torch's matrix product, best of several."""
    import torch

    a = torch.randn(_SIZE, _SIZE, generator=torch.Generator().manual_seed(0))
    return _best(lambda: a @ a)


def exactly(figure: float) -> Spread:
    """A computed bound wavers not."""
    return Spread(figure, figure, figure)


def _best(product: Callable[[], object]) -> float:
    product()
    return 2 * _SIZE**3 / min(seconds(product) for _ in range(10))
