"""How data that is compiled from other projects is written: so that a new version can be read as a difference."""

from __future__ import annotations

import json
from typing import Any


def render(data: dict[str, Any]) -> str:
    """JSON with an entry of a mapping, or an object of a list, on each line."""
    lines = []
    for key, value in data.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            body = "[\n" + ",\n".join("    " + json.dumps(item) for item in value) + "\n  ]"
        elif isinstance(value, dict):
            body = "{\n" + ",\n".join(f"    {json.dumps(k)}: {json.dumps(v)}" for k, v in value.items()) + "\n  }"
        else:
            body = json.dumps(value)
        lines.append(f"  {json.dumps(key)}: {body}")
    return "{\n" + ",\n".join(lines) + "\n}\n"
