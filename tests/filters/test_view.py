"""The view: one byte for each code point, the same however the text is cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filters.view import FOREIGN, FOREIGN_LETTER, fold


@given(st.text(), st.integers(0, 50))
def test_one_byte_for_each_code_point_and_any_cut(text: str, place: int) -> None:
    view = fold(text)
    assert len(view) == len(text)
    assert fold(text[:place]) + fold(text[place:]) == view
    assert view.isascii()


@given(st.text(st.characters(max_codepoint=127)))
def test_ascii_stays(text: str) -> None:
    assert fold(text) == text.encode()


@pytest.mark.parametrize(
    ("text", "view"),
    [
        ("４１１１", "4111"),
        ("٤١१२", "4112"),
        ("ＡｂＣ＠ｘ．ｃｏｍ", "AbC@x.com"),
        ("café Straße Łódź", "cafe Strase Lodz"),
        ("a\u00a0b\u3000c\u2028d", "a b c\nd"),
        ("1–2—3‐4−5", "1-2-3-4-5"),
        ("4\u200b1\u00ad1", "4-1-1"),
        ("K ſ İ ı", "K s I i"),
        ("почта", FOREIGN_LETTER * 5),
        ("中文。，：", FOREIGN * 5),
        ("😀\ud800", FOREIGN * 2),
        ("’“”", '\'""'),
    ],
)
def test_folds(text: str, view: str) -> None:
    assert fold(text) == view.encode()
