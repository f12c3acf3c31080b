"""Why something was found: which detector, by which rule, with what score before context, and what raised it.

An explanation is worked out afterwards, from the text around a finding; nothing here runs where texts are judged. It
names rules and words of our own tables, never what was matched (L7).

A detector that knows more says it in a method of its own, `explain(text, finding)` (see `Explaining`). For the packs of
this build the rules are looked up here.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from typing import Any, Final, Protocol, cast, runtime_checkable

from filters.detectors import presidio, validators
from filters.detectors.china import reasons
from filters.detectors.china.pack import ChinaPack
from filters.detectors.disguise import DisguiseDetector
from filters.detectors.disguise.characters import ESCAPE, OTHERWISE
from filters.detectors.hosts import EMAIL, URL
from filters.detectors.patterns import FLAGS, Context
from filters.detectors.phones import PHONE
from filters.detectors.presidio import PresidioPack
from filters.detectors.secrets import rule_of
from filters.detectors.walk import Pack, Walk
from filters.engine import Direction, Engine
from filters.finding import Detector, Finding
from filters.view import END, fold

# The text around a finding that is looked at again: a window of a token to the left (units.py), a border to the right.
LEFT_CHARS: Final = 1_280
RIGHT_CHARS: Final = 256
# And before that, a tenth of it: enough for context and most tokens, if the same score comes out.
_NEAR_LEFT_CHARS: Final = 160
_NEAR_RIGHT_CHARS: Final = 32


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why `finding` was found. What is empty or None is not known, or does not apply."""

    finding: Finding
    detector: str
    rule: str = ""
    score_base: float | None = None  # before context and checks
    validated: bool | None = None  # True: a check digit or the like confirmed it
    context_word: str = ""  # of our tables: what raised the score, or lowered it, or was needed to see it
    form: str = ""  # of a disguise: what had to be undone


@runtime_checkable
class Explaining(Protocol):
    """A detector that can say why."""

    def explain(self, text: str, finding: Finding) -> Explanation | None:
        """Why it found that in that text; None where it did not."""


class Explainer:
    """Explains what an engine finds. `names`: the name of the models for names, if any looked."""

    def __init__(self, engine: Engine, *, direction: Direction = "prompt", names: str = "") -> None:
        # Engine keeps its parts to itself; this is the one other place that has to know them.
        self._detectors: tuple[Detector, ...] = (*engine._packs, *engine._detectors[direction])
        self._packs = frozenset(id(pack) for pack in engine._packs)
        self._names = names

    def explain(self, text: str, finding: Finding) -> Explanation:
        """Why `finding`, in offsets of `text`, was found there. Looks at no more than the text around it."""
        for left, right in ((_NEAR_LEFT_CHARS, _NEAR_RIGHT_CHARS), (LEFT_CHARS, RIGHT_CHARS)):
            shift = max(0, finding.start - left)
            local = finding._replace(start=finding.start - shift, end=finding.end - shift)
            told = self._explain(text[shift : finding.end + right], local, exact=left != LEFT_CHARS)
            if told is not None:
                return replace(told, finding=finding)
        if self._names:
            return Explanation(finding, self._names)
        # Found in a window of a token that is too long to be looked at again: whoever may have done it.
        possible = [one.name for one in self._detectors if finding.entity in one.entities]
        return Explanation(finding, " or ".join(possible) or "unknown")

    def _explain(self, text: str, finding: Finding, *, exact: bool) -> Explanation | None:
        for one in self._detectors:
            if finding.entity not in one.entities:
                continue
            told = (
                one.explain(text, finding)
                if isinstance(one, Explaining)
                else self._looked_up(one, text, finding, exact)
            )
            if told is not None:
                return told
        return None

    def _looked_up(self, detector: Detector, text: str, finding: Finding, exact: bool) -> Explanation | None:
        again = self._again(detector, text, finding)
        if again is None or (exact and again.score != finding.score):
            return None
        if isinstance(detector, PresidioPack) and finding.entity != PHONE:
            return _presidio(detector, text, finding)
        if isinstance(detector, DisguiseDetector):
            return Explanation(finding, detector.name, form=_form(text[finding.start : finding.end]))
        rule = rule_of(again)
        if rule is not None:
            return Explanation(finding, detector.name, rule, finding.score)
        alone = self._again(detector, _without_words(text, finding.start), finding)
        base = None if alone is None else alone.score
        if isinstance(detector, ChinaPack):
            form, validated = reasons.rule(finding, base)
            return Explanation(finding, detector.name, form, base, validated, reasons.word(text, finding, base))
        word = ""
        if isinstance(detector, PresidioPack) and (base is None or base < finding.score):
            view = fold(text) + END
            word = _raised(_presidio_rules()[1], finding.entity, base or 0.0, view, finding.start)[1]
        return Explanation(finding, detector.name, _spoken(finding.entity), base, None, word)

    def _again(self, detector: Detector, text: str, finding: Finding) -> Finding | None:
        """The finding as this detector alone makes it."""
        scanners = Walk([cast(Pack, detector)]).scanners() if id(detector) in self._packs else detector.scanners()
        view = fold(text) + END
        same: Finding | None = None
        for scanner in scanners:
            for one in scanner.scan(text, view, True):
                if one == finding:
                    return one
                if one[:3] == finding[:3]:
                    same = same or one
        return same


