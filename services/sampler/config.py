"""Every setting of the sampler, from `SAMPLER_*`."""

from dataclasses import dataclass

from libs.config import ServiceConfig
from libs.errors import InvalidInput


@dataclass(frozen=True, kw_only=True)
class Config(ServiceConfig):
    """Settings of every service, and the stream's own."""

    max_streams: int = 8
    """Streams read at once; each holds a server thread, so some must be left for other calls."""
    stall_s: float = 300.0
    """Seconds that a reader may take nothing before its stream is cancelled."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.max_streams <= 12:
            raise InvalidInput(f"max_streams must lie in [1, 12], got {self.max_streams}")
        if not self.stall_s > 0:
            raise InvalidInput(f"stall_s must be above 0, got {self.stall_s}")
