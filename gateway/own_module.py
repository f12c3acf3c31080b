"""How a module of ours is run in a process of its own."""

from __future__ import annotations

import sys
from pathlib import Path

_OURS = Path(__file__).parents[1]


def command_of(module: str, *options: str) -> list[str]:
    """Our own interpreter and the module, which imports nothing from the folder that it runs in (`python -P`): an operator's
    `policies/` would stand in for ours, and whoever may write there could have code run beside the log's key. A checkout that we
    run from is left as it is."""
    return [sys.executable, *(() if _in_checkout() else ("-P",)), "-m", module, *options]


def _in_checkout() -> bool:
    try:
        return Path.cwd() == _OURS
    except FileNotFoundError:  # the folder was removed
        return False
