"""What in an output is made by chance, taken out: a test that looks for a few digits of a value must not find a digest's."""

from __future__ import annotations

import re

_CHANCE = re.compile(
    r"""
      ["'](?:call_id|record|request_id)["']:\s*["'][^"']*["']            # ids as a refusal names them
    | -w[0-9]+-[0-9]{8}T[0-9]{6}Z-[0-9a-f]{6}                            # a stream's name
    | \b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b   # a UUID
    | \b(?=[0-9]*[a-f])[0-9a-f]{12,}\b                                   # a digest, whole or begun
    | \b17[0-9]{11}\b | \b[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z?          # a time
    | \b[0-9]+\.[0-9]+\b                                                 # how long something took
    | \blocalhost:[0-9]+ | \b127\.0\.0\.1:[0-9]+                         # a port
    | \bpytest-[0-9]+ | \bpid\ [0-9]+                                    # the run's folder, a process
    """,
    re.VERBOSE,
)


def without_chance(text: bytes | str) -> str:
    """A body, a log, or records, without ids, digests, times, and ports. A number of its own stays."""
    return _CHANCE.sub("", text if isinstance(text, str) else text.decode("utf-8", "replace"))
