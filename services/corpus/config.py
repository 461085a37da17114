"""Every setting of the corpus, from `CORPUS_*`."""

from dataclasses import dataclass

from libs.config import ServiceConfig
from libs.errors import InvalidInput


@dataclass(frozen=True, kw_only=True)
class Config(ServiceConfig):
    """Settings of every service, and the search indexes'."""

    max_indexes: int = 4
    """Search indexes kept; one that was not used for longest is removed, and built again when it
    is asked for."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_indexes < 1:
            raise InvalidInput(f"max_indexes must be at least 1, got {self.max_indexes}")
