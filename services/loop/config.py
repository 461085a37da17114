"""Every setting of the loop, from `LOOP_*`."""

from dataclasses import dataclass
from pathlib import Path

from libs.config import ServiceConfig
from libs.errors import InvalidInput


@dataclass(frozen=True, kw_only=True)
class Config(ServiceConfig):
    """Settings of every service, and where the others answer, `host:port` each."""

    corpus_address: str
    sampler_address: str
    trainer_address: str
    evaluator_address: str
    lm_address: str = ""
    """On the cluster profile Triton stands in its place."""
    recipes: Path = Path(__file__).parents[2] / "deploy" / "recipes"
    """Folder of the recipes that a round file may name."""
    garbage_grace_h: float = 24.0
    """Garbage is kept for so many hours after it was found, at least 0."""
    patience_s: float = 300.0
    """How long a service may stay unreachable before a round fails, seconds, above 0."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.patience_s > 0:
            raise InvalidInput(f"patience_s must be above 0, got {self.patience_s}")
        if not self.garbage_grace_h >= 0:
            raise InvalidInput(f"garbage_grace_h must be at least 0, got {self.garbage_grace_h}")

    def addresses(self) -> dict[str, str]:
        """Return where the services answer that a round calls, by their noun; not the loop."""
        return {
            "corpus": self.corpus_address,
            "sampler": self.sampler_address,
            "trainer": self.trainer_address,
            "evaluator": self.evaluator_address,
        }
