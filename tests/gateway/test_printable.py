"""Nothing that a terminal obeys is left in a text, and all else is."""

from __future__ import annotations

import pytest

from gateway.printable import printable


@pytest.mark.parametrize("text", ["", "a b", "模型 é ﷽", "?", "[red]"])
def test_what_is_harmless_stays(text: str) -> None:
    assert printable(text) == text


@pytest.mark.parametrize(
    "char", ["\x1b", "\x07", "\x9b", "\n", "\r", "\u202e", "\u2028", "\u200b", "\ud800", "\U000e0041"]
)
def test_what_a_terminal_obeys_or_nobody_sees_is_taken_out(char: str) -> None:
    assert printable(f"a{char}b") == "a?b"


def test_what_is_named_is_kept() -> None:
    assert printable("a\nb\tc\x1b", keep="\n\t") == "a\nb\tc?"
