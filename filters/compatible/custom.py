"""Recognizers that a user adds in presidio's YAML: patterns, deny lists, context words.

Their expressions are a user's, so they run on the `regex` package with presidio's flags, over the whole text, within a
time bound; one that is not done in time refuses the text (presidio skips the expression and calls the text clean).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from filters.compatible.scan import Hit
from filters.finding import UndecidedError

if TYPE_CHECKING:
    import regex

DEADLINE_S: Final = (
    0.25  # for one expression over one text; our choice, a hundred times what a sound one takes for 100 KB
)
_LANGUAGE: Final = "en"
_KNOWN: Final = frozenset(
    {
        "name", "type", "enabled", "supported_language", "supported_languages", "supported_entity", "supported_entities",
        "patterns", "deny_list", "deny_list_score", "context", "version", "country_code", "global_regex_flags",
    }
)  # fmt: skip


class CustomPattern(NamedTuple):
    """One expression."""

    name: str
    find: regex.Pattern[str]
    score: float


class Custom:
    """One recognizer of one entity."""

    def __init__(
        self, name: str, entity: str, patterns: tuple[CustomPattern, ...], context: tuple[str, ...], digest: str
    ) -> None:
        self.name = name
        self.entity = entity
        self.patterns = patterns
        self.context = context
        self.digest = digest

    def hits(self, index: int, text: str) -> Iterator[Hit]:
        """Its matches; `index` is the number it goes by. Raises UndecidedError when an expression is not done in time."""
        for number, pattern in enumerate(self.patterns):
            try:
                for match in pattern.find.finditer(text, timeout=DEADLINE_S):
                    start, end = match.span()
                    if end > start and pattern.score > 0:
                        yield Hit(index, start, end, pattern.score, number, None)
            except TimeoutError as error:
                raise UndecidedError("an expression of an added recognizer took too long", limit=True) from error


def parse(source: str | Path | bytes | Mapping[str, Any]) -> Iterator[Custom]:
    """The recognizers for English that a YAML file or a definition holds."""
    if isinstance(source, Mapping):
        listed: Any = source.get("recognizers", [source])
    else:
        import yaml

        raw = source if isinstance(source, bytes) else Path(source).read_bytes()
        document = yaml.safe_load(raw)
        listed = document.get("recognizers") if isinstance(document, dict) else None
    if not isinstance(listed, list):
        raise ValueError("a file of recognizers holds a list under `recognizers`")  # noqa: TRY004  # a bad file
    for item in listed:
        if not isinstance(item, Mapping):
            raise ValueError("a recognizer is a mapping")  # noqa: TRY004  # a bad file
        if item.get("enabled", True):
            yield from _recognizer(item)


def _recognizer(item: Mapping[str, Any]) -> Iterator[Custom]:
    name = str(item.get("name") or "PatternRecognizer")
    unknown = sorted(set(item) - _KNOWN)
    if unknown or item.get("type", "custom") != "custom":
        raise ValueError(f"recognizer {name!r}: {', '.join(unknown) or 'a type other than custom'} is not known here")
    entity = item.get("supported_entity")
    if entity is None and item.get("supported_entities"):
        entity = item["supported_entities"][0]
    if not entity or not isinstance(entity, str):
        raise ValueError(f"recognizer {name!r}: no supported_entity")
    patterns = [_pattern(name, p, item.get("global_regex_flags")) for p in item.get("patterns") or ()]
    words = item.get("deny_list")
    if words:
        patterns.append(_deny_list(words, item.get("deny_list_score", 1.0), item.get("global_regex_flags")))
    if not patterns:
        raise ValueError(f"recognizer {name!r}: neither patterns nor a deny_list")
    digest = hashlib.sha256(json.dumps(item, sort_keys=True, default=str).encode()).hexdigest()[:16]
    for context in _contexts(item):
        lowered = tuple(str(word).lower() for word in context or ())
        yield Custom(name, entity, tuple(patterns), lowered, digest)


def _contexts(item: Mapping[str, Any]) -> Iterator[Any]:
    """The context words for English: presidio makes one recognizer for each language."""
    languages = item.get("supported_languages")
    if not languages:
        if item.get("supported_language", _LANGUAGE) == _LANGUAGE:
            yield item.get("context")
        return
    for language in languages:
        if isinstance(language, Mapping):
            if language.get("language") == _LANGUAGE:
                yield language.get("context")
        elif language == _LANGUAGE:
            yield item.get("context")


def _flags(flags: int | None) -> int:
    import regex

    return int(regex.DOTALL | regex.MULTILINE | regex.IGNORECASE) if flags is None else flags


def _pattern(recognizer: str, pattern: Any, flags: int | None) -> CustomPattern:
    import regex

    if not isinstance(pattern, Mapping) or not {"name", "regex", "score"} <= set(pattern):
        raise ValueError(f"recognizer {recognizer!r}: a pattern has a name, a regex and a score")
    score = float(pattern["score"])
    if not 0 <= score <= 1 or math.isnan(score):
        raise ValueError(f"recognizer {recognizer!r}: a score is between 0 and 1")
    try:
        find = regex.compile(str(pattern["regex"]), _flags(flags))
    except regex.error as error:
        raise ValueError(f"recognizer {recognizer!r}: pattern {pattern['name']!r}: {error}") from error
    return CustomPattern(str(pattern["name"]), find, score)


def _deny_list(words: Any, score: float, flags: int | None) -> CustomPattern:
    import regex

    listed = "|".join(regex.escape(str(word)) for word in words)
    return CustomPattern(
        "deny_list", regex.compile(rf"(?:^|(?<=\W))({listed})(?:(?=\W)|$)", _flags(flags)), float(score)
    )
