"""JSON that all readers read alike: UTF-8, no member twice, no NaN or Infinity.

Of two members of one name, people and programs read one or the other: what was looked at would not be what counts.
"""

from __future__ import annotations

import json
from typing import Any, NoReturn


def loads(data: bytes | str) -> Any:
    """The value of a JSON text. Raises ValueError, and RecursionError where it is nested too deep."""
    text = data.decode("utf-8") if isinstance(data, bytes) else data
    return json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a member is there twice")
    return made


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
