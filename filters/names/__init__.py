"""People, places and organisations: what patterns cannot find. Text in, findings out, synchronous and on one core.

`fast` is a lexicon and two small networks (Rampart for Latin script, LAC for Chinese); `thorough` adds spaCy's medium
English model. None alone finds enough people in natural text, so their findings are united (unite.py), and what their
errors have in common is taken away there. Each segment goes to the models of the scripts that it is written in.

No network and no model hub: every model comes inside a package, and is refused unless it is the pinned file
(models.py). Nothing heavy is imported before `load`. A finder belongs to one process and one thread; findings of a
segment follow from that segment alone, whatever else is in the batch (L10).

`python -m filters.names.build` prepares the models once after they are installed.
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Literal

from filters.finding import Finding
from filters.names.models import (
    FAST,
    REMEDY,
    REMEDY_SPACY,
    RUNTIMES_FAST,
    RUNTIMES_THOROUGH,
    SPACY_FILES,
    ModelError,
)  # fmt: skip
from filters.names.scripts import han_stretches, latin_stretches
from filters.names.unite import unite

if TYPE_CHECKING:
    from filters.names.lac import Lac
    from filters.names.lexicon import Lexicon, Word
    from filters.names.rampart import Rampart
    from filters.names.spacy_md import SpacyMd

__all__ = ["ModelError", "NameFinder", "available"]

Mode = Literal["fast", "thorough"]
# Raised by hand with every change of the code that can change a finding.
CODE_VERSION: Final = 5
ENTITIES: Final = frozenset({"PERSON", "LOCATION", "ORGANIZATION"})
SURE: Final = 0.7  # the score from which a finding of the lists needs no second opinion
_DIGITS: Final = re.compile(r"\d")


class NameFinder:
    """Finds names. Make one with `load`, in the process and thread that will use it."""

    entities: Final = ENTITIES

    def __init__(self, name: str, version: str, models: tuple[Lexicon, Rampart, Lac, SpacyMd | None]) -> None:
        self.name = name
        self.version = version
        self._lexicon, self._rampart, self._lac, self._spacy = models

    @classmethod
    def load(cls, mode: Mode) -> NameFinder:
        """Loads every model of a mode. Raises ModelError, which names the remedy, if one is missing or not pinned."""
        reason = available(mode)
        if reason is not None:
            raise ModelError(reason)
        from filters.names.lac import Lac
        from filters.names.lexicon import Lexicon
        from filters.names.rampart import Rampart
        from filters.names.spacy_md import SpacyMd

        spacy = SpacyMd() if mode == "thorough" else None
        lexicon = Lexicon()
        models = (lexicon, Rampart(), Lac(), spacy)
        return cls(f"names-{mode}", _version(mode, lexicon), models)

    def find(self, segments: Sequence[str]) -> list[list[Finding]]:
        """The findings of each segment, in its own code points, in order."""
        return [self._find(segment) for segment in segments]

    def _find(self, text: str) -> list[Finding]:
        findings: list[Finding] = []
        for start, end in han_stretches(text):
            for finding in self._lac.find(text[start:end]):
                findings.append(_moved(finding, start))
        for start, end in latin_stretches(text):
            part = text[start:end]
            findings += [_moved(finding, start) for finding in self._latin(part)]
        findings.sort(key=lambda f: (f.start, f.end, f.entity))
        return findings

    def _latin(self, text: str) -> list[Finding]:
        """The findings of a stretch without Han characters."""
        words = self._lexicon.words(text)
        if not _worth(words, text):
            return []
        listed = self._lexicon.find(text, words)
        if not _open(words, listed, text, capitals=self._spacy is not None):
            return unite(text, words, listed, [], [])
        guessed = self._rampart.find(text)
        parsed = self._spacy.find([text])[0] if self._spacy is not None else []
        return unite(text, words, listed, guessed, parsed)


def _worth(words: Sequence[Word], text: str) -> bool:
    """Whether a stretch can hold a name at all: one of ordinary words in small letters cannot."""
    from filters.names.lexicon import GIVEN, ORDINARY, SURNAME

    for index, word in enumerate(words):
        if not word.flags & ORDINARY and len(word.low) > 1:
            return True
        if word.shape != "l" and index > 0 and len(word.low) > 1:
            return True  # a capital within the sentence
        if word.shape != "l" and word.flags & (GIVEN | SURNAME):
            return True
    return bool(_DIGITS.search(text)) and bool(words)


def _open(words: Sequence[Word], listed: Sequence[Finding], text: str, *, capitals: bool) -> bool:
    """Whether the lists leave anything to guess: a word that they do not explain, or a number.

    With `capitals`, a capitalised word within the sentence is one, even an ordinary one: it may name an organization.
    The small network costs a hundred times as much as the lists, and adds nothing to a sentence whose every word is
    either ordinary or within a name that they are sure of.
    """
    from filters.names.lexicon import GIVEN, ORDINARY, SURNAME

    if _DIGITS.search(text):
        return True
    sure = [finding for finding in listed if finding.score >= SURE]
    for index, word in enumerate(words):
        if len(word.low) < 2 or any(f.start <= word.start and word.end <= f.end for f in sure):
            continue
        if not word.flags & ORDINARY or (word.shape != "l" and word.flags & (GIVEN | SURNAME)):
            return True
        if capitals and index and word.shape != "l":
            return True
    return False


def _moved(finding: Finding, by: int) -> Finding:
    return Finding(finding.entity, finding.start + by, finding.end + by, finding.score)


def _version(mode: str, lexicon: Lexicon) -> str:
    files = FAST + (SPACY_FILES if mode == "thorough" else ())
    parts = [str(CODE_VERSION), mode, lexicon.digest, *(file.sha256 for file in files)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def available(mode: Mode) -> str | None:
    """None if `load` can be expected to work, or why not, with the remedy. Imports and loads nothing."""
    for module in RUNTIMES_FAST:
        if importlib.util.find_spec(module) is None:
            return f"the package {module} is not installed: {REMEDY}"
    if mode == "thorough":
        for module in RUNTIMES_THOROUGH:
            if importlib.util.find_spec(module) is None:
                return f"the package {module} is not installed: {REMEDY_SPACY}"
    for file in FAST + (SPACY_FILES if mode == "thorough" else ()):
        reason = file.reason()
        if reason is not None:
            return reason
    return None
