"""Names and places from lists and a few rules: microseconds, and as good a finder of people as a small model.

The lists (data/, see NOTICE) say of a word whether it is a given name, a surname, a place, an ordinary word, or
several of these. The rules look at runs of capitalised words: `Maria Novak` begins with a given name, `Zeynep Novak`
ends with a surname, `Dr. Zeynep` follows a title, `Novak Industries Ltd` is none of them. Nothing is found in words
that are all ordinary. Every rule looks at a bounded number of words, so the time is linear in the text.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from typing import Final, NamedTuple

from filters.finding import Finding
from filters.names.models import HERE
from filters.names.wordlists import (
    CORPORATE,
    LOCAL,
    LOCATIVE,
    PARTICLES,
    PLACE_HEADS,
    SPEECH,
    SUFFIXES,
    TITLES,
)  # fmt: skip

GIVEN: Final = 1
SURNAME: Final = 2
ORDINARY: Final = 4
PLACE: Final = 8
FREQUENT: Final = 16  # a given name that many people bear

_WORD: Final = re.compile(r"[^\W\d_]+(?:['’\-][^\W\d_]+)*")
# A word behind or before one of these is a part of an identifier, a path or an address, not prose.
_CODE_BEFORE: Final = frozenset("_/\\@#$`")
_CODE_BEHIND: Final = frozenset("_/\\@(`[{=")
_SHORT_PLACES: Final = re.compile(r"(?<![\w.])(?:U\.S\.(?:A\.)?|U\.K\.|U\.A\.E\.|US|UK|USA|UAE|NYC)(?!\w)")
_UNIT: Final = re.compile(r"(?<!\w)(?:[Aa]pt|[Ss]uite|[Ss]te|[Aa]partment)\b\.? {0,2}#?\d{1,5}[A-Za-z]?(?!\w)")
_RUN_MAX: Final = 5  # words of one name: `Maria del Carmen García López`
_FOLDS: Final = str.maketrans({"’": "'", "ß": "ss", "ł": "l", "Ł": "L", "ø": "o", "Ø": "O", "đ": "d", "Đ": "D",
                               "ı": "i", "æ": "ae", "Æ": "AE"})  # fmt: skip


class Word(NamedTuple):
    """One word of a text."""

    start: int
    end: int  # without a possessive 's
    low: str
    flags: int
    shape: str  # T Title, U UPPER, I single capital, l lower
    glued: bool  # only blanks (and the dot of an initial or a title) stand between it and the word before
    code: bool  # touches a character that prose does not put there


def fold(word: str) -> str:
    """The form of a word in the lists: small letters without marks."""
    if word.isascii():
        return word.lower()
    plain = unicodedata.normalize("NFKD", word.translate(_FOLDS))
    return "".join(c for c in plain if not unicodedata.combining(c)).lower()


def _shape(word: str) -> str:
    if not word[0].isupper():
        return "l"
    if len(word) == 1:
        return "I"
    return "U" if word.isupper() else "T"


class Lexicon:
    """The loaded lists. One for each process."""

    def __init__(self) -> None:
        self._flags: dict[str, int] = {}
        words, places = (HERE / "data" / "words.txt").read_bytes(), (HERE / "data" / "places.txt").read_bytes()
        self.digest = hashlib.sha256(words + places).hexdigest()
        for line in words.decode("utf-8").splitlines():
            word, tab, flags = line.partition("\t")
            if tab:
                self._flags[word] = int(flags)
        self.places = frozenset(line for line in places.decode("utf-8").splitlines() if not line.startswith("#"))
        # The words that a place of several words starts with: most words start none.
        self.place_heads = frozenset(place.partition(" ")[0] for place in self.places)

    def flags(self, low: str) -> int:
        """What is known of a folded word; of `anne-marie`, what is known of its parts."""
        known = self._flags.get(low)
        if known is None and "-" in low:
            parts = [self._flags.get(part, 0) for part in low.split("-")]
            if all(part & GIVEN for part in parts):
                return GIVEN
            if all(part & (GIVEN | SURNAME) for part in parts):
                return SURNAME
            return ORDINARY if any(part & ORDINARY for part in parts) else 0
        if known is None and "'" in low:
            head, _, tail = low.partition("'")
            if head in {"o", "d"}:
                return SURNAME | (self._flags.get(head + tail, 0) & GIVEN)
            return ORDINARY if self._flags.get(head, ORDINARY) & ORDINARY else self._flags[head]
        return known or 0

    def words(self, text: str) -> list[Word]:
        """The words of a text."""
        found: list[Word] = []
        before = 0
        for match in _WORD.finditer(text):
            start, end = match.span()
            word = match.group()
            if len(word) > 2 and word[-2] in "'’" and word[-1] in "sS":
                end -= 2
                word = word[:-2]
            low = fold(word)
            between = text[before:start]
            initial = bool(found) and (found[-1].shape == "I" or found[-1].low in TITLES or found[-1].low == "st")
            glued = between == " " or (initial and between in {". ", "."})
            behind = match.end()
            code = (start > 0 and text[start - 1] in _CODE_BEFORE) or (
                behind < len(text) and text[behind] in _CODE_BEHIND
            )
            found.append(Word(start, end, low, self.flags(low), _shape(word), glued, code))
            before = match.end()
        return found

    def find(self, text: str, words: list[Word]) -> list[Finding]:
        """The names and places of a text, in code points. `words` are those of the same text."""
        found = _Walk(self, text, words).find()
        found += [Finding("LOCATION", *match.span(), 0.7) for match in _SHORT_PLACES.finditer(text)]
        found += [Finding("LOCATION", *match.span(), 0.7) for match in _UNIT.finditer(text)]
        return found


def _initial(words: list[Word], at: int) -> bool:
    """Whether an initial stands here; the letters of `U.S.` are none."""
    return words[at].shape == "I" and words[at].low != "u"


class _Walk:
    """One text's walk: finds the runs of capitalised words and says what each is."""

    def __init__(self, lexicon: Lexicon, text: str, words: list[Word]) -> None:
        self._text = text
        self._words = words
        self._places = lexicon.places
        self._place_heads = lexicon.place_heads
        upper = sum(word.shape == "U" for word in words)
        lower = sum(word.shape == "l" for word in words)
        # A headline or a form in capitals: there, capitals say nothing.
        self._shouted = upper >= 3 and upper > 2 * lower
        self.findings: list[Finding] = []

    def find(self) -> list[Finding]:
        words, at, size = self._words, 0, len(self._words)
        while at < size:
            word = words[at]
            if self._capital(word):
                at = self._run(at)
            elif word.shape == "l" and word.flags & FREQUENT:
                at = self._small(at)
            elif word.shape == "l" and word.flags == PLACE and len(word.low) > 4 and not word.code:
                if not self._dotted(word):
                    self._add("LOCATION", at, at, 0.6)
                at += 1
            else:
                at += 1
        return self.findings

    def _capital(self, word: Word) -> bool:
        return word.shape == "T" or word.shape == "I" or (word.shape == "U" and (self._shouted or len(word.low) > 3))

    def _end_of_run(self, at: int) -> int:
        """Where the run of capitalised words ends that starts here; particles inside it belong to it."""
        words, end = self._words, at + 1
        while end < len(words) and words[end].glued and end - at < 2 * _RUN_MAX:
            if self._capital(words[end]):
                end += 1
            elif (
                words[end].low in PARTICLES
                and end + 1 < len(words)
                and words[end + 1].glued
                and (self._capital(words[end + 1]) or words[end + 1].low in PARTICLES)
            ):
                end += 2 if self._capital(words[end + 1]) else 1
            else:
                break
        return end

    def _add(self, entity: str, first: int, last: int, score: float) -> None:
        self.findings.append(Finding(entity, self._words[first].start, self._words[last].end, score))

    def _run(self, at: int) -> int:
        """Judges the run that starts here; returns where to go on."""
        words = self._words
        end = self._end_of_run(at)
        place = self._place(at, end)
        if place:
            follows = words[place].low if place < len(words) and words[place].glued else ""
            if place < end and follows in CORPORATE:
                return self._organization(at, end)
            if not (place < end and self._name_after_place(at, place, end)):
                self._add("LOCATION", at, place - 1, 0.8)
                return place
        if words[at].low in TITLES and at + 1 < end:
            return self._titled(at + 1, end)
        for index in range(at + 1, end):
            if words[index].low in CORPORATE:
                return self._organization(at, index + 1)
            if words[index].low in LOCAL and index - at <= 3:
                self._add("LOCATION", at, index, 0.7)
                return index + 1
        person = self._person(at, end)
        if person:
            self._add("PERSON", at, person[0] - 1, person[1])
            return person[0]
        return at + 1

    def _organization(self, at: int, end: int) -> int:
        first = at
        while first < end - 1 and self._words[first].flags == ORDINARY and self._words[first].low in {"the", "a"}:
            first += 1
        if end - first < 2:
            return end
        self._add("ORGANIZATION", first, end - 1, 0.7)
        return end

    def _titled(self, at: int, end: int) -> int:
        """A name behind a title: what follows is a name unless it is an ordinary word."""
        words = self._words
        last = at
        while last < end and last - at < _RUN_MAX and (
            words[last].shape == "I" or words[last].low in PARTICLES or words[last].low in SUFFIXES
            or words[last].flags & (GIVEN | SURNAME) or not words[last].flags & (ORDINARY | PLACE)
        ):  # fmt: skip
            last += 1
        if last == at:
            return at
        self._add("PERSON", at, last - 1, 0.9)
        return last

    def _place(self, at: int, end: int) -> int:
        """Where the place ends that starts here, or 0."""
        words = self._words
        word = words[at]
        if word.low in self._place_heads or word.low in PLACE_HEADS:
            for last in range(min(end, at + 4), at + 1, -1):
                if " ".join(w.low for w in words[at:last]) in self._places:
                    return last
        if not word.flags & PLACE or word.shape == "I":
            return 0
        if word.shape == "U" and not self._shouted and len(word.low) > 3:
            return at + 1
        if word.flags & ORDINARY:  # `Reading`, `Nice`: only where a place is expected
            return at + 1 if at > 0 and word.glued and words[at - 1].low in LOCATIVE else 0
        if word.flags & GIVEN and at + 1 < end and not words[at + 1].flags & (ORDINARY | PLACE):
            return 0  # `Jordan Peterson`, `Vladimir Putin`
        return at + 1

    def _name_after_place(self, at: int, place: int, end: int) -> bool:
        """Whether a place begins a person's name: `Paris Hilton`, `Jackson Pollock`."""
        word, following = self._words[at], self._words[place]
        if place != at + 1 or not word.flags & GIVEN:
            return False
        return not following.flags & (ORDINARY | PLACE)

    def _person(self, at: int, end: int) -> tuple[int, float] | None:
        """Where the person's name ends that starts here, and how sure that is; None where none starts."""
        words = self._words
        word = words[at]
        if word.code:
            return None
        last = at + 1
        while last < end and last - at < _RUN_MAX and self._belongs(last):
            last += 1
        while last > at + 1 and words[last - 1].low in PARTICLES and words[last - 1].shape == "l":
            last -= 1
        parts = [w for w in words[at:last] if w.shape != "I" and w.low not in PARTICLES and w.low not in SUFFIXES]
        if self._shouted:
            known = len(parts) > 1 and parts[0].flags & GIVEN and parts[-1].flags & SURNAME
            return (last, 0.6) if known and not parts[0].flags & ORDINARY else None
        if not parts:
            return None
        if len(parts) == 1:
            return self._single(at, last, parts[0])
        first, final = parts[0], parts[-1]
        if first.flags & GIVEN and not first.flags & ORDINARY:
            return last, 0.85
        if first.flags & GIVEN and final.flags & SURNAME and not final.flags & ORDINARY:
            return last, 0.75
        if first.shape == "I":
            return last, 0.7
        if final.flags & SURNAME and not final.flags & ORDINARY and not first.flags & (ORDINARY | PLACE):
            return last, 0.7
        return None

    def _belongs(self, index: int) -> bool:
        """Whether a word of a run can be a further part of a name."""
        word = self._words[index]
        if word.shape == "I" or word.low in PARTICLES or word.low in SUFFIXES:
            return True
        if word.low in CORPORATE or word.low in LOCAL or word.code:
            return False
        if self._shouted:
            return word.flags & (SURNAME | ORDINARY) == SURNAME
        return bool(word.flags & SURNAME) or not word.flags & ORDINARY

    def _single(self, at: int, last: int, word: Word) -> tuple[int, float] | None:
        """A name of one word: a given name, initials and a surname, or a surname alone."""
        initials = sum(before.shape == "I" for before in self._words[at:last]) if _initial(self._words, at) else 0
        if initials and word.shape == "T":
            named = word.flags & (GIVEN | SURNAME) or not word.flags  # `J. Novak`
            return (last, 0.7) if named or (initials > 1 and word.low not in LOCAL | CORPORATE) else None
        if word.shape == "U" or word.flags & ORDINARY:
            return None
        if word.flags & GIVEN and not word.flags & PLACE:
            return last, 0.75 if word.flags & FREQUENT else 0.55
        if word.flags & SURNAME and not word.flags & PLACE:
            following = self._words[last].low if last < len(self._words) else ""
            return last, 0.6 if following in SPEECH else 0.5
        return None

    def _small(self, at: int) -> int:
        """`sarah miller`: a frequent given name that is no ordinary word, in small letters."""
        words = self._words
        word = words[at]
        if word.flags & (ORDINARY | PLACE) or word.code or len(word.low) < 4 or self._dotted(word):
            return at + 1
        last = at + 1
        if last < len(words) and words[last].glued and words[last].flags & SURNAME:
            last += not words[last].flags & (ORDINARY | PLACE)
        self._add("PERSON", at, last - 1, 0.5)
        return last

    def _dotted(self, word: Word) -> bool:
        """Whether a word is a part of a host name, a file name or a compound: no blank, and more letters behind."""
        text = self._text
        before, after = text[word.start - 1 : word.start], text[word.end : word.end + 2]
        return before in {".", "-"} or (len(after) == 2 and after[0] in ".-" and not after[1].isspace())
