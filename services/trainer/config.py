"""Settings of the trainer, read from `TRAINER_*`."""

from dataclasses import dataclass

from libs.config import ServiceConfig
from libs.errors import InvalidInput


@dataclass(frozen=True, kw_only=True)
class Config(ServiceConfig):
    """What the trainer needs beyond what every service needs."""

    sampler_address: str
    """Where plans are streamed from, `host:port`."""
    snapshot_s: float = 10.0
    """Seconds between snapshots of a training, at least: what a kill may cost."""
    stall_s: float = 60.0
    """Seconds without a batch after which the stream counts as broken."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.snapshot_s < 0 or not self.stall_s > 0:
            raise InvalidInput(
                "TRAINER_SNAPSHOT_S must not be negative and TRAINER_STALL_S must be positive, got "
                f"{self.snapshot_s} and {self.stall_s}"
            )
