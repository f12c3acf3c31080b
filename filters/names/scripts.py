"""Which part of a segment is written in which script, and so which model reads it."""

from __future__ import annotations

import re
from typing import Final

HAN: Final = r"\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"
_HAN: Final = re.compile(f"[{HAN}]+")
_KANA: Final = re.compile(r"[\u3041-\u30ff]")
_LATIN: Final = re.compile(r"[A-Za-z\u00c0-\u024f\u1e00-\u1eff]{2}")
# A gap this long in Chinese text (an address of the web, an English sentence) is not read by the Chinese model: its
# cost would be that of so many characters, and it knows nothing of them.
_GAP_CHARS_MAX: Final = 16


def han_stretches(text: str) -> list[tuple[int, int]]:
    """The stretches for the Chinese model: runs of Han with short gaps between them. None in Japanese text."""
    stretches: list[tuple[int, int]] = []
    for match in _HAN.finditer(text):
        start, end = match.span()
        if stretches and start - stretches[-1][1] <= _GAP_CHARS_MAX:
            stretches[-1] = (stretches[-1][0], end)
        else:
            stretches.append((start, end))
    if stretches and _KANA.search(text):
        return []
    return stretches


def latin_stretches(text: str) -> list[tuple[int, int]]:
    """The stretches between runs of Han that have a Latin word in them."""
    stretches: list[tuple[int, int]] = []
    at = 0
    for match in _HAN.finditer(text):
        stretches.append((at, match.start()))
        at = match.end()
    stretches.append((at, len(text)))
    return [(start, end) for start, end in stretches if end - start > 1 and _LATIN.search(text, start, end)]
