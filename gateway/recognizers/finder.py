"""Loads a user's recognizers and runs them over segments. Lives in the processes of serve.py alone.

YAML runs without presidio (filters.compatible); classes run in presidio's own AnalyzerEngine, on tokens of spaCy without
a model. A text's language is not known here, so recognizers of every language look at every text. All of a text that a
recognizer sees is its segment (filters/segments.py): context words count within it.
"""

from __future__ import annotations

import hashlib
import importlib
import math
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from filters import Finding
from filters.compatible.context import Context, boosted
from filters.compatible.custom import Custom, parse
from filters.compatible.data import ENGLISH, load
from filters.compatible.english import English
from gateway.errors import ConfigError

FILE_BYTES_MAX: Final = 4 << 20  # a deny list of 200,000 words; our choice
FINDINGS_MAX: Final = 10_000  # in one segment of 512 characters at the most: twenty for each. Our choice.
_ENGLISH: Final = "en"
_NO_LANGUAGE: Final = "xx"  # spaCy's name for rules that fit any
_LANGUAGE: Final = re.compile(r"[a-z]{2,3}")
# Names that the filters give a meaning of their own.
_RESERVED: Final = frozenset({"PSEUDONYM"})


class UndeclaredEntityError(Exception):
    """A class found an entity that is not among its `supported_entities`: no policy can name it, nor a record hold it."""


class OutOfShapeError(Exception):
    """A class found something outside its text, or with a score that is no number between 0 and 1."""


class RecognizerFinder:
    """All of them, ready to run."""

    name: Final = "recognizers"

    def __init__(self, files: Sequence[Path], classes: Sequence[str], *, source: str) -> None:
        """`source`: the settings' name in messages. Raises ConfigError with all problems."""
        problems: list[str] = []
        versions: list[str] = []
        self._customs: list[Custom] = []
        for file in files:
            try:
                raw = _read(file, source)
                self._customs += _recognizers(raw, file)
                versions.append(f"{file.name}={_digest(raw)}")
            except ConfigError as error:
                problems += error.problems
        self._classes: Classes | None = None
        if classes:
            try:
                self._classes = Classes(classes, source=source)
                versions += self._classes.versions
            except ConfigError as error:
                problems += error.problems
        declared = {one.entity for one in self._customs}
        if self._classes is not None:
            declared |= self._classes.entities
        problems += [f"{source}: recognizers: the entity {one} is taken; rename it" for one in declared & _RESERVED]
        if problems:
            raise ConfigError(problems)
        self.entities = frozenset(declared)
        self.version = " ".join(versions)
        self._english = English(load(ENGLISH)[0])

    def find(self, texts: Sequence[str]) -> list[list[Finding]]:
        """The findings of each text. Raises what a recognizer raises."""
        found = []
        for text in texts:
            ones = self._listed(text)
            if self._classes is not None:
                ones += self._classes.find(text)
            if len(ones) > FINDINGS_MAX:
                raise OutOfShapeError
            found.append(ones)
        return found

    def _listed(self, text: str) -> list[Finding]:
        """What those of files find."""
        found: set[Finding] = set()
        context: Context | None = None
        for index, one in enumerate(self._customs):
            for finding in _outermost(Finding(one.entity, h.start, h.end, h.score) for h in one.hits(index, text)):
                raised = finding
                if one.context and finding.score < 1.0:
                    context = context or Context(text, self._english)
                    if context.word(one.context, finding.start) is not None:
                        raised = finding._replace(score=boosted(finding.score))
                found.add(raised)
        return _outermost(found)


def _outermost(found: Iterable[Finding]) -> list[Finding]:
    """Without what another of the same entity contains with no lower score, as presidio leaves them."""
    kept: list[Finding] = []
    open_ones: dict[str, list[Finding]] = {}
    for one in sorted(set(found), key=lambda f: (f.start, -f.end, -f.score, f.entity)):
        still = [other for other in open_ones.get(one.entity, ()) if other.end > one.start]
        if not any(other.end >= one.end and other.score >= one.score for other in still):
            still.append(one)
            kept.append(one)
        open_ones[one.entity] = still
    return kept


# -- files


def _read(file: Path, source: str) -> bytes:
    try:
        with file.open("rb") as opened:
            raw = opened.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        what = f"{file}: {error.strerror or error}"
        raise ConfigError(f"{source}: recognizers.files: {what}; correct the path or make it readable") from error
    if len(raw) > FILE_BYTES_MAX:
        raise ConfigError(f"{file}: more than {FILE_BYTES_MAX:,} bytes; split it")
    return raw


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def _recognizers(raw: bytes, file: Path) -> list[Custom]:
    import yaml

    try:
        document = yaml.safe_load(raw)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{file}:{mark.line + 1}" if mark is not None else str(file)
        what = getattr(error, "problem", None) or "cannot be read"
        raise ConfigError(f"{place}: not YAML: {what}; correct it") from error
    listed = document.get("recognizers") if isinstance(document, dict) else None
    if not isinstance(listed, list) or not listed:
        raise ConfigError(f"{file}: recognizers: no list of recognizers; write one as presidio's documentation shows")
    flags = document.get("global_regex_flags")
    found: list[Custom] = []
    problems: list[str] = []
    for index, item in enumerate(listed):
        try:
            if not isinstance(item, Mapping):
                raise ValueError("a recognizer is a mapping")  # noqa: TRY004, TRY301  # a bad file
            for variant in _variants(item, flags):
                found += parse(variant)
        except (ValueError, TypeError) as error:
            problems.append(f"{file}: recognizers[{index}]: {error}; correct or remove it")
    if not found and not problems:
        problems.append(f"{file}: every recognizer is disabled; enable one or remove the file")
    if problems:
        raise ConfigError(problems)
    return found


