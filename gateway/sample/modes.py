"""The model names and what each does. The list is in the package's docstring."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from enum import Enum
from typing import Final

from gateway.sample.text import compose, count, mixed, seed_of, stopped, tokens_of

# Statuses that make sense as an answer to a call; 529 is Anthropic's "overloaded".
STATUS_MIN: Final = 400
STATUS_MAX: Final = 599
LARGE_KB_MAX: Final = 65_536
SLOW_FACTOR: Final = 10.0
CHOICES_MAX: Final = 16
REASONING_WORDS: Final = 24
# A refusal of fixed words, so that tests can tell it from everything else.
REFUSAL: Final = "I am sorry, but I cannot help with that."


class Fault(Enum):
    """How the connection misbehaves."""

    NONE = "none"
    STALL_FIRST = "stall-first"
    STALL = "stall"
    CUT = "cut"


@dataclass(frozen=True, slots=True)
class Mode:
    """What one model name asks for."""

    name: str
    pace: float = 1.0  # times --token-interval-ms
    says: str = "write"  # write | mixed | echo | decode | large | tools | reasoning | refusal
    chars: bool = False  # one character a token
    size_kb: int = 0
    status: int = 200
    fault: Fault = Fault.NONE
    never_streams: bool = False
    states: str = ""  # the model it says it is; empty: the one asked for
    states_late: bool = False
    unknown: bool = False
    gzip: bool = False

    def stated(self, late: bool = False) -> str:
        """The model name in an answer; `late`: past the middle of a stream."""
        return self.states if self.states and (late or not self.states_late) else self.name


def mode(name: str) -> Mode | None:
    """What a model name asks for; None if there is no such model."""
    base, _, number = name.rpartition("-")
    if base == "sample-error" and number.isascii() and number.isdecimal() and STATUS_MIN <= int(number) <= STATUS_MAX:
        return Mode(name, status=int(number))
    if base == "sample-large" and number.isascii() and number.isdecimal() and 0 < int(number[:6]) <= LARGE_KB_MAX:
        return Mode(name, says="large", size_kb=int(number), pace=0.0)
    return _MODES.get(name)


_MODES: Final = {
    found.name: found
    for found in (
        Mode("sample"),
        Mode("sample-n"),
        Mode("sample-fast", pace=0.0),
        Mode("sample-mixed", says="mixed", pace=0.0),
        Mode("sample-slow", pace=SLOW_FACTOR),
        Mode("sample-echo", says="echo"),
        Mode("sample-echo-chars", says="echo", chars=True, pace=0.0),
        Mode("sample-decode", says="decode"),
        Mode("sample-decode-chars", says="decode", chars=True, pace=0.0),
        Mode("sample-tools", says="tools"),
        Mode("sample-reasoning", says="reasoning"),
        Mode("sample-refusal", says="refusal"),
        Mode("sample-stall-first", fault=Fault.STALL_FIRST),
        Mode("sample-stall", fault=Fault.STALL),
        Mode("sample-cut", fault=Fault.CUT),
        Mode("sample-json", never_streams=True),
        Mode("sample-drift", states="another-model-1"),
        Mode("sample-drift-late", states="another-model-1", states_late=True),
        Mode("sample-unknown-event", unknown=True),
        Mode("sample-gzip", gzip=True),
        Mode("sample-redirect", status=307),
    )
}

# What /v1/models lists: the names that answer without mischief.
LISTED: Final = ("sample", "sample-fast", "sample-slow", "sample-echo", "sample-tools", "sample-reasoning")


@dataclass(frozen=True, slots=True)
class Say:
    """What is to be said in one choice, whatever the dialect."""

    tokens: list[str]
    reasoning: list[str]
    finish: str  # stop | length | refusal
    stop: str | None = None  # the stop sequence that ended it

    @property
    def text(self) -> str:
        """All of it."""
        return "".join(self.tokens)


def say(made: Mode, prompt: bytes, last: str, seed: int, choice: int, words_max: int | None, stops: list[str]) -> Say:
    """What one choice says. `prompt` is all that was asked, as bytes; `last` the last thing the user said."""
    number = seed_of(prompt, str(seed).encode(), str(choice).encode())
    reasoning = compose(number ^ 1, REASONING_WORDS) if made.says == "reasoning" else []
    finish = "stop"
    if made.says == "refusal":
        tokens, finish = tokens_of(REFUSAL), "refusal"
    elif made.says == "echo":
        tokens = tokens_of(last)
    elif made.says == "decode":
        tokens = tokens_of(decoded(last))
    elif made.says == "mixed":
        tokens = mixed(number)
    elif made.says == "large":
        tokens = compose(
            number, 250 * made.size_kb
        )  # words of the corpus have more than four letters on average, space included
    else:
        tokens = compose(number)
    if made.chars:
        tokens = list("".join(tokens))
    tokens, stop = stopped(tokens, stops)
    if words_max is not None and len(tokens) > words_max:
        tokens, finish, stop = tokens[:words_max], "length", None
    return Say(tokens, reasoning, finish, stop)


def decoded(text: str) -> str:
    """`text` out of base64; a plain sentence where it is none."""
    try:
        return base64.b64decode(text.strip(), validate=True).decode("utf-8")
    except (binascii.Error, UnicodeDecodeError):
        return "That was not base64."


def arguments(schema: object, words: str, depth: int = 0) -> object:
    """A value that fits a JSON Schema: the user's words where a string is asked for, plain values elsewhere."""
    if not isinstance(schema, dict) or depth > 8:
        return words
    if isinstance(schema.get("enum"), list) and schema["enum"]:
        return schema["enum"][0]
    if "const" in schema:
        return schema["const"]
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = kind[0] if kind else None
    if kind == "object" or "properties" in schema:
        properties = schema.get("properties")
        fields = properties if isinstance(properties, dict) else {}
        return {name: arguments(inner, words, depth + 1) for name, inner in fields.items()}
    if kind == "array":
        return [arguments(schema.get("items"), words, depth + 1)]
    plain: dict[object, object] = {"integer": count(words), "number": count(words) + 0.5, "boolean": True, "null": None}
    return plain.get(kind, words)
