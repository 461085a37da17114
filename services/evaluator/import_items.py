"""Reads an exam from JSON lines, and refuses what has not exactly one key.

A wrong key or an empty option is a wrong measurement that nobody sees later, so every fault is
an error with its line.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from libs.errors import InvalidInput, NotFound
from services.evaluator.items import LETTERS, Item, content_id

MAX_LINE_BYTES = 1_000_000
"""Longest line that is read; no question is longer."""
_NAMES = {"id", "topic", "document", "stem", "options", "key"}
_Value = TypeVar("_Value")


class BadItem(InvalidInput):
    """One line is no item; the message begins with the file's name and the line's number."""


def import_items(path: Path) -> list[Item]:
    """Read every item of a file, by item id.

    Fields: `stem`, `options` (two to ten texts), `key` (an index from 0, a letter from "A", or a
    list that holds exactly one of those), and optionally `id`, `topic`, `document`. Blank lines
    are skipped. Option order stays as it is.

    Raises:
        NotFound: there is no such file.
        BadItem: a line is not UTF-8, not JSON, or no item with exactly one key; an id or a
            content comes twice.
        InvalidInput: fewer than two items: each half needs one.
    """
    by_id: dict[str, int] = {}
    by_content: dict[str, int] = {}
    items = []
    for number, line in _lines(path):
        where = f"{path.name}, line {number}"
        item = _item(_object(line, where), where)
        content = content_id(item.stem, "", item.options)
        for kind, seen, name in (("id", by_id, item.item_id), ("content", by_content, content)):
            if name in seen:
                raise BadItem(f"{where}: {kind} must be new, got that of line {seen[name]}")
            seen[name] = number
        items.append(item)
    if len(items) < 2:
        raise InvalidInput(f"{path.name}: expected an item for each half, got {len(items)} in all")
    return sorted(items, key=lambda item: item.item_id)


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield the lines that are not blank, numbered from 1."""
    try:
        with path.open("rb") as lines:
            number = 0
            while line := lines.readline(MAX_LINE_BYTES + 1):
                number += 1
                if len(line) > MAX_LINE_BYTES:
                    raise BadItem(
                        f"{path.name}, line {number}: a line has at most {MAX_LINE_BYTES} bytes, "
                        "got more"
                    )
                if line.strip():
                    yield number, line
    except FileNotFoundError as error:
        raise NotFound(f"expected an exam in JSON lines at {path}, got no file") from error
    except OSError as error:
        raise InvalidInput(f"expected an exam in JSON lines at {path}, got {error}") from error


def _object(line: bytes, where: str) -> dict[str, Any]:
    try:
        value = json.loads(line.decode("utf-8-sig"), object_pairs_hook=_without_repeats)
    except UnicodeDecodeError as error:
        raise BadItem(f"{where}: expected UTF-8, got byte {error.start} that is none") from error
    except (ValueError, RecursionError) as error:
        raise BadItem(f"{where}: expected JSON, got {error}") from error
    if not isinstance(value, dict):
        raise BadItem(f"{where}: expected a JSON object, got {type(value).__name__}")
    if unknown := set(value) - _NAMES:
        raise BadItem(f"{where}: fields are {sorted(_NAMES)}, got {sorted(unknown)}")
    return value


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse a field given twice, which JSON readers otherwise resolve in silence."""
    if len(dict(pairs)) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the field {max(names, key=names.count)!r} twice")
    return dict(pairs)


def _item(value: dict[str, Any], where: str) -> Item:
    stem = _text(value, "stem", where)
    options = _options(value, where)
    key = _key(value, len(options), where)
    wrong = [option for place, option in enumerate(options) if place != key]
    item_id = _text(value, "id", where, content_id(stem, options[key], wrong))
    return Item(
        item_id=item_id,
        topic=_text(value, "topic", where, ""),
        document_id=_text(value, "document", where, item_id),
        stem=stem,
        options=options,
        key=key,
    )


def _text(value: dict[str, Any], name: str, where: str, default: str | None = None) -> str:
    text = value.get(name)
    if default is not None and text in (None, ""):
        return default
    text = _typed(text, str, f"{where}: {name} must be a text")
    if not text.strip():
        raise BadItem(f"{where}: {name} must not be empty")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise BadItem(f"{where}: {name} must be Unicode text, got half of a pair") from error
    return text


def _options(value: dict[str, Any], where: str) -> tuple[str, ...]:
    options = _typed(value.get("options"), list, f"{where}: options must be a list of texts")
    if not 2 <= len(options) <= len(LETTERS):
        raise BadItem(f"{where}: options must be 2 to {len(LETTERS)}, got {len(options)}")
    texts = tuple(
        _text({f"option {place}": option}, f"option {place}", where)
        for place, option in enumerate(options)
    )
    bare = [text.strip() for text in texts]
    if len(set(bare)) < len(bare):
        raise BadItem(f"{where}: options must differ, got {max(bare, key=bare.count)!r} twice")
    return texts


def _key(value: dict[str, Any], num_options: int, where: str) -> int:
    if value.get("key") is None:
        raise BadItem(f"{where}: expected exactly one key, got none")
    given = value["key"]
    keys = given if isinstance(given, list) else [given]
    if len(keys) != 1:
        raise BadItem(f"{where}: expected exactly one key, got {len(keys)}")
    key = LETTERS.find(keys[0].upper()) if _is_letter(keys[0]) else keys[0]
    if isinstance(key, bool) or not isinstance(key, int):
        raise BadItem(f"{where}: key must be an index or a letter, got {keys[0]!r}")
    if not 0 <= key < num_options:
        raise BadItem(f"{where}: key must name one of {num_options} options, got {keys[0]!r}")
    return key


def _is_letter(key: object) -> bool:
    return isinstance(key, str) and len(key) == 1 and key.isascii() and key.isalpha()


def _typed(value: object, kind: type[_Value], expected: str) -> _Value:
    if not isinstance(value, kind):
        raise BadItem(f"{expected}, got {type(value).__name__}")
    return value
