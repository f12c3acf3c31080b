"""People, addresses and contact data in Latin text, by the Rampart model (a small BERT tagger), 8-bit (build.py).

One segment at a time, never padded: the network's activations are quantised over what it is given, so a batch would
let one segment change another's numbers (L10).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from filters.finding import Finding
from filters.names.models import RAMPART_BUILT, RAMPART_TOKENIZER, checked
from filters.names.runtime import session

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

# What the model calls things (config.json, id2label), in its order: O, then B- and I- of each.
LABELS: Final = (
    "GIVEN_NAME", "SURNAME", "EMAIL", "PHONE", "URL", "TAX_ID", "BANK_ACCOUNT", "ROUTING_NUMBER", "GOVERNMENT_ID",
    "PASSPORT", "DRIVERS_LICENSE", "BUILDING_NUMBER", "STREET_NAME", "SECONDARY_ADDRESS", "CITY", "STATE", "ZIP_CODE",
)  # fmt: skip
# What a policy calls them. Parts of a name, and of an address, are one thing. Mail addresses, URLs and phone,
# bank and license numbers are left to the patterns: on business messages the model takes 93 order and customs numbers in 400 for phones.
ENTITIES: Final = {
    "GIVEN_NAME": "PERSON",
    "SURNAME": "PERSON",
    "BUILDING_NUMBER": "LOCATION",
    "STREET_NAME": "LOCATION",
    "SECONDARY_ADDRESS": "LOCATION",
    "CITY": "LOCATION",
    "STATE": "LOCATION",
    "ZIP_CODE": "LOCATION",
}
KINDS: Final = ("PERSON", "LOCATION")
THRESHOLD: Final = 0.5  # the probability of a word's kind, from which it counts: the package's own
PIECES_MAX: Final = 510  # positions of the network, less the two marks around a text
PIECES_OVERLAP: Final = 64


class Piece(NamedTuple):
    """A run of pieces that make one word, with the probability of each of KINDS."""

    start: int
    end: int
    kind: int  # index into KINDS, -1 for none
    score: float


class Rampart:
    """The loaded model. One for each process."""

    def __init__(self) -> None:
        import numpy as np
        from tokenizers import Tokenizer

        self._session = session(checked(RAMPART_BUILT))
        self._tokenizer: Any = Tokenizer.from_str(checked(RAMPART_TOKENIZER).decode("utf-8"))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._begin = self._tokenizer.token_to_id("[CLS]")
        self._end = self._tokenizer.token_to_id("[SEP]")
        # Adds up the probabilities of all labels that mean the same kind.
        sums = np.zeros((2 * len(LABELS) + 1, len(KINDS)), np.float32)
        for index, label in enumerate(LABELS):
            if label in ENTITIES:
                sums[2 * index + 1 : 2 * index + 3, KINDS.index(ENTITIES[label])] = 1.0
        self._sums: NDArray[np.float32] = sums

    def find(self, text: str) -> list[Finding]:
        """The findings of one text, in code points. Linear in its length."""
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        ids: list[int] = encoding.ids
        if not ids:
            return []
        kinds = self._kinds(ids)
        return joined(text, words(encoding.offsets, encoding.word_ids, kinds))

    def _kinds(self, ids: list[int]) -> NDArray[np.float32]:
        """(pieces, KINDS) probabilities. What does not fit the network goes in overlapping windows."""
        import numpy as np

        if len(ids) <= PIECES_MAX:
            return self._window(ids)
        found = np.zeros((len(ids), len(KINDS)), np.float32)
        for start in range(0, len(ids) - PIECES_OVERLAP, PIECES_MAX - PIECES_OVERLAP):
            part = slice(start, start + PIECES_MAX)
            found[part] = np.maximum(found[part], self._window(ids[part]))
        return found

    def _window(self, ids: list[int]) -> NDArray[np.float32]:
        import numpy as np

        given = np.array([[self._begin, *ids, self._end]], np.int64)
        logits = self._session.run(None, {"input_ids": given})[0][0, 1:-1]
        logits -= logits.max(axis=-1, keepdims=True)
        np.exp(logits, out=logits)
        sums: NDArray[np.float32] = logits @ self._sums
        sums /= logits.sum(axis=-1, keepdims=True)
        return sums


def words(
    offsets: Sequence[tuple[int, int]], word_ids: Sequence[int | None], kinds: NDArray[np.float32]
) -> list[Piece]:
    """Puts the pieces of each word together: its kind is the one with the highest mean probability over them."""
    found: list[Piece] = []
    likely = (kinds.max(axis=1) >= THRESHOLD / 2).tolist()  # below it a piece cannot lift any word over the threshold
    size = len(word_ids)
    at = 0
    while at < size:
        end = at + 1
        while end < size and word_ids[end] == word_ids[at]:
            end += 1
        start, stop = offsets[at][0], offsets[end - 1][1]
        if any(likely[at:end]):
            mean = kinds[at:end].mean(axis=0)
            kind = int(mean.argmax())
            score = float(mean[kind])
            found.append(Piece(start, stop, kind if score >= THRESHOLD else -1, score))
        else:
            found.append(Piece(start, stop, -1, 0.0))
        at = end
    return found


def joined(text: str, pieces: Sequence[Piece]) -> list[Finding]:
    """Findings of neighboring words of one kind, each widened to whole words of the text."""
    findings: list[Finding] = []
    start = end = 0
    kind, score = -1, 0.0
    for piece in pieces:
        if kind >= 0 and piece.kind == kind and _continues(text[end : piece.start], kind):
            end, score = piece.end, max(score, piece.score)
            continue
        if kind >= 0:
            findings.append(_widened(text, start, end, kind, score))
        start, end, kind, score = piece
    if kind >= 0:
        findings.append(_widened(text, start, end, kind, score))
    return findings


def _continues(between: str, kind: int) -> bool:
    """Whether what stands between two words of a kind leaves them one thing."""
    if KINDS[kind] == "LOCATION":
        return between.strip() in {"", ",", ".", "-"} and "\n\n" not in between
    return not between or between.isspace()


_INNER: Final = frozenset("'’-")


def _widened(text: str, start: int, end: int, kind: int, score: float) -> Finding:
    """Whole words: the pieces of `O'Connor` or `Jean-Luc` are words of their own to the tokenizer."""
    whole = str.isalnum
    limit = len(text)
    while start > 0 and (
        whole(text[start - 1]) or (text[start - 1] in _INNER and start > 1 and whole(text[start - 2]))
    ):
        start -= 1
    while end < limit and (whole(text[end]) or (text[end] in _INNER and end + 1 < limit and whole(text[end + 1]))):
        end += 1
    return Finding(KINDS[kind], start, end, round(score, 4))
