"""Write presidio_patterns.json from the recognizers of presidio-analyzer: `python -m filters.detectors.compile_presidio`.

A worker never imports presidio (95 MB and 4 s of CPU). The file is data: expression, score, entity, context words and
the name of the recognizer whose checks validators.py repeats. Run this when the pinned version changes; a test
compares the file with what this module would write.
"""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path
from typing import Any, Final

from filters.compiled import render

TARGET: Final = Path(__file__).with_name("presidio_patterns.json")
# Found by code of ours, not by expression: see hosts.py and phones.py.
_BY_CODE: Final = frozenset({"UrlRecognizer", "PhoneRecognizer", "EmailRecognizer"})
_LABEL: Final = re.compile(r"\(\?:([a-z]+)\)")


def _suffix_labels() -> list[str]:
    """Top-level domains: the last labels of the public suffix list that presidio's mail check reads."""
    import tldextract

    extract = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)
    labels = {suffix.rsplit(".", 1)[-1] for suffix in extract.tlds}
    return sorted({label.encode("idna").decode("ascii") for label in labels})


def build() -> dict[str, Any]:
    """The content of the file."""
    from presidio_analyzer.recognizer_registry import RecognizerRegistry

    registry = RecognizerRegistry()
    registry.load_predefined_recognizers(languages=["en"])
    patterns: list[dict[str, Any]] = []
    context: dict[str, list[str]] = {}
    url_labels: list[str] = []
    for recognizer in registry.recognizers:
        kind = type(recognizer).__name__
        if kind == "SpacyRecognizer":
            continue
        entity = recognizer.supported_entities[0]
        context[entity] = list(recognizer.context or [])
        listed: list[Any] = getattr(recognizer, "patterns", [])  # phones have none
        if kind == "UrlRecognizer":
            url_labels = sorted(set(_LABEL.findall(listed[0].regex)))
        if kind in _BY_CODE:
            continue
        patterns += [
            {"entity": entity, "recognizer": kind, "name": p.name, "score": p.score, "regex": p.regex} for p in listed
        ]
    return {
        "source": "presidio-analyzer " + importlib.metadata.version("presidio-analyzer"),
        "patterns": patterns,
        "context": context,
        "url_labels": url_labels,
        "mail_labels": _suffix_labels(),
        "iban_formats": _iban_formats(),
    }


def _iban_formats() -> dict[str, str]:
    from presidio_analyzer.predefined_recognizers.generic.iban_patterns import regex_per_country

    return dict(sorted(regex_per_country.items()))


def main() -> None:
    """Write the file."""
    TARGET.write_text(render(build()))


if __name__ == "__main__":
    main()
