"""presidio-analyzer itself, as the engine is compared with it: no NER, and no network for the list of suffixes."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, Final

_SURROGATE: Final = re.compile("[\ud800-\udfff]")
Found = set[tuple[str, int, int, float]]


class Oracle:
    """AnalyzerEngine with its default registry less the SpacyRecognizer."""

    def __init__(self, tokens: str, recognizers: Sequence[Any] = ()) -> None:
        import spacy
        import tldextract
        from presidio_analyzer import AnalyzerEngine
        from presidio_analyzer.nlp_engine import NlpArtifacts, NoOpNlpEngine, SpacyNlpEngine
        from presidio_analyzer.predefined_recognizers.generic import email_recognizer
        from presidio_analyzer.recognizer_registry import RecognizerRegistry

        # Presidio's own call tries the network on first use; the snapshot that comes with the package will do.
        vars(email_recognizer)["tldextract"] = SimpleNamespace(
            extract=tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)
        )

        class Blank(SpacyNlpEngine):
            """Tokens of a blank pipeline; it has no lemmas, so each token's own text is its lemma."""

            def load(self) -> None:
                vars(self)["nlp"] = {"en": spacy.blank("en")}

            def _doc_to_nlp_artifact(self, doc: Any, language: str) -> Any:
                return NlpArtifacts(
                    entities=[],
                    tokens=doc,
                    tokens_indices=[token.idx for token in doc],
                    lemmas=[token.text for token in doc],
                    nlp_engine=self,
                    language=language,
                )

        registry = RecognizerRegistry()
        registry.load_predefined_recognizers(languages=["en"])
        registry.recognizers = [r for r in registry.recognizers if type(r).__name__ != "SpacyRecognizer"]
        for recognizer in recognizers:
            registry.add_recognizer(recognizer)
        self._tokens = tokens
        models = [{"lang_code": "en", "model_name": "none"}]
        engine = NoOpNlpEngine(models) if tokens == "none" else Blank(models)
        self.analyzer = AnalyzerEngine(registry=registry, nlp_engine=engine, supported_languages=["en"])

    def find(self, text: str) -> Found:
        """What presidio finds. spaCy refuses lone surrogates, so it is shown another character that is in no class."""
        if self._tokens == "blank":
            text = _SURROGATE.sub("\ue000", text)
        return {(r.entity_type, r.start, r.end, r.score) for r in self.analyzer.analyze(text, "en")}


@functools.cache
def oracle(tokens: str) -> Oracle:
    """One for all tests: importing and building it takes seconds."""
    return Oracle(tokens)


def from_yaml(definition: Mapping[str, Any]) -> Any:
    """Presidio's recognizer of a definition, as it reads it from a file."""
    from presidio_analyzer.recognizer_registry.recognizers_loader_utils import RecognizerListLoader

    loader: Any = RecognizerListLoader
    listed = list(loader.get(recognizers=[dict(definition)], supported_languages=["en"], global_regex_flags=26))
    return listed[0]
