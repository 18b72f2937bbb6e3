"""Read a JSON Schema: the kind, bounds and default of a field in words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

_BOUNDS = {"minimum": "from {}", "exclusiveMinimum": "above {}", "maximum": "to {}", "exclusiveMaximum": "below {}"}


def kind_of(field: Mapping[str, Any], links: Mapping[str, str]) -> str:
    """The kind of a field; `links` are the Markdown links of models that it may name."""
    if "$ref" in field:
        name = field["$ref"].rpartition("/")[2]
        return links.get(name, name)
    for several in ("anyOf", "oneOf", "allOf"):
        if several in field:
            kinds = [kind_of(choice, links) for choice in field[several] if choice.get("type") != "null"]
            return " or ".join(dict.fromkeys(kinds))
    if "const" in field:
        return f"`{field['const']}`"
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if field.get("type") == "array":
        return f"list of: {kind_of(field.get('items') or {}, links)}"
    if field.get("type") == "object":
        values = [*field.get("patternProperties", {}).values(), field.get("additionalProperties")]
        return f"mapping of names to: {kind_of(next(value for value in values if isinstance(value, dict)), links)}"
    named = {"path": "path", "time": "time of day"}.get(str(field.get("format")))
    kind = named or {"string": "text", "integer": "whole number", "boolean": "true or false"}.get(
        str(field.get("type")), str(field.get("type", "text"))
    )
    bounds = " ".join(words.format(field[name]) for name, words in _BOUNDS.items() if name in field)
    return f"{kind} {bounds}".strip()


def default_of(field: Mapping[str, Any]) -> str:
    """The default as code; empty where there is none or where it is the default of another model."""
    value = field.get("default")
    if value is None or isinstance(value, dict) or value == []:
        return ""
    return f"`{json.dumps(value) if not isinstance(value, str) else value}`"