def _variants(item: Mapping[str, Any], flags: object) -> Iterator[Mapping[str, Any]]:
    """The recognizer once for each set of context words that its languages give it, in the language that is parsed."""
    contexts = []
    for language in item.get("supported_languages") or ():
        contexts.append(language.get("context") if isinstance(language, Mapping) else item.get("context"))
    rest = {k: v for k, v in item.items() if k not in ("supported_language", "supported_languages", "context")}
    if flags is not None:
        rest.setdefault("global_regex_flags", flags)
    seen: list[object] = []
    for context in contexts or [item.get("context")]:
        if context not in seen:
            seen.append(context)
            yield {**rest, "supported_language": _ENGLISH, "context": context}


# -- classes


class _Analyzer(NamedTuple):
    language: str
    engine: Any  # presidio's AnalyzerEngine


class Classes:
    """Recognizer classes in presidio's engine."""

    def __init__(self, paths: Sequence[str], *, source: str) -> None:
        """`paths`: module:Class. Raises ConfigError with all that cannot be loaded."""
        # Presidio takes an expression that is not done in this time for one that found nothing. Ours ends the process
        # long before.
        os.environ["REGEX_TIMEOUT_SECONDS"] = "86400"
        try:
            import presidio_analyzer
        except ImportError as error:
            what = "presidio-analyzer is not installed"
            raise ConfigError(
                f"{source}: recognizers.classes: {what}; pip install 'licet[presidio]', or remove the key"
            ) from error
        problems: list[str] = []
        loaded: list[Any] = []
        self.versions: list[str] = []
        for path in paths:
            module, _, name = path.partition(":")
            at = f"{source}: recognizers.classes: {path}"
            try:
                made = getattr(importlib.import_module(module), name)()
            except Exception as error:  # noqa: BLE001  # a user's code: whatever it raises stops the start
                remedy = "correct it; its folder must be on PYTHONPATH, or be that of the settings"
                problems.append(f"{at}: {type(error).__name__}: {error}; {remedy}")
                continue
            if not isinstance(made, presidio_analyzer.EntityRecognizer):
                problems.append(f"{at}: not an EntityRecognizer of presidio-analyzer; name a class that is one")
                continue
            if not _LANGUAGE.fullmatch(str(made.supported_language)):
                problems.append(f"{at}: its supported_language is no language code; write e.g. en")
                continue
            loaded.append(made)
            self.versions.append(f"{path}={_digest(_code(module))}")
        if problems:
            raise ConfigError(problems)
        self.entities = frozenset(str(entity) for one in loaded for entity in one.supported_entities)
        self._analyzers = [
            _Analyzer(language, _engine([one for one in loaded if one.supported_language == language], language))
            for language in sorted({one.supported_language for one in loaded})
        ]
        self.find("What is built on first use is shared by the children.")

    def find(self, text: str) -> list[Finding]:
        """What presidio's engine gives. Raises what a class raises."""
        found: list[Finding] = []
        for language, engine in self._analyzers:
            for one in engine.analyze(text, language):
                if one.entity_type not in self.entities:
                    raise UndeclaredEntityError
                start, end, score = int(one.start), int(one.end), float(one.score)
                if not 0 <= start <= end <= len(text) or not 0 <= score <= 1 or math.isnan(score):
                    raise OutOfShapeError
                if start < end:
                    found.append(Finding(one.entity_type, start, end, score))
        return found


def _code(module: str) -> bytes:
    file = getattr(sys.modules[module], "__file__", None)
    return Path(file).read_bytes() if file else b""


def _engine(recognizers: Sequence[Any], language: str) -> Any:
    """An AnalyzerEngine with these recognizers alone. Its tokens are spaCy's; without a model each is its own lemma."""
    import spacy
    from presidio_analyzer import AnalyzerEngine, RecognizerRegistry
    from presidio_analyzer.nlp_engine import NlpArtifacts, SpacyNlpEngine

    class Tokens(SpacyNlpEngine):
        """Presidio's engine for spaCy, without a model."""

        def load(self) -> None:
            """Tokenizer rules only."""
            vars(self)["nlp"] = {language: spacy.blank(_ENGLISH if language == _ENGLISH else _NO_LANGUAGE)}

        def _doc_to_nlp_artifact(self, doc: Any, language: str) -> Any:
            return NlpArtifacts(
                entities=[],
                tokens=doc,
                tokens_indices=[token.idx for token in doc],
                lemmas=[token.text for token in doc],
                nlp_engine=self,
                language=language,
            )

    registry = RecognizerRegistry(recognizers=[], supported_languages=[language])
    for one in recognizers:
        registry.add_recognizer(one)
    tokens = Tokens([{"lang_code": language, "model_name": "none"}])
    return AnalyzerEngine(registry=registry, nlp_engine=tokens, supported_languages=[language])
