"""Reads a model's configuration as it comes in a request, before anything heavy is loaded."""

import json
from typing import Any

from libs.errors import InvalidInput


def parse(config_json: str) -> dict[str, Any]:
    """Parse a configuration. Raises `InvalidInput` when it is no JSON object with `model_type`."""
    try:
        fields: dict[str, Any] = json.loads(config_json)
    except ValueError as error:
        raise InvalidInput(f"config_json must be JSON, got: {error}") from error
    if not isinstance(fields, dict) or not isinstance(fields.get("model_type"), str):
        raise InvalidInput("config_json must be an object with `model_type`, a string")
    return fields
