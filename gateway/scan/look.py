"""From texts to hits: the engine, the models for names and the policy, as the options say.

A text goes through a sieve of the engine, as it would in the gateway, under rules that only report; what the policy
would do is looked up for each finding. The compatible profile judges a whole text at once, so its texts have a bound.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, Protocol

from filters import SLICE_CHARS, Action, Engine, Finding, Mask, NameRules, Rules, UndecidedError
from filters.explain import LEFT_CHARS, RIGHT_CHARS, Explainer, Explanation
from filters.finding import LABEL
from filters.segments import Segmenter
from gateway.errors import ConfigError
from gateway.scan.lines import LineReader, Value
from gateway.scan.places import JUDGED_KEPT_CHARS, KEPT_CHARS, Places
from gateway.scan.sources import BinaryFileError, Problem, Skipped, Source, TextReader, UnreadableError

if TYPE_CHECKING:
    from filters.compatible import CompatibleEngine
    from filters.names import NameFinder
    from policies import Policy

Profile = Literal["hardened", "compatible"]
NamesMode = Literal["off", "fast", "thorough"]
# Of one text under the compatible profile, which needs it whole (our choice: 50 MB of memory with what is found in it).
COMPATIBLE_CHARS_MAX: Final = 4 * 1024 * 1024
_SHOWN: Final = Mask("partial")
_NAMES: Final = NameRules(chars_max=sys.maxsize)  # a scan waits for its models as long as they take
_COMPATIBLE: Final = "presidio-compatible"
_BASELINE_BYTES_MAX: Final = 256 * 1024 * 1024


class UsageError(Exception):
    """The options cannot be carried out. The message says what to do."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the user asked for."""

    profile: Profile = "hardened"
    names: NamesMode | None = None  # None: as the policy says, else off
    policy: Path | None = None
    entities: Sequence[str] = ()
    min_score: float | None = None
    fields: Sequence[str] = ()
    encoding: str = "utf-8"
    explain: bool = False
    show: bool = False
    baseline: Path | None = None


@dataclass(frozen=True, slots=True)
class Hit:
    """One finding in a file. Lines and columns count from 1; in JSON lines `field` is set and the columns are 0."""

    file: str
    entity: str
    score: float
    start: int  # code points from the begin of the text, or of the field's value
    end: int
    line: int
    column: int
    end_line: int
    end_column: int
    field: str = ""
    action: str = ""  # what the policy would do
    mask: str = ""  # how it would mask
    shown: str = ""  # the value, mostly hidden; only if asked for
    why: Explanation | None = None


Event = Hit | Problem | Skipped


class _Channel(Protocol):
    """One text on its way through the filters."""

    places: Places

    def feed(self, text: str) -> Sequence[Finding]: ...

    def close(self) -> Sequence[Finding]: ...

    def explain(self, finding: Finding) -> Explanation: ...


