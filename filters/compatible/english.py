"""The tokens of spaCy's blank English pipeline, from its rules as data, without spaCy.

A chunk between spaces is stripped of prefixes and suffixes, looked up among special cases, and split at infixes; then
special cases that the rules would have split are put together again over the whole text. Every step is spaCy's own
(its documentation of the tokenizer gives the algorithm); what differs is how long chunks are walked: expressions are
searched at the ends of a chunk alone, so the time is linear in its length.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

# A suffix is searched in this many last characters; only one kind, dots, can be longer (the longest other has 8).
_SUFFIX_CHARS: Final = 64
_CHUNKS_MAX: Final = 16_384  # chunks whose tokens are remembered, of up to that many characters (12 MB at most)
_CHUNK_CHARS_MAX: Final = 32
_USER: Final = r"(?:\S+(?::\S*)?@)?"  # in the expression for URLs: means the same as the next, which is linear
_USER_LINEAR: Final = r"(?:\S+@)?"


_PRONOUN: Final = "-PRON-"  # an old lemma of spaCy's that presidio leaves out, as it does `be`, a stop word


class Tokens(NamedTuple):
    """The tokens of a text, where each starts, and each in lower case if presidio counts its text among the keywords."""

    texts: list[str]
    starts: list[int]
    keys: list[str | None]

    def take(self, other: Tokens, start: int, end: int) -> None:
        """Adds some tokens of another text."""
        self.texts.extend(other.texts[start:end])
        self.starts.extend(other.starts[start:end])
        self.keys.extend(other.keys[start:end])


class _Piece(NamedTuple):
    """A token of a chunk."""

    text: str
    key: str | None
    matched: bool  # the first of a special case that was split


class English:
    """The tokenizer, and which tokens are stop words or punctuation."""

    def __init__(self, data: dict[str, Any]) -> None:
        self._rules: dict[str, list[str]] = data["rules"]
        self._rule_chars_max = max(map(len, self._rules))
        # Each alternative begins with `^`: matched at a place in the chunk rather than at the begin of a slice.
        self._prefix = re.compile("|".join(part.removeprefix("^") for part in _alternatives(data["prefix"])))
        self._suffix = re.compile(data["suffix"])
        self._infix = re.compile(data["infix"])
        if _USER not in data["url"]:
            raise ValueError("the tokenizer's expression for URLs is not built as it was")
        self._url = re.compile(data["url"].replace(_USER, _USER_LINEAR))
        self._stop_words = frozenset(data["stop_words"])
        self._chunks: dict[str, list[_Piece]] = {}
        self._matched: dict[str, list[tuple[str, ...]]] = {}
        for text in data["matched"]:
            # Special cases that were split: by their first token, longest first.
            parts = tuple(self._tokenized(text, special=False))
            self._matched.setdefault(parts[0], []).append(parts)
        self._matched_max = max(len(parts) for listed in self._matched.values() for parts in listed)

    def tokens(self, text: str) -> Tokens:
        """All tokens of a text. A single space between two is none."""
        texts: list[str] = []
        starts: list[int] = []
        keys: list[str | None] = []
        again: list[int] = []
        known = self._chunks
        places: Iterable[int]
        if _ODD_SPACE.search(text) is None:
            chunks = text.split(" ")
            places = itertools.accumulate(map(len, chunks), lambda at, size: at + size + 1, initial=0)
        else:
            spans = list(_chunks(text))
            chunks = [text[start:end] for start, end in spans]
            places = [start for start, _ in spans]
        for at, chunk in zip(places, chunks, strict=False):
            for piece, key, matched in known.get(chunk) or self._chunk(chunk):
                if matched:
                    again.append(len(texts))
                texts.append(piece)
                starts.append(at)
                keys.append(key)
                at += len(piece)  # where the next piece of the chunk starts
        found = Tokens(texts, starts, keys)
        return self._together(text, found, again) if again else found

    def keyword(self, token: str) -> bool:
        """True if presidio counts the token's text among the keywords of a text, before it splits them at colons."""
        if token.isalnum():
            return token.lower() not in self._stop_words
        return not (token.lower() in self._stop_words or token == _PRONOUN or self.is_punct(token))

    @staticmethod
    def is_punct(token: str) -> bool:
        """True for tokens of punctuation only."""
        return all(unicodedata.category(char)[0] == "P" for char in token)

    def _key(self, token: str) -> str | None:
        return token.lower() if self.keyword(token) else None

    def _chunk(self, chunk: str) -> list[_Piece]:
        texts = self._rules.get(chunk)
        if texts is None:
            # Nothing in a plain word is a prefix, suffix or infix.
            plain = chunk.isascii() and chunk.isalpha()
            texts = [chunk] if plain else self._tokenized(chunk, special=True)
        pieces = [_Piece(text, self._key(text), text in self._matched) for text in texts]
        if len(chunk) <= _CHUNK_CHARS_MAX:
            if len(self._chunks) >= _CHUNKS_MAX:
                self._chunks.clear()
            self._chunks[chunk] = pieces
        return pieces

    def _rule(self, chunk: str, start: int, end: int) -> bool:
        return 0 < end - start <= self._rule_chars_max and chunk[start:end] in self._rules

    def _tokenized(self, chunk: str, *, special: bool) -> list[str]:
        start, end = 0, len(chunk)
        head: list[str] = []
        tail: list[str] = []
        while start < end and not (special and self._rule(chunk, start, end)):
            prefix = self._prefix.match(chunk, start, end)
            begin = start if prefix is None else prefix.end()
            if begin > start and special and self._rule(chunk, begin, end):
                head.append(chunk[start:begin])
                start = begin
                break
            stop = self._suffix_at(chunk, begin, end)
            if stop < end and special and self._rule(chunk, start, stop):
                tail.append(chunk[stop:end])
                end = stop
                break
            if begin == start and stop == end:
                break
            if begin > start:
                head.append(chunk[start:begin])
            if stop < end:
                tail.append(chunk[stop:end])
            start, end = begin, stop
        if start < end:
            head += self._middle(chunk[start:end], special=special)
        return head + tail[::-1]

    def _suffix_at(self, chunk: str, start: int, end: int) -> int:
        """Where the suffix of chunk[start:end] begins; `end` if it has none."""
        low = max(start, end - _SUFFIX_CHARS)
        match = self._suffix.search(chunk, low, end)
        if match is None or match.start() > low:
            return end if match is None else match.start()
        if low > start:
            # Only dots make a suffix of any length.
            return end - (end - start - len(chunk[start:end].rstrip(".")))
        match = self._suffix.search(chunk[start:end])  # what stands before must not be seen
        return end if match is None else start + match.start()

    def _middle(self, middle: str, *, special: bool) -> list[str]:
        rule = self._rules.get(middle) if special else None
        if rule is not None:
            return rule
        if self._url.match(middle):
            return [middle]
        pieces: list[str] = []
        at = 0
        for infix in self._infix.finditer(middle):
            first, last = infix.span()
            if first == 0:
                continue
            if first != at:
                pieces.append(middle[at:first])
            if first != last:
                pieces.append(infix[0])
            at = last
        if at < len(middle):
            pieces.append(middle[at:])
        return pieces

    def _together(self, text: str, found: Tokens, again: list[int]) -> Tokens:
        """Puts together what special cases had before they were split: the longest first, none over another."""
        spans: list[tuple[int, int]] = []
        texts, starts, _ = found
        for start in again:
            for parts in self._matched[texts[start]]:
                if len(parts) == 1 or tuple(texts[start : start + len(parts)]) == parts:
                    spans.append((start, start + len(parts)))
        if not spans:
            return found
        seen: set[int] = set()
        rules: dict[int, tuple[int, list[str]]] = {}
        for start, end in sorted(spans, key=lambda s: (s[0] - s[1], s[0])):
            if start not in seen and end - 1 not in seen:
                rule = self._rules.get(text[starts[start] : starts[end - 1] + len(texts[end - 1])])
                if rule is not None and rule != texts[start:end]:
                    rules[start] = end, rule
            seen.update(range(start, end))
        if not rules:
            return found
        made = Tokens([], [], [])
        at = 0
        for start, (end, rule) in sorted(rules.items()):
            made.take(found, at, start)
            place = starts[start]
            for piece in rule:
                made.texts.append(piece)
                made.starts.append(place)
                made.keys.append(self._key(piece))
                place += len(piece)
            at = end
        made.take(found, at, len(texts))
        return made


def _alternatives(expression: str) -> list[str]:
    """The alternatives of an expression, all of which begin with `^`."""
    parts = expression.split("|^")
    return [parts[0], *("^" + part for part in parts[1:])]


def _chunks(text: str) -> Iterator[tuple[int, int]]:
    """Runs of spaces and of other characters, without the one space that ends a run of others."""
    open_at = 0
    for match in _RUN.finditer(text):
        start, end = match.span()
        if start < open_at:
            start = open_at  # its first space ended the run before
        if start < end:
            yield start, end
        if text[end : end + 1] == " " and not text[end - 1].isspace():
            open_at = end + 1


_RUN: Final = re.compile(r"\s+|\S+")
# More than single spaces between words.
_ODD_SPACE: Final = re.compile(r"[^\S ]|(?:\A|\s)\s")
