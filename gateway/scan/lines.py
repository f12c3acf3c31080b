"""JSON lines: the string values of some fields, each with its line and its path.

A path names keys, with dots between; lists on the way are gone through, so `messages.content` is the content of every
message. A key that is written twice counts twice: what a reader takes is up to the reader (L4).
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

from gateway.scan.sources import UnreadableError

LINE_BYTES_MAX: Final = 16 * 1024 * 1024  # our choice: twice the longest answer that a policy lets pass by default
_PROBLEMS_MAX: Final = 5  # lines that are named; more are counted


@dataclass(frozen=True, slots=True)
class Value:
    """One string."""

    line: int
    field: str  # messages[0].content
    text: str


class _Object(list[tuple[str, Any]]):
    """An object with all its pairs."""


class LineReader:
    """The values of a file. `problems` says what could not be read."""

    def __init__(self, stream: BinaryIO, fields: Sequence[str], progress: Callable[[int], None] | None = None) -> None:
        self._stream = stream
        self._paths = [tuple(field.split(".")) for field in fields]
        self._progress = progress or (lambda count: None)
        self._wrong: list[str] = []
        self._more = 0
        self._lines = 0
        self._missing = set(fields)

    @property
    def problems(self) -> list[str]:
        """Known once all values were read."""
        problems = [*self._wrong]
        if self._more:
            problems.append(f"{self._more:,} more lines could not be read")
        if self._lines:
            problems += [f"no line has a string at {field}" for field in sorted(self._missing)]
        return problems

    def values(self) -> Iterator[Value]:
        """All of them, in order. Raises UnreadableError."""
        number = 0
        while True:
            try:
                data = self._stream.readline(LINE_BYTES_MAX + 1)
                cut = len(data) > LINE_BYTES_MAX
                while cut and not data.endswith(b"\n"):
                    self._progress(len(data))
                    data = self._stream.readline(LINE_BYTES_MAX)
                    if not data:
                        break
            except OSError as error:
                raise UnreadableError(error.strerror or type(error).__name__) from error
            if not data and not cut:
                return
            self._progress(len(data))
            number += 1
            if number == 1 and data.startswith(codecs.BOM_UTF8):
                data = data[len(codecs.BOM_UTF8) :]
            if cut:
                self._note(number, f"longer than {LINE_BYTES_MAX:,} bytes")
            elif data.strip():
                yield from self._read(number, data)

    def _read(self, number: int, data: bytes) -> Iterator[Value]:
        self._lines += 1
        try:
            document = json.loads(data.decode("utf-8"), object_pairs_hook=_Object)
        except UnicodeDecodeError:
            self._note(number, "not utf-8")
            return
        except ValueError:
            self._note(number, "not JSON")
            return
        except RecursionError:
            self._note(number, "nested too deeply")
            return
        for path in self._paths:
            for field, text in _strings(document, path, ""):
                self._missing.discard(".".join(path))
                yield Value(number, field, text)

    def _note(self, number: int, what: str) -> None:
        if len(self._wrong) < _PROBLEMS_MAX:
            self._wrong.append(f"line {number:,}: {what}")
        else:
            self._more += 1


def _strings(node: Any, path: Sequence[str], at: str) -> Iterator[tuple[str, str]]:
    """The strings below `node` at a path, each with the path as it is."""
    if isinstance(node, _Object):
        if path:
            for key, value in node:
                if key == path[0]:
                    yield from _strings(value, path[1:], f"{at}.{key}" if at else key)
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from _strings(value, path, f"{at}[{index}]")
    elif isinstance(node, str) and not path:
        yield at, node