class Scanner:
    """Scans sources one after the other. `load` makes one."""

    def __init__(
        self,
        options: Options,
        rules: Rules,
        actions: Rules | None,
        engine: Engine | CompatibleEngine,
        finder: NameFinder | None,
        policy_id: str = "",
    ) -> None:
        self.policy_id = policy_id
        self._options = options
        self._rules = rules
        self._actions = actions
        self._engine = engine
        self._finder = finder
        self._known = _known(options.baseline)
        self._explainer: Explainer | None = None
        if isinstance(engine, Engine) and options.explain:
            self._explainer = Explainer(engine, names=finder.name if finder is not None else "")
        self.known = 0  # findings that the baseline has
        self.chars = 0
        self.files = 0

    @classmethod
    def load(cls, options: Options) -> Scanner:
        """Loads what the options need. Raises UsageError."""
        hardened = Engine.load()
        policy = _policy(options.policy, hardened) if options.policy is not None else None
        mode: NamesMode = options.names or (policy.prompt.names.mode.value if policy is not None else "off")
        finder = _finder(mode)
        engine: Engine | CompatibleEngine = hardened
        if options.profile == "compatible":
            if policy is not None and policy.custom:
                raise UsageError("the compatible profile knows no entities of a policy; use --profile hardened")
            engine = _compatible()
        elif policy is not None and policy.custom:
            from filters.detectors.custom import CustomDetector

            engine = hardened.extended((CustomDetector(policy.custom),))
        known = engine.entities | (finder.entities if finder is not None else frozenset())
        for entity in options.entities:
            if entity not in known:
                hint = " without --names fast" if mode == "off" and entity in _named() else ""
                raise UsageError(f"--entities: nothing finds {entity}{hint}; known: {', '.join(sorted(known))}")
        actions = _actions(policy)
        policy_id = policy.id if policy is not None else ""
        return cls(options, _rules(options, actions), actions, engine, finder, policy_id)

    @property
    def versions(self) -> Mapping[str, str]:
        """Detectors and their versions."""
        names = {self._finder.name: self._finder.version} if self._finder is not None else {}
        return {**self._engine.versions, **names}

    def scan(self, source: Source, progress: Callable[[int], None] | None = None) -> Iterator[Event]:
        """The hits of one source, and why it could not be scanned or was skipped, if so."""
        try:
            with source.open() as stream:
                if self._options.fields:
                    yield from self._lines(source, LineReader(stream, self._options.fields, progress))
                else:
                    yield from self._text(source, TextReader(stream, self._options.encoding, progress))
        except BinaryFileError:
            yield Problem(source.name, "binary, not text") if source.named else Skipped(source.name, "binary")
            return
        except UndecidedError as error:
            yield Problem(source.name, f"not scanned to its end: {error}")
        except UnreadableError as error:
            yield Problem(source.name, f"not read to its end: {error}")
        except OSError as error:
            yield Problem(source.name, (error.strerror or type(error).__name__).lower())
            return
        self.files += 1

    def _text(self, source: Source, reader: TextReader) -> Iterator[Event]:
        channel = self._channel()
        for piece in reader.pieces():
            self.chars += len(piece)
            yield from self._hits(source.name, channel, channel.feed(piece))
        yield from self._hits(source.name, channel, channel.close())
        if reader.problem:
            yield Problem(source.name, reader.problem)

    def _lines(self, source: Source, reader: LineReader) -> Iterator[Event]:
        for value in reader.values():
            self.chars += len(value.text)
            try:
                yield from self._value(source.name, value)
            except UndecidedError as error:
                yield Problem(source.name, f"line {value.line:,}, {value.field}: not scanned to its end: {error}")
        for problem in reader.problems:
            yield Problem(source.name, problem)

    def _value(self, file: str, value: Value) -> Iterator[Event]:
        channel = self._channel()
        for at in range(0, len(value.text), SLICE_CHARS):
            found = channel.feed(value.text[at : at + SLICE_CHARS])
            yield from self._hits(file, channel, found, value.line, value.field)
        yield from self._hits(file, channel, channel.close(), value.line, value.field)

    def _channel(self) -> _Channel:
        if isinstance(self._engine, Engine):
            return _Hardened(self._engine, self._rules, self._finder, self._explainer)
        return _Compatible(self._engine, self._rules, self._finder, self._options.explain)

    def _hits(
        self, file: str, channel: _Channel, found: Sequence[Finding], line: int = 0, field: str = ""
    ) -> Iterator[Hit]:
        if not found:
            return
        best: dict[tuple[str, int, int], Finding] = {}
        for one in found:
            known = best.get(one[:3])
            if known is None or one.score > known.score:
                best[one[:3]] = one
        for one in sorted(best.values(), key=lambda f: (f.start, f.end, f.entity)):
            first = (line, 0) if field else channel.places.at(one.start)
            place = (file, one.entity, *first, field, one.start if field else 0)
            if place in self._known:
                self.known += 1
                continue
            action, mask = self._would(one.entity)
            yield Hit(
                file,
                one.entity,
                one.score,
                one.start,
                one.end,
                *first,
                *((line, 0) if field else channel.places.at(one.end)),
                field,
                action,
                mask,
                _SHOWN.show(one.entity, channel.places.slice(one.start, one.end)) if self._options.show else "",
                channel.explain(one) if self._options.explain else None,
            )

    def _would(self, entity: str) -> tuple[str, str]:
        """What the policy would do, and how it would mask."""
        if self._actions is None:
            return "", ""
        action = self._actions.action(entity)
        return action.value, self._actions.masks.get(entity, LABEL).style if action is Action.MASK else ""


class _Hardened:
    """A sieve of the engine, which is also asked about names."""

    def __init__(self, engine: Engine, rules: Rules, finder: NameFinder | None, explainer: Explainer | None) -> None:
        self.places = Places(KEPT_CHARS if finder is None else JUDGED_KEPT_CHARS)
        self._sieve = engine.sieve(rules, direction="prompt", judged=finder is not None)
        self._finder = finder
        self._explainer = explainer

    def feed(self, text: str) -> Sequence[Finding]:
        found: list[Finding] = []
        for at in range(0, len(text), SLICE_CHARS):
            piece = text[at : at + SLICE_CHARS]
            self.places.add(piece)
            found += self._sieve.feed(piece).findings
            if self._finder is not None:
                found += self._settled(self._finder)
        return found

    def close(self) -> Sequence[Finding]:
        found = [*self._sieve.close().findings]
        if self._finder is not None:
            found += self._settled(self._finder)
        return found

    def _settled(self, finder: NameFinder) -> Sequence[Finding]:
        segments = self._sieve.pending()
        return self._sieve.judged(_named_in(finder, segments)).findings if segments else ()

    def explain(self, finding: Finding) -> Explanation:
        assert self._explainer is not None
        text, first = self.places.around(finding.start, finding.end, LEFT_CHARS, RIGHT_CHARS)
        local = finding._replace(start=finding.start - first, end=finding.end - first)
        return replace(self._explainer.explain(text, local), finding=finding)


