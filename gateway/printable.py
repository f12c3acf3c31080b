"""Text in which somebody else had a say, as it may stand on a terminal or in a log."""

from __future__ import annotations


def printable(text: str, *, keep: str = "") -> str:
    """Without what a terminal would obey, or what turns text around; each such character but those of `keep` becomes a `?`."""
    return "".join(c if c.isprintable() or c in keep else "?" for c in text)
