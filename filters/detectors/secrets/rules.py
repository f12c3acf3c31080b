"""The rules as data: read once a process, and looked up by what has to stand in a text before one is tried.

Entities: SECRET, PASSWORD, PRIVATE_KEY, CONNECTION_STRING, JWT. A finding of this pack carries the id of its rule.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final

from filters.detectors.secrets.values import StopWords, entropy
from filters.finding import Finding

DATA: Final = "gitleaks.json"
SECRET: Final = "SECRET"  # noqa: S105  # names of entities, no values
PASSWORD: Final = "PASSWORD"  # noqa: S105
PRIVATE_KEY: Final = "PRIVATE_KEY"
CONNECTION_STRING: Final = "CONNECTION_STRING"
JWT: Final = "JWT"

# How sure: a form that nothing else has; a name of a service beside a value of its form; a name and a random value; said.
SURE: Final = 0.95
NAMED: Final = 0.85
GUESSED: Final = 0.7
SAID: Final = 0.65
_ENTITY: Final = {"jwt": JWT, "jwt-base64": JWT, "age-secret-key": PRIVATE_KEY, "planetscale-password": PASSWORD}


class Secret(Finding):
    """A finding, and the rule it is by."""

    rule: str = ""


def secret(entity: str, start: int, end: int, score: float, rule: str) -> Secret:
    """A finding by a rule."""
    found = Secret(entity, start, end, score)
    found.rule = rule
    return found


def rule_of(finding: Finding) -> str | None:
    """The id of the rule that a finding is by; None where it is not of this pack, or continues another."""
    return finding.rule if isinstance(finding, Secret) else None


@dataclass(frozen=True, slots=True)
class TokenRule:
    """A credential with a form of its own."""

    id: str
    entity: str
    find: re.Pattern[bytes]
    score: float = SURE
    entropy: float = 0.0
    allowed: tuple[re.Pattern[bytes], ...] = ()

    def at(self, view: bytes, start: int, end: int) -> Secret | None:
        """What stands at `start`, all of it before `end`."""
        return self.judged(self.find.match(view, start, end))

    def judged(self, match: re.Match[bytes] | None) -> Secret | None:
        """The finding that a match is, if it is one."""
        if match is None:
            return None
        first, last = match.span(1 if self.find.groups else 0)
        if first < 0:
            first, last = match.span()
        value = match.string[first:last]
        if self.entropy and entropy(value) < self.entropy:
            return None
        if any(a.search(value) for a in self.allowed):
            return None
        return secret(self.entity, first, last, self.score, self.id)


@dataclass(frozen=True, slots=True)
class NamedRule:
    """A credential that is one beside the name of its service."""

    id: str
    name: re.Pattern[bytes]
    value: re.Pattern[bytes]
    entropy: float


@dataclass(frozen=True, slots=True)
class Data:
    """The content of the file."""

    version: str
    tokens: tuple[tuple[TokenRule, tuple[bytes, ...]], ...]
    marked: tuple[tuple[TokenRule, bytes], ...]
    named: dict[bytes, tuple[NamedRule, ...]]
    names_allowed: re.Pattern[bytes]
    allowed: tuple[re.Pattern[bytes], ...]
    stop_words: StopWords


# Behind a name: what else may stand between it and the operator.
_NAME_TAIL: Final = rb")[ \t\w.-]{0,20}\Z"


@functools.cache
def load() -> Data:
    """The rules."""
    raw = resources.files("filters.detectors.secrets").joinpath(DATA).read_bytes()
    data: dict[str, Any] = json.loads(raw)
    tokens: list[tuple[TokenRule, tuple[bytes, ...]]] = []
    marked: list[tuple[TokenRule, bytes]] = []
    named: dict[bytes, list[NamedRule]] = {}
    for item in data["rules"]:
        least = item.get("entropy", 0.0)
        if item["kind"] == "assignment":
            name = re.compile(b"(?:" + item["name"].encode() + _NAME_TAIL)
            rule = NamedRule(item["id"], name, re.compile(item["value"].encode()), least)
            for word in item["words"]:
                named.setdefault(word.encode(), []).append(rule)
            continue
        token = TokenRule(
            item["id"],
            _ENTITY.get(item["id"], SECRET),
            re.compile(item["regex"].encode()),
            SURE,
            least,
            tuple(re.compile(a.encode()) for a in item.get("allowed", ())),
        )
        if "mark" in item:
            marked.append((token, item["mark"].encode()))
        else:
            tokens.append((token, tuple(p.encode() for p in item["prefixes"])))
    return Data(
        hashlib.sha256(raw).hexdigest()[:16],
        tuple(tokens),
        tuple(marked),
        {word: tuple(rules) for word, rules in named.items()},
        re.compile(data["names_allowed"].encode()),
        tuple(re.compile(a.encode()) for a in data["allowed"]),
        StopWords(data["stop_words"]),
    )


def alternation(words: Iterable[bytes]) -> bytes:
    """An expression for one of the words, with common beginnings shared, so that a mismatch costs one step."""
    tails: dict[bytes, list[bytes]] = {}
    empty = False
    for word in words:
        if word:
            tails.setdefault(word[:1], []).append(word[1:])
        else:
            empty = True
    if not tails:
        return b""
    parts = [re.escape(first) + alternation(rest) for first, rest in sorted(tails.items())]
    body = parts[0] if len(parts) == 1 and not empty else b"(?:" + b"|".join(parts) + b")"
    return b"(?:" + body + b")?" if empty else body