class _Compatible:
    """A text for the compatible engine, gathered until it ends."""

    def __init__(self, engine: CompatibleEngine, rules: Rules, finder: NameFinder | None, explained: bool) -> None:
        self.places = Places(kept=COMPATIBLE_CHARS_MAX)
        self._engine = engine
        self._rules = rules
        self._finder = finder
        self._explained = explained
        self._why: dict[Finding, Explanation] = {}
        self._pieces: list[str] = []
        self._size = 0

    def feed(self, text: str) -> Sequence[Finding]:
        self._size += len(text)
        if self._size > COMPATIBLE_CHARS_MAX:
            raise UndecidedError(
                f"longer than {COMPATIBLE_CHARS_MAX:,} characters, which the compatible profile judges whole; use --profile hardened",
                limit=True,
            )
        self._pieces.append(text)
        self.places.add(text)
        return ()

    def close(self) -> Sequence[Finding]:
        text = "".join(self._pieces)
        found: list[Finding] = []
        if self._explained:
            for one in self._engine.explain(text):
                found.append(one.finding)
                rule = f"{one.recognizer}: {one.pattern}" if one.pattern else one.recognizer
                self._why[one.finding] = Explanation(
                    one.finding, _COMPATIBLE, rule, one.score, one.valid, one.context or ""
                )
        else:
            found += self._engine.find(text)
        if self._finder is not None:
            segments = Segmenter().cut(text, 0, True)
            for segment, listed in zip(segments, _named_in(self._finder, [s.text for s in segments]), strict=True):
                found += segment.placed(listed)
        rules = self._rules
        return [f for f in found if rules.counts(f) and rules.action(f.entity) is not Action.ALLOW]

    def explain(self, finding: Finding) -> Explanation:
        known = self._why.get(finding)
        if known is not None:
            return known
        return Explanation(finding, self._finder.name if self._finder is not None else _COMPATIBLE)


def _named_in(finder: NameFinder, segments: Sequence[str]) -> Sequence[Sequence[Finding]]:
    try:
        return finder.find(segments)
    except UndecidedError:
        raise
    except Exception as error:
        raise UndecidedError(f"{finder.name} failed: {type(error).__name__}") from error


def _compatible() -> CompatibleEngine:
    try:
        from filters.compatible import CompatibleEngine
    except ImportError as error:
        raise UsageError("the compatible profile is not installed; use --profile hardened") from error
    return CompatibleEngine.load(tokens="blank")


def _finder(mode: NamesMode) -> NameFinder | None:
    if mode == "off":
        return None
    from filters.names import ModelError, NameFinder

    try:
        return NameFinder.load(mode)
    except ModelError as error:
        raise UsageError(f"--names {mode}: {error}") from error


def _named() -> frozenset[str]:
    from filters import NAME_ENTITIES

    return NAME_ENTITIES


def _policy(path: Path, engine: Engine) -> Policy:
    """The policy, held against what the gateway can find, as the gateway would read it."""
    from gateway.filter_rules import read_policy
    from policies import PolicyError, explain

    try:
        return read_policy(path.read_bytes(), source=str(path), entities=engine.entities)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from error
    except PolicyError as error:
        raise UsageError("\n".join(explain(problem) for problem in error.problems)) from error


def _actions(policy: Policy | None) -> Rules | None:
    """What the policy does with a user's prompt."""
    if policy is None:
        return None
    from gateway.filter_rules import role_rules
    from gateway.protocols.base import Role

    try:
        # Nothing is masked here, so the key of digests may be any.
        return role_rules(policy.prompt, "prompt", mask_key=os.urandom(32)).rules(Role.USER)
    except ConfigError as error:
        raise UsageError(str(error)) from error


def _rules(options: Options, actions: Rules | None) -> Rules:
    """Rules that report what the policy does not allow, of the entities that were asked for."""
    policy = actions or Rules()

    def report(action: Action) -> Action:
        return Action.ALLOW if action is Action.ALLOW else Action.REPORT

    if options.entities:
        default, entities = Action.ALLOW, {e: report(policy.action(e)) for e in options.entities}
    else:
        default, entities = report(policy.default), {e: report(a) for e, a in policy.entities.items()}
    if options.min_score is not None:
        return Rules(default, entities, options.min_score, names=_NAMES)
    return Rules(default, entities, policy.min_score, policy.scores, names=_NAMES)


def _known(path: Path | None) -> frozenset[tuple[str, str, int, int, str, int]]:
    """The places of an earlier report of format json. Raises UsageError."""
    if path is None:
        return frozenset()
    try:
        if path.stat().st_size > _BASELINE_BYTES_MAX:
            raise UsageError(f"--baseline: {path} is larger than {_BASELINE_BYTES_MAX:,} bytes")
        report = json.loads(path.read_bytes())
        return frozenset(
            (
                str(f["file"]), str(f["entity"]), int(f["line"]), int(f.get("column", 0)), str(f.get("field", "")),
                int(f["start"]) if f.get("field") else 0,
            )
            for f in report["findings"]
        )  # fmt: skip
    except OSError as error:
        raise UsageError(f"--baseline: {path}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError(f"--baseline: {path} is no report of --format json") from error
