"""Recognizers that a user wrote as classes of presidio-analyzer, run unchanged in a process of their own.

The process is started with `python -m filters.compatible.classes module:Class ...` and imports presidio-analyzer and the
user's modules; the process that judges texts imports neither. Requests and answers are lines of JSON over its standard
input and output (ASCII, so that any text goes through), one at a time. Nothing a class returns is trusted: an answer out
of shape, an error, or a deadline that passes ends the process and refuses the texts; the next request starts another.

A class gets what presidio's AnalyzerEngine gives it under its `no_op` engine. Presidio takes a recognizer that returns None
for one that found nothing, and so does this.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import selectors
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any, Final

from filters.finding import Finding, UndecidedError

START_S: Final = 30.0  # importing presidio-analyzer takes 4 s of CPU (measured); a busy host is slower. Our choice.
ANSWER_BYTES_MAX: Final = 16 << 20  # 200,000 findings; more is no answer. Our choice.
_READ_BYTES: Final = 1 << 16
_STOP_S: Final = 2.0


class ClassRecognizers:
    """Runs recognizer classes, named `module:Class`, in one process. Safe to call from several threads: one at a time.

    Start several to use several cores. `close` ends the process; so does the end of this one.
    """

    def __init__(self, paths: Sequence[str], *, start_s: float = START_S) -> None:
        for path in paths:
            module, _, name = path.partition(":")
            if not module or not name:
                raise ValueError(f"a recognizer class is named module:Class, not {path!r}")
        self._paths = tuple(paths)
        self._start_s = start_s
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self.entities: frozenset[str] = frozenset()

    def start(self) -> None:
        """Starts the process and waits until the classes are loaded; raises UndecidedError when they cannot be."""
        with self._lock:
            self._started()

    def find(self, texts: Sequence[str], deadline_s: float) -> list[list[Finding]]:
        """The findings of each text, sorted by place. Raises UndecidedError when the deadline passes or a class fails.

        The deadline covers the wait for other callers and for the answer; starting the process has a bound of its own.
        """
        until = time.monotonic() + deadline_s
        if not self._lock.acquire(timeout=max(0.0, deadline_s)):
            raise UndecidedError("the recognizer classes were busy until the deadline", limit=True)
        try:
            started = time.monotonic()
            process = self._started()
            until += time.monotonic() - started
            answer = self._ask(process, json.dumps(list(texts)).encode() + b"\n", until)
            return _findings(answer, texts)
        except BaseException:
            # Whatever it was, an answer may still be on its way: the next caller must not read it.
            self._end()
            raise
        finally:
            self._lock.release()

    def close(self) -> None:
        """Ends the process."""
        with self._lock:
            self._end()

    def _started(self) -> subprocess.Popen[bytes]:
        process = self._process
        if process is not None and process.poll() is None:
            return process
        self._end()
        process = self._process = subprocess.Popen(  # noqa: S603  # our own interpreter and module
            [sys.executable, "-m", __name__, *self._paths],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # a class may print what it sees (L7)
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path or "." for path in sys.path)},
        )
        assert process.stdout is not None
        assert process.stdin is not None
        os.set_blocking(process.stdout.fileno(), False)
        os.set_blocking(process.stdin.fileno(), False)
        try:
            entities = self._ask(process, b"", time.monotonic() + self._start_s)
            self.entities = frozenset(map(str, entities))
        except UndecidedError:
            self._end()
            raise
        return process

    def _ask(self, process: subprocess.Popen[bytes], request: bytes, until: float) -> Any:
        assert process.stdin is not None
        assert process.stdout is not None
        answer = bytearray()
        rest = memoryview(request)
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            if rest:
                selector.register(process.stdin, selectors.EVENT_WRITE)
            while not answer.endswith(b"\n"):
                ready = selector.select(max(0.0, until - time.monotonic()))
                if not ready:
                    raise UndecidedError("the recognizer classes did not answer in time", limit=True)
                for key, _ in ready:
                    if key.fileobj is process.stdin:
                        try:
                            rest = rest[os.write(key.fd, rest[:_READ_BYTES]) :]
                        except BrokenPipeError as error:
                            raise UndecidedError("the process of the recognizer classes has ended") from error
                        if not rest:
                            selector.unregister(process.stdin)
                        continue
                    read = os.read(key.fd, _READ_BYTES)
                    if not read:
                        raise UndecidedError("a recognizer class failed")
                    answer += read
                    if len(answer) > ANSWER_BYTES_MAX:
                        raise UndecidedError("the recognizer classes found more than is taken", limit=True)
        try:
            return json.loads(answer)
        except ValueError as error:
            raise UndecidedError("the recognizer classes answered out of shape") from error

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait(_STOP_S)
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def _findings(answer: Any, texts: Sequence[str]) -> list[list[Finding]]:
    if not isinstance(answer, list) or len(answer) != len(texts):
        raise UndecidedError("the recognizer classes answered for other texts than they were asked about")
    found: list[list[Finding]] = []
    for listed, text in zip(answer, texts, strict=True):
        try:
            ones = [Finding(str(entity), int(start), int(end), float(score)) for entity, start, end, score in listed]
        except (TypeError, ValueError, OverflowError) as error:
            raise UndecidedError("the recognizer classes answered out of shape") from error
        for one in ones:
            if not 0 <= one.start < one.end <= len(text) or not math.isfinite(one.score):
                raise UndecidedError("a recognizer class found something outside its text")
        found.append(sorted(ones, key=lambda f: (f.start, -f.end, f.entity, -f.score)))
    return found


def serve(paths: Sequence[str]) -> None:
    """The process: loads the classes, says what they may find, and answers each line until the input ends."""
    # Answers go out through a copy of standard output, which a class's own `print` cannot reach.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="ascii", newline="\n")
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    analyzer = _analyzer(paths)
    answers.write(json.dumps(sorted(analyzer.get_supported_entities("en"))) + "\n")
    answers.flush()
    for line in sys.stdin.buffer:
        found = [
            [[r.entity_type, r.start, r.end, r.score] for r in analyzer.analyze(text, "en")]
            for text in json.loads(line)
        ]
        answers.write(json.dumps(found) + "\n")
        answers.flush()


def _analyzer(paths: Sequence[str]) -> Any:
    named = [path.partition(":") for path in paths]
    classes = [getattr(importlib.import_module(module), name) for module, _, name in named]

    from presidio_analyzer import AnalyzerEngine, EntityRecognizer, RecognizerRegistry
    from presidio_analyzer.nlp_engine import NoOpNlpEngine

    registry = RecognizerRegistry(recognizers=[])
    for path, made in zip(paths, classes, strict=True):
        recognizer = made()
        if not isinstance(recognizer, EntityRecognizer):
            raise TypeError(f"{path} is no EntityRecognizer")
        registry.add_recognizer(recognizer)
    engine = NoOpNlpEngine([{"lang_code": "en", "model_name": "no_op"}])
    return AnalyzerEngine(registry=registry, nlp_engine=engine, supported_languages=["en"])


if __name__ == "__main__":
    serve(sys.argv[1:])
