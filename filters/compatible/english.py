"""The tokens of spaCy's blank English pipeline, from its rules as data, without spaCy.

A chunk between spaces is stripped of prefixes and suffixes, looked up among special cases, and split at infixes; then
special cases that the rules would have split are put together again over the whole text. Every step is spaCy's own
(its documentation of the tokenizer gives the algorithm); what differs is how long chunks are walked: expressions are
searched at the ends of a chunk alone, so the time is linear in its length.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

# A suffix is searched in this many last characters; only one kind, dots, can be longer (the longest other has 8).
_SUFFIX_CHARS: Final = 64
_CHUNKS_MAX: Final = 16_384  # chunks whose tokens are remembered, of up to that many characters (12 MB at most)
_CHUNK_CHARS_MAX: Final = 32
_USER: Final = r"(?:\S+(?::\S*)?@)?"  # in the expression for URLs: means the same as the next, which is linear
_USER_LINEAR: Final = r"(?:\S+@)?"


_PRONOUN: Final = "-PRON-"  # an old lemma of spaCy's that presidio leaves out, as it does `be`, a stop word


class Token(NamedTuple):
    """A token and where it starts."""

    text: str
    start: int


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
        self._chunks: dict[str, list[str]] = {}
        self._matched: dict[str, list[tuple[str, ...]]] = {}
        for text in data["matched"]:
            # Special cases that were split: by their first token, longest first.
            parts = tuple(self._tokenized(text, special=False))
            self._matched.setdefault(parts[0], []).append(parts)
        self._matched_max = max(len(parts) for listed in self._matched.values() for parts in listed)

    def tokens(self, text: str) -> list[Token]:
        """All tokens of a text. A single space between two is none."""
        found: list[Token] = []
        again = False
        for start, end in _chunks(text):
            chunk = text[start:end]
            if chunk.isascii() and chunk.isalpha() and chunk not in self._rules:
                found.append(Token(chunk, start))  # nothing in it is a prefix, suffix or infix
                continue
            at = start
            for piece in self._chunk(chunk):
                found.append(Token(piece, at))
                at += len(piece)
                again = again or piece in self._matched
        return self._together(text, found) if again else found

    def keyword(self, token: str) -> bool:
        """True if presidio counts the token's text among the keywords of a text, before it splits them at colons."""
        if token.isalnum():
            return token.lower() not in self._stop_words
        return not (token.lower() in self._stop_words or token == _PRONOUN or self.is_punct(token))

    @staticmethod
    def is_punct(token: str) -> bool:
        """True for tokens of punctuation only."""
        return all(unicodedata.category(char)[0] == "P" for char in token)

    def _chunk(self, chunk: str) -> list[str]:
        pieces = self._chunks.get(chunk)
        if pieces is None:
            pieces = self._rules.get(chunk) or self._tokenized(chunk, special=True)
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

    def _together(self, text: str, tokens: list[Token]) -> list[Token]:
        """Puts together what special cases had before they were split: the longest first, none over another."""
        spans: list[tuple[int, int]] = []
        texts = [token.text for token in tokens]
        for start, first in enumerate(texts):
            for parts in self._matched.get(first, ()):
                if tuple(texts[start : start + len(parts)]) == parts:
                    spans.append((start, start + len(parts)))
        if not spans:
            return tokens
        seen: set[int] = set()
        kept: dict[int, int] = {}
        for start, end in sorted(spans, key=lambda s: (s[0] - s[1], s[0])):
            if start not in seen and end - 1 not in seen:
                kept[start] = end
            seen.update(range(start, end))
        made: list[Token] = []
        at = 0
        while at < len(tokens):
            end = kept.get(at, at)
            if end > at:
                opening, closing = tokens[at], tokens[end - 1]
                rule = self._rules.get(text[opening.start : closing.start + len(closing.text)])
                if rule is None:
                    made += tokens[at:end]
                else:
                    place = opening.start
                    for piece in rule:
                        made.append(Token(piece, place))
                        place += len(piece)
                at = end
            else:
                made.append(tokens[at])
                at += 1
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
