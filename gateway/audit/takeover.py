"""The mark on a data directory that another gateway took over: whoever finds it writes there no more.

Two gateways that go on from one journal would make two histories of the same streams, and nobody could say which is the true one.
"""

from __future__ import annotations

from pathlib import Path

from gateway.errors import ConfigError

MARK_NAME = "adopted-by"  # in the data directory; written by `licet audit adopt`, before anything is taken


def demand_own(data_dir: Path) -> None:
    """Raises ConfigError where the directory is, or is being, taken over. What the mark says does not matter: doubt refuses."""
    mark = data_dir / MARK_NAME
    if mark.exists():
        raise ConfigError(
            f"data: {data_dir} was adopted by another gateway, which goes on with its records ({mark} says which one and when); "
            "start this gateway with a new, empty data directory"
        )
