"""The one YAML file, frozen at start: where to listen, who may call, which models are served and under which rules.

`${NAME}` and `${NAME:-default}` are filled in from the environment once, while reading (`$${` is a plain `${`). Relative
paths are relative to the file. Nothing here opens the files that it names; `licet check` does, to report everything at
once.
"""

from __future__ import annotations

from gateway.settings.load import load_settings, parse_settings, read_file
from gateway.settings.model import (
    Auditor,
    Caller,
    Listen,
    Model,
    Names,
    Recognizers,
    Settings,
    Target,
    Trust,
)
from gateway.settings.schema import SETTINGS, json_schema

__all__ = [
    "SETTINGS",
    "Auditor",
    "Caller",
    "Listen",
    "Model",
    "Names",
    "Recognizers",
    "Settings",
    "Target",
    "Trust",
    "json_schema",
    "load_settings",
    "parse_settings",
    "read_file",
]
