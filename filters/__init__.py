"""Text in, findings out. No network, no Redis, no HTTP words, nothing of `gateway` or `policies`.

`Engine` is loaded once; it makes one `Sieve` for each channel. A text is folded to a view (view.py), scanners of the
detectors walk over it (detectors/), a resolver applies the policy's `Rules` (resolve.py), and the sieve releases what is
decided (sieve.py). What must wait, models in a pool, stands behind the async `Judge` (judge.py, segments.py).

Offsets are code points, end exclusive. Errors are `UndecidedError`: the caller refuses, it never passes the text on.
"""

from filters.engine import SLICE_CHARS, Direction, Engine, TextStream
from filters.finding import (
    NAME_ENTITIES,
    PSEUDONYM,
    Action,
    Detector,
    Edit,
    Finding,
    Mask,
    Namer,
    NameRules,
    Release,
    Restoring,
    Rules,
    Scanner,
    UndecidedError,
)
from filters.judge import JUDGE_DEADLINE_S, Judge, judge_texts, settle
from filters.resolve import merge
from filters.sieve import HELD_CHARS_MAX, Sieve

__all__ = [
    "HELD_CHARS_MAX",
    "JUDGE_DEADLINE_S",
    "NAME_ENTITIES",
    "PSEUDONYM",
    "SLICE_CHARS",
    "Action",
    "Detector",
    "Direction",
    "Edit",
    "Engine",
    "Finding",
    "Judge",
    "Mask",
    "NameRules",
    "Namer",
    "Release",
    "Restoring",
    "Rules",
    "Scanner",
    "Sieve",
    "TextStream",
    "UndecidedError",
    "judge_texts",
    "merge",
    "settle",
]
