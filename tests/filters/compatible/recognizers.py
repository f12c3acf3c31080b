"""Recognizer classes as a user writes them for presidio-analyzer."""

from __future__ import annotations

import os
import threading
from typing import Any

from presidio_analyzer import EntityRecognizer, Pattern, PatternRecognizer, RecognizerResult


class Badge(PatternRecognizer):
    """A pattern with a check of its own."""

    def __init__(self) -> None:
        super().__init__("BADGE", patterns=[Pattern("badge", r"B-\d{4}", 0.4)])

    def validate_result(self, pattern_text: str) -> bool:
        """Even badges only."""
        print("seen", pattern_text)
        return int(pattern_text[-1]) % 2 == 0


class Last(EntityRecognizer):
    """A recognizer without patterns; some words make it fail, return what it must not, or never return."""

    def __init__(self) -> None:
        super().__init__(["LAST"])

    def load(self) -> None:
        """Nothing to load."""

    def analyze(self, text: str, entities: list[str], nlp_artifacts: Any = None) -> Any:
        """The last word of a text."""
        if text == "fail":
            raise RuntimeError(text)
        if text == "exit":
            os._exit(3)
        if text == "hang":
            threading.Event().wait()
        if text == "outside":
            return [RecognizerResult("LAST", 0, len(text) + 1, 0.5)]
        if not text:
            return None
        return [RecognizerResult("LAST", text.rfind(" ") + 1, len(text), 0.5)]
