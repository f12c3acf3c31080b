"""Multipart forms (RFC 7578), read in one pass, within bounds, and only where every reader reads the same.

The form leaves as it came, so the endpoint parses it again, with a parser that nobody here knows. General parsers accept
what others read differently: preambles, padded or bare-LF boundaries, unquoted or extended names, nested parts,
encodings of parts. Those are refused, and the one form is read that all SDKs write:

    --B CRLF Content-Disposition: form-data; name="n"[; filename="f"] CRLF [Content-Type: t/s CRLF] CRLF content CRLF
    ... --B-- [CRLF]

`--B` may stand nowhere else, whatever surrounds it, and each field once. Files are hashed as they pass and not kept.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Final, NoReturn

import msgspec

from gateway.errors import CallerError
from gateway.protocols.training import FormField, Part
from gateway.reasons import Reason

if TYPE_CHECKING:
    from hashlib import _Hash

PARTS_MAX: Final = 64  # our choice: ElevenLabs takes 25 recordings, OpenAI's forms have five fields
HEAD_BYTES_MAX: Final = 1024  # of one part: two lines, the longest name of a file and its type
FIELD_BYTES_MAX: Final = 8192  # our choice: a description has 500 characters, labels are a small object
NAME_CHARS_MAX: Final = 255  # of a file: NAME_MAX of common file systems

ALGORITHMS: Final = ("sha256", "sm3")

# RFC 2046, section 5.1.1, without the space; in a Content-Type the characters that are no token must be quoted.
_BOUNDARY: Final = re.compile(
    rb"multipart/form-data[ \t]*;[ \t]*boundary=(?:\"([A-Za-z0-9'()+_,./:=?-]{1,70})\"|([A-Za-z0-9'+_.-]{1,70}))",
    re.IGNORECASE,
)
_TOKEN: Final = re.compile(r"[A-Za-z0-9'+_.-]+")
_DISPOSITION: Final = re.compile(
    rb"content-disposition: ?form-data; ?name=\"([A-Za-z0-9_\[\]]{1,64})\""
    rb"(?:; ?filename=\"([^\"\\/\x00-\x1f\x7f]{1,1020})\")?",
    re.IGNORECASE,
)
_MEDIA: Final = re.compile(
    rb"content-type: ?([a-z0-9][a-z0-9.+-]{0,63}/[a-z0-9][a-z0-9.+-]{0,63})(?:; ?charset=utf-8)?", re.IGNORECASE
)
_COMPOSED: Final = ("multipart/", "message/")
_UNREADABLE: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x85\u2028\u2029]")


def boundary_of(content_type: bytes) -> bytes:
    """The boundary that a Content-Type states. Raises CallerError(ENCODING_UNSUPPORTED)."""
    match = _BOUNDARY.fullmatch(content_type)
    if match is None:
        raise CallerError(
            Reason.ENCODING_UNSUPPORTED,
            "Send this form as uncompressed multipart/form-data with one boundary and no other parameter.",
        )
    return match[1] or match[2]


def content_type(boundary: str) -> bytes:
    """A Content-Type with the boundary, and nothing else of what the caller wrote."""
    shown = boundary if _TOKEN.fullmatch(boundary) else f'"{boundary}"'
    return f"multipart/form-data; boundary={shown}".encode("ascii")


class FormReader:
    """Reads one form: `feed` its bytes as they come, then `close`. Both raise CallerError(BODY_MALFORMED)."""

    def __init__(
        self, boundary: bytes, fields: Mapping[str, FormField], *, algorithms: Collection[str] = ALGORITHMS[:1]
    ) -> None:
        self._delimiter = b"--" + boundary
        self._fields = fields
        self._algorithms = [name for name in ALGORITHMS if name in algorithms]
        self._buffer = b""
        self._step: Callable[[], bool] = self._begin
        self._parts: list[Part] = []
        self._part = Part("")
        self._value = bytearray()
        self._hashes: list[tuple[str, _Hash]] = []
        self._bytes = 0

    def feed(self, data: bytes) -> None:
        """Some more of the form."""
        self._buffer = self._buffer + data if self._buffer else data
        while self._step():
            pass

    def close(self) -> tuple[Part, ...]:
        """All parts, now that the form has ended."""
        if self._step != self._end or self._buffer not in (b"", b"\r\n"):
            _refuse("ends before its last boundary")
        return tuple(self._parts)

    # Each step takes what it can from the buffer and says whether another one may go on.

    def _begin(self) -> bool:
        start = self._delimiter + b"\r\n"
        if not self._buffer.startswith(start):
            if start.startswith(self._buffer):
                return False
            _refuse("does not begin with its boundary")
        self._take(len(start), self._head)
        return True

    def _head(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n", 0, HEAD_BYTES_MAX + 4)
        if end < 0:
            if len(self._buffer) >= HEAD_BYTES_MAX + 4:
                _refuse(f"has a part whose head is longer than {HEAD_BYTES_MAX} bytes, or does not end")
            return False
        head = self._buffer[:end]
        if len(self._parts) == PARTS_MAX:
            _refuse(f"has more than {PARTS_MAX} parts")
        if self._delimiter in head:
            _refuse("has its boundary inside of a part")
        self._part = self._named(head.split(b"\r\n"))
        self._value.clear()
        self._bytes = 0
        self._hashes = [(name, hashlib.new(name)) for name in self._algorithms] if self._part.filename else []
        self._take(end + 4, self._content)
        return True

    def _named(self, lines: Iterable[bytes]) -> Part:
        disposition = media = None
        for line in lines:
            named, typed = _DISPOSITION.fullmatch(line), _MEDIA.fullmatch(line)
            if named is not None and disposition is None:
                disposition = named
            elif typed is not None and media is None:
                media = typed
            else:
                _refuse("has a part with other lines than one Content-Disposition and one plain Content-Type")
        if disposition is None:
            _refuse("has a part without a name")
        name = disposition[1].decode("ascii")
        known = self._fields.get(name)
        if known is None:
            _refuse(f"has a field that is not known here; known are {', '.join(self._fields)}")
        if not known.many and any(part.name == name for part in self._parts):
            _refuse("has this field twice: servers differ in which one they read", name)
        if known.file != (disposition[2] is not None):
            _refuse("must be a file with a name" if known.file else "must be a plain field, not a file", name)
        kind = media[1].decode("ascii").lower() if media is not None else ""
        if not known.file and kind not in ("", "text/plain"):
            _refuse("must be plain text: in another type its characters could be spelled in other ways", name)
        if kind.startswith(_COMPOSED):
            _refuse("is composed of further parts", name)
        return Part(name, filename=_filename(disposition[2], name) if known.file else "", media=kind)

    def _content(self) -> bool:
        found = self._buffer.find(self._delimiter)
        if found < 0:
            # The boundary may have begun, and the line end before it.
            self._pass(max(0, len(self._buffer) - len(self._delimiter) - 1))
            return False
        behind = found + len(self._delimiter)
        tail = self._buffer[behind : behind + 2]
        if len(tail) < 2:
            return False
        if self._buffer[max(0, found - 2) : found] != b"\r\n" or tail not in (b"\r\n", b"--"):
            _refuse("has its boundary inside of a part; take a random one")
        self._pass(found - 2)
        self._finish()
        self._take(len(self._delimiter) + 4, self._head if tail == b"\r\n" else self._end)
        return True

    def _end(self) -> bool:
        if self._buffer not in (b"", b"\r", b"\r\n"):
            _refuse("goes on behind its last boundary")
        return False

    def _take(self, count: int, step: Callable[[], bool]) -> None:
        self._buffer = self._buffer[count:]
        self._step = step

    def _pass(self, count: int) -> None:
        """So much of the buffer is content."""
        data = self._buffer[:count]
        self._buffer = self._buffer[count:]
        self._bytes += count
        for _, hashed in self._hashes:
            hashed.update(data)
        if not self._hashes:
            if self._bytes > FIELD_BYTES_MAX:
                _refuse(f"is longer than {FIELD_BYTES_MAX} bytes", self._part.name)
            self._value += data

    def _finish(self) -> None:
        part = self._part
        if self._hashes:
            digests = tuple(f"{name}:{hashed.hexdigest()}" for name, hashed in self._hashes)
            self._parts.append(msgspec.structs.replace(part, digests=digests, bytes=self._bytes))
            return
        try:
            text = self._value.decode("utf-8")
        except UnicodeDecodeError:
            _refuse("is not UTF-8", part.name)
        if _UNREADABLE.search(text):
            _refuse("holds control characters", part.name)
        self._parts.append(msgspec.structs.replace(part, text=text, bytes=self._bytes))


def _filename(raw: bytes, param: str) -> str:
    try:
        name = raw.decode("utf-8")
    except UnicodeDecodeError:
        _refuse("has a file name that is not UTF-8", param)
    # Not printable are also marks that turn the direction of what follows, so that a name reads as another.
    if not name.isprintable() or name.strip() != name or name.strip(".") == "" or len(name) > NAME_CHARS_MAX:
        _refuse(f"has a file name that is no plain name of at most {NAME_CHARS_MAX} printable characters", param)
    return name


def _refuse(what: str, param: str | None = None) -> NoReturn:
    """Raises the caller's error; `param` is a name of the dialect, never the caller's text."""
    subject = f"`{param}`" if param else "The form"
    raise CallerError(Reason.BODY_MALFORMED, f"{subject} {what}.", param=param)