def explain(engine: Engine, text: str, *, direction: Direction = "prompt") -> list[Explanation]:
    """The findings of `engine.find(text)` that a detector of that direction makes, each with its reason."""
    explainer = Explainer(engine, direction=direction)
    return [explainer.explain(text, one) for one in engine.find(text)]


def _spoken(entity: str) -> str:
    return entity.lower().replace("_", " ")


def _without_words(text: str, start: int) -> str:
    """The text with what could be a context word before `start` taken away; what borders the finding stays."""
    head = text[: max(0, start - 1)]
    return re.sub(r"[^\W\d_]", "\u25a0", head) + text[len(head) :]


def _form(value: str) -> str:
    """What was undone, told by what the value holds."""
    if ESCAPE.search(value):
        return "escaped characters"
    if OTHERWISE.search(value):
        return "invisible, styled or look-alike characters"
    if not re.search(r"\d", value) and re.search(r"(?i)at|dot|@|hxx|艾特|点", value):
        return "address written out"
    if re.search(r"[^\W\d_]", value):
        return "digits in words or numerals"
    return "unusual separators"


@dataclass(frozen=True, slots=True)
class _Rule:
    name: str
    find: re.Pattern[bytes]
    score: float
    recognizer: str


@functools.cache
def _presidio_rules() -> tuple[Mapping[str, Sequence[_Rule]], Mapping[str, Sequence[str]], validators.Iban]:
    data: dict[str, Any] = json.loads(resources.files("filters.detectors").joinpath(presidio.DATA).read_bytes())
    rules: dict[str, list[_Rule]] = {}
    for item in data["patterns"]:
        rule = _Rule(item["name"], re.compile(item["regex"].encode(), FLAGS), item["score"], item["recognizer"])
        rules.setdefault(item["entity"], []).append(rule)
    return rules, data["context"], validators.Iban(data["iban_formats"])


def _presidio(pack: PresidioPack, text: str, finding: Finding) -> Explanation:
    entity, start, end, score = finding
    view = fold(text) + END
    rules, words, iban = _presidio_rules()
    name, base, valid = "", None, None
    if entity == EMAIL:
        name, base = "mail address", score
    elif entity == URL:
        name, base = ("URL", 0.6) if view[start:end].lower().startswith(b"http") else ("host name", 0.5)
    else:
        best: tuple[bool, float] | None = None
        for rule in rules.get(entity, ()):
            if not _matches(rule, view, start, end):
                continue
            checked = _checked(rule, iban, view[start:end])
            if checked is False:
                continue
            reached = 1.0 if checked else _raised(words, entity, rule.score, view, start)[0]
            if best is None or (reached == score, rule.score) > best:
                best = (reached == score, rule.score)
                name, base, valid = rule.name, rule.score, checked
    word = "" if base is None or valid else _raised(words, entity, base, view, start)[1]
    return Explanation(finding, pack.name, name, base, valid, word)


def _matches(rule: _Rule, view: bytes, start: int, end: int) -> bool:
    for stop in (len(view), end + 1, end):
        match = rule.find.match(view, start, stop)
        if match is not None and match.end() == end:
            return True
    # An expression may look at what is before, or match more than it reports (IBAN).
    match = rule.find.match(view, start)
    return match is not None and rule.recognizer == "IbanRecognizer"


def _checked(rule: _Rule, iban: validators.Iban, value: bytes) -> bool | None:
    if rule.recognizer == "IbanRecognizer":
        return iban(value)
    validate = presidio._VALIDATORS.get(rule.recognizer)
    return None if validate is None else validate(value)


def _raised(words: Mapping[str, Sequence[str]], entity: str, base: float, view: bytes, start: int) -> tuple[float, str]:
    """The score behind the context, and the word of the table that made it."""
    for word in words.get(entity, ()):
        score = _context(entity, word).score(entity, base, view, start)
        if score > base:
            return score, word
    return base, ""


@functools.cache  # as many as there are context words
def _context(entity: str, word: str) -> Context:
    return Context({entity: [word]})
