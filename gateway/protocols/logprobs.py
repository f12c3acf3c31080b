"""Token probabilities repeat a text in pieces: tokens, their bytes, and the tokens that were not chosen.

They need no channel of their own where they add up to a text that has one; all others cannot be judged and are dropped.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from gateway.protocols.jsontext import ARRAY, LITERAL, NUMBER, NUMBERS, OBJECT, STRING, Node, numbers, unquote
from gateway.protocols.shapes import LONG_INTEGER, LONG_NUMBER

_ALTERNATIVE_CHARS_MAX: Final = (
    24  # our choice: the longest token of common vocabularies that is no run of spaces is shorter
)


def _harmless(token: str) -> bool:
    """A token that was not chosen: too short to hold an identifier."""
    return not token.strip() or (
        len(token) <= _ALTERNATIVE_CHARS_MAX and "@" not in token and not LONG_NUMBER.search(token)
    )


def logprobs_fit(node: Node, texts: Mapping[str, str]) -> bool:
    """True if the tokens say what the text says and nothing more, so that judging the text judges them."""
    if any(key == "tokens" for key, _ in node.members):
        return _completion_logprobs_fit(node, texts.get("content", ""))
    for key, child in node.members:
        if key not in ("content", "refusal"):
            return False
        if child.kind == ARRAY and not _tokens_fit(child.items, texts.get(key, "")):
            return False
        if child.kind not in (ARRAY, LITERAL):
            return False
    return not node.repeated


def _tokens_fit(items: Sequence[Node], text: str) -> bool:
    tokens: list[str] = []
    pieces: list[bytes] = []
    for item in items:
        token = _token(item, alternatives=True)
        if token is None:
            return False
        tokens.append(token[0])
        pieces.append(token[1])
    return "".join(tokens) == text or b"".join(pieces) == text.encode("utf-8", "surrogatepass")


def _token(item: Node, *, alternatives: bool) -> tuple[str, bytes] | None:
    """A token and its bytes; None if it says more than one token can."""
    token: str | None = None
    raw: bytes | None = None
    for key, child in item.members:
        if key == "token" and child.kind == STRING:
            token = child.value
        elif key == "logprob" and child.kind == NUMBER and not LONG_INTEGER.search(child.value):
            continue
        elif key == "bytes" and child.kind == NUMBERS:
            found = numbers(child)
            if any(not n.isdigit() or len(n) > 3 or int(n) > 255 for n in found):
                return None
            raw = bytes(map(int, found))
        elif key == "top_logprobs" and alternatives and child.kind == ARRAY:
            for other in child.items:
                alternative = _token(other, alternatives=False)
                if alternative is None or not _harmless(alternative[0]):
                    return None
        elif (key in ("bytes", "top_logprobs") and child.kind in (LITERAL, ARRAY) and not child.items) or (
            key == "logprob" and child.kind == LITERAL
        ):
            continue
        else:
            return None
    if token is None or item.repeated:
        return None
    encoded = token.encode("utf-8", "surrogatepass")
    # Bytes that are no whole character have a stand-in as their token; then the bytes must be few.
    if raw is not None and raw != encoded and (len(raw) > 4 or not _STAND_IN.fullmatch(token) or _READABLE.search(raw)):
        return None
    return token, encoded if raw is None else raw


# Such bytes are parts of one character; at most a blank before it. A digit among them would be a text of its own.
_READABLE = re.compile(rb"[\x21-\x7e]")
_STAND_IN = re.compile(r"(?:bytes:)?(?:\\x[0-9a-f]{2}){1,4}|�+")


def _completion_logprobs_fit(node: Node, text: str) -> bool:
    fits = False
    for key, child in node.members:
        if key == "tokens" and child.kind == ARRAY:
            if any(item.kind != STRING for item in child.items) or "".join(i.value for i in child.items) != text:
                return False
            fits = True
        elif key == "top_logprobs" and child.kind == ARRAY:
            for item in child.items:
                for other, probability in item.members:
                    if not _harmless(other) or probability.kind not in (NUMBER, LITERAL):
                        return False
                if item.kind not in (OBJECT, LITERAL):
                    return False
        elif key in ("token_logprobs", "text_offset", "top_logprobs"):
            if child.kind in (ARRAY, NUMBERS) and _only_numbers(child):
                continue
            if child.kind != LITERAL:
                return False
        else:
            return False
    return fits and not node.repeated


def _only_numbers(node: Node) -> bool:
    if node.kind == NUMBERS:
        return not LONG_INTEGER.search(node.value)
    return all(i.kind == LITERAL or (i.kind == NUMBER and not LONG_INTEGER.search(i.value)) for i in node.items)


# The form in which nearly all servers write the one token of a delta, so that a stream needs no tree for it. Stricter
# than the rules above and than JSON: what does not match is read in full.
_TEXT = rb'(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})){0,256}+'
_NUMBER = rb"-?(?:0|[1-9][0-9]{0,5})(?:\.[0-9]{1,20})?(?:[eE][-+]?[0-9]{1,2})?"
_BYTE = rb"(?:0|[1-9][0-9]{0,2})"
_BYTES = rb"(?:null|\[(?:" + _BYTE + rb"(?:, ?" + _BYTE + rb")*+)?\])"
_FACTS = rb'"token": ?"(%b)", ?"logprob": ?%b, ?"bytes": ?(%b)' % (_TEXT, _NUMBER, _BYTES)
_ALTERNATIVE = re.compile(rb"\{" + _FACTS + rb"\}")
_UNNAMED = rb'\{"token": ?"%b", ?"logprob": ?%b, ?"bytes": ?%b\}' % (_TEXT, _NUMBER, _BYTES)
_ONE_TOKEN = re.compile(
    rb'\{"content": ?\[\{'
    + _FACTS
    + rb', ?"top_logprobs": ?\[((?:'
    + _UNNAMED
    + rb"(?:, ?"
    + _UNNAMED
    + rb")*+)?)\]\}\]"
    rb'(?:, ?"refusal": ?null)?\}'
).match


def end_of_logprobs(frame: bytes, at: int, said: bytes) -> int:
    """Where the logprobs that begin there end, if they are one token that says what the text says (`said`, escaped).

    -1: they are not, or only a full reading can tell.
    """
    match = _ONE_TOKEN(frame, at)
    if match is None:
        return -1
    token, raw, others = match.groups()
    if token != said:
        return -1
    try:
        if not _same_bytes(_decoded(token), raw):
            return -1
        for other, other_raw in _ALTERNATIVE.findall(others):
            text = _decoded(other)
            if not _harmless(text) or not _same_bytes(text, other_raw):
                return -1
    except UnicodeDecodeError:
        return -1
    return match.end()


def _decoded(token: bytes) -> str:
    return unquote(token.decode()) if b"\\" in token else token.decode()


def _same_bytes(token: str, raw: bytes) -> bool:
    if raw in (b"null", b"[]"):
        return True
    return raw[1:-1].replace(b" ", b"") == b",".join([b"%d" % byte for byte in token.encode("utf-8", "surrogatepass")])
