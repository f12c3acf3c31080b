"""Faults of ours, as operators are told of them."""

from __future__ import annotations

import errno
import logging
import traceback

log = logging.getLogger("licet.pipeline")


def log_fault(call_id: str, error: BaseException) -> None:
    """Log where and what kind, never the message: an exception's text may hold text of the call (L7)."""
    frames = traceback.extract_tb(error.__traceback__)
    places = " <- ".join(f"{frame.filename}:{frame.lineno} {frame.name}" for frame in reversed(frames))
    log.error("call %s failed: %s at %s", call_id, fault_kind(error), places)


def fault_kind(error: BaseException) -> str:
    """The class of an error, and of the system's errors which one: `OSError ENOSPC`."""
    code = errno.errorcode.get(error.errno or 0) if isinstance(error, OSError) else None
    return type(error).__name__ if code is None else f"{type(error).__name__} {code}"
