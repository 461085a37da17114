"""How indexes are called there, where names have lower case only.

    alias of a name    <namespace><name>              what readers and writers ask for
    version            <alias>@v<six digits>          the index that the alias points to
    being filled       <version>+                     its alias until the real one is moved to it

A character that Elasticsearch refuses at its place is written `=` and two hexadecimal digits, `=`
itself too, so different names stay different; `@` and `+` are in no alias.
"""

import re

from libs.errors import InvalidInput
from libs.search import names

_NAMESPACE = re.compile(r"([a-z0-9][a-z0-9._-]*)?")
_PLAIN = re.compile(r"[a-z0-9._-]")
_VERSION = re.compile(r"@v([0-9]+)$")
_MAX_BYTES = 255
_SUFFIX_BYTES = len("@v000001+")


def alias(namespace: str, name: str) -> str:
    """Return the alias of an index. Raises `InvalidInput` when nothing can be called so."""
    if not _NAMESPACE.fullmatch(namespace):
        raise InvalidInput(f"a namespace must match {_NAMESPACE.pattern}, got {namespace!r}")
    quoted = "".join(c if _PLAIN.fullmatch(c) else _quoted(c) for c in names.check(name))
    if quoted[0] in "_-" and not namespace:
        quoted = _quoted(quoted[0]) + quoted[1:]
    found = namespace + quoted
    if len(found) + _SUFFIX_BYTES > _MAX_BYTES:
        raise InvalidInput(
            f"an index name must have at most {_MAX_BYTES} letters there, got {found}"
        )
    return found


def version(alias: str, number: int) -> str:
    """Return the name of a version, which count from 1."""
    return f"{alias}@v{number:06}"


def number(version: str) -> int:
    """Return the number of a version; 0 when it is none."""
    match = _VERSION.search(version)
    return int(match[1]) if match else 0


def versions(alias: str) -> str:
    """Return the pattern of all versions."""
    return f"{alias}@v*"


def filling(version: str) -> str:
    """Return the alias under which a version is filled."""
    return f"{version}+"


def _quoted(character: str) -> str:
    return f"={ord(character):02x}"
