"""People, places and organisations in English text, by spaCy's medium English model: its entity recognizer alone.

That component has a network of its own, so none of the others is loaded. Its words are forgotten after each text
(memory zone): otherwise every word ever seen would stay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from filters.finding import Finding
from filters.names.models import SPACY_FILES, ModelError, checked

if TYPE_CHECKING:
    from collections.abc import Sequence

ENTITIES: Final = {"PERSON": "PERSON", "GPE": "LOCATION", "LOC": "LOCATION", "FAC": "LOCATION", "ORG": "ORGANIZATION"}
SCORE: Final = 0.85  # the model gives none; the one that presidio's spaCy recognizer reports
_UNUSED: Final = ("tok2vec", "tagger", "parser", "senter", "attribute_ruler", "lemmatizer")


class SpacyMd:
    """The loaded model. One for each process."""

    def __init__(self) -> None:
        for file in SPACY_FILES:
            checked(file)
        import spacy

        try:
            self._nlp: Any = spacy.load(SPACY_FILES[0].path.parent, exclude=list(_UNUSED))
        except (OSError, ValueError) as error:
            raise ModelError("the installed spaCy cannot load its model: version 3.8 can") from error
        self._tokenize = self._nlp.tokenizer
        self._recognizer = self._nlp.get_pipe("ner")

    def find(self, texts: Sequence[str]) -> list[list[Finding]]:
        """The findings of each text, in its code points. Each text is judged alone, so a batch changes nothing."""
        found: list[list[Finding]] = []
        with self._nlp.memory_zone():
            for text in texts:
                doc = self._recognizer(self._tokenize(text))
                found.append([
                    Finding(ENTITIES[entity.label_], entity.start_char, entity.end_char, SCORE)
                    for entity in doc.ents
                    if entity.label_ in ENTITIES
                ])  # fmt: skip
        return found
