"""Versions of stored formats: an older one is brought up to date when read, a newer one refused.

Here so that every format does it in one way and says it in the same words. Version 0 is what was
written before a format carried a version; a format that always did has no version 0.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from libs.errors import Corrupt, InvalidInput

Fields = dict[str, Any]
KEY = "schema_version"


@dataclass(frozen=True, kw_only=True)
class Schema:
    """One stored format."""

    name: str
    """What an error calls it: `an operation's record`."""
    version: int
    """The version that is written; from 1."""
    migrations: Mapping[int, Callable[[Fields], Fields]] = field(default_factory=dict)
    """From each older version to the one after it, without a gap."""

    @property
    def oldest(self) -> int:
        """The oldest version that is read."""
        return min([*self.migrations, self.version])

    def check(self, version: object) -> int:
        """Return the version if it can be read.

        Raises:
            InvalidInput: a newer version of Athanor wrote it.
            Corrupt: no version ever was this one.
        """
        if not isinstance(version, int) or version < self.oldest:
            raise Corrupt(f"expected {self.name} of schema {self._range}, got schema {version!r}")
        if version > self.version:
            raise InvalidInput(
                f"{self.name} has schema {version}, newer than {self._range}, which this version "
                "of Athanor reads: a newer one wrote it"
            )
        return version

    def migrated(self, fields: Mapping[str, Any]) -> Fields:
        """Return the fields as the present version has them, without `schema_version`.

        Raises as `check`.
        """
        kept = {name: value for name, value in fields.items() if name != KEY}
        for version in range(self.check(fields.get(KEY, 0)), self.version):
            kept = self.migrations[version](kept)
        return kept

    def read(self, data: bytes) -> Fields:
        """Return the fields of a JSON document. Raises as `check`; `Corrupt` too if it is none."""
        try:
            fields = json.loads(data)
        except ValueError as error:
            raise Corrupt(f"expected {self.name}, got {error!r}") from error
        if not isinstance(fields, dict):
            raise Corrupt(f"expected {self.name}, got a {type(fields).__name__}")
        return self.migrated(fields)

    def stamped(self, fields: Mapping[str, Any]) -> Fields:
        """Return the fields with the version that is written."""
        return {**fields, KEY: self.version}

    @property
    def _range(self) -> str:
        return f"{self.version}" if self.oldest == self.version else f"{self.oldest}-{self.version}"


def unchanged(fields: Fields) -> Fields:
    """Migrate by doing nothing: whatever is new has a default."""
    return fields
