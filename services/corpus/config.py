"""Every setting of the corpus, from `CORPUS_*`."""

import re
from dataclasses import dataclass

from libs.config import ServiceConfig
from libs.errors import InvalidInput

_HOST = re.compile(r"(?P<name>[^=]+)=(?P<address>[^:]+):(?P<port>[0-9]{1,5})")


@dataclass(frozen=True, kw_only=True)
class Config(ServiceConfig):
    """Settings of every service, and the search indexes'."""

    max_indexes: int = 4
    """Search indexes kept; one that was not used for longest is removed, and built again when it
    is asked for."""

    hosts: str = ""
    """Names that stand for another address here, as in a hosts file but with a port:
    `docs.example=127.0.0.1:8080`, split at commas. Documents carry the name, so that no digest
    depends on where a site of one's own happens to listen."""

    @property
    def addresses_by_host(self) -> dict[str, tuple[str, int]]:
        """`hosts`, read. Raises `InvalidInput` when it is malformed."""
        found = {}
        for entry in filter(None, self.hosts.split(",")):
            match = _HOST.fullmatch(entry.strip())
            if match is None:
                raise InvalidInput(f"CORPUS_HOSTS must be name=address:port, got {entry!r}")
            found[match["name"].lower()] = (match["address"], int(match["port"]))
        return found

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_indexes < 1:
            raise InvalidInput(f"max_indexes must be at least 1, got {self.max_indexes}")
        _ = self.addresses_by_host  # raises when it is malformed
