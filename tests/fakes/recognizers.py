"""A user's recognizers, as a YAML file and as the source of a module."""

from __future__ import annotations

from pathlib import Path

STAFF = r"""
recognizers:
  - name: Badges
    supported_languages: [en, {language: zh, context: [工号]}]
    supported_entity: BADGE
    patterns:
      - {name: badge, regex: "\\bB-\\d{4}\\b", score: 0.3}
    context: [badge]
  - name: Projects
    supported_language: de
    supported_entity: PROJECT
    deny_list: [Blue Heron, 蓝鹭]
"""

CODE = '''
"""Recognizers as a user writes them for presidio-analyzer."""

import ctypes
import os
import sys
import threading

from presidio_analyzer import EntityRecognizer, Pattern, PatternRecognizer, RecognizerResult

print("loading")


class Ticket(PatternRecognizer):
    """A pattern, context words and a check of its own."""

    def __init__(self):
        super().__init__("TICKET", patterns=[Pattern("ticket", r"T\\d{5}", 0.3)], context=["ticket"])

    def validate_result(self, pattern_text):
        print("seen", pattern_text, flush=True)
        print("seen", pattern_text, file=sys.stderr, flush=True)
        return None if int(pattern_text[-1]) % 2 == 0 else False


class Last(EntityRecognizer):
    """The word behind `codename`; some words make it fail."""

    def __init__(self):
        super().__init__(["CODENAME"], supported_language="fr")

    def load(self):
        self.word = "codename "

    def analyze(self, text, entities, nlp_artifacts=None):
        if "please fail" in text:
            raise RuntimeError(text)
        if "please exit" in text:
            os._exit(3)
        if "please crash" in text:
            ctypes.string_at(0)
        if "please hang" in text:
            threading.Event().wait()
        if "please overreach" in text:
            return [RecognizerResult("CODENAME", 0, len(text) + 1, 0.5)]
        if "please surprise" in text:
            return [RecognizerResult("OTHER", 0, 3, 0.5)]
        start = text.find(self.word)
        if start < 0:
            return None
        start += len(self.word)
        end = text.find(" ", start)
        return [RecognizerResult("CODENAME", start, end if end > 0 else len(text), 0.8)]


class NoRecognizer:
    """What is none."""
'''


def write(folder: Path) -> None:
    """Both into the folder: staff.yaml and the module house_rules."""
    (folder / "staff.yaml").write_text(STAFF, "utf-8")
    (folder / "house_rules.py").write_text(CODE, "utf-8")
