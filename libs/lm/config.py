"""Settings of the lm host, read from `LM_*`."""

from dataclasses import dataclass

from libs.config import ServiceConfig
from libs.errors import InvalidInput


@dataclass(frozen=True, kw_only=True)
class Config(ServiceConfig):
    """What the lm host needs beyond what every service needs."""

    num_threads: int = 2
    """Threads of the arithmetic; other numbers give other last bits."""
    max_models: int = 4
    """Models held at once; the one used longest ago leaves first."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_threads < 1 or self.max_models < 1:
            raise InvalidInput(
                "LM_NUM_THREADS and LM_MAX_MODELS must be positive, got "
                f"{self.num_threads} and {self.max_models}"
            )
