"""Characters and words that stand for digits."""

from __future__ import annotations

from typing import Final

# Everyday and banker's numerals, simplified and traditional, and those of traders (Suzhou). 幺 is one on the telephone.
HAN: Final = {
    char: str(digit)
    for digit, chars in enumerate(("零〇", "一壹弌幺〡", "二贰貳弍〢", "三叁參叄参弎〣", "四肆〤", "五伍〥", "六陆陸〦", "七柒〧", "八捌〨", "九玖〩"))
    for char in chars
}  # fmt: skip
# Spoken for digits too, but words or parts of words on their own: they count only behind another numeral.
HAN_BEHIND: Final = {"两": "2", "兩": "2", "洞": "0", "拐": "7", "勾": "9"}
NUMERALS: Final = "".join(HAN)

WORDS: Final = {
    "zero": "0", "oh": "0", "nought": "0", "naught": "0", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6",
    "seven": "7", "eight": "8", "nine": "9",
}  # fmt: skip
TIMES: Final = {"double": 2, "triple": 3}  # how often the next digit is said
# Letters that are written for digits in a number.
LETTERS: Final = {"O": "0", "o": "0", "l": "1", "I": "1"}
