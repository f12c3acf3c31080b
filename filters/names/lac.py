"""People, places and organisations in Chinese text, by Baidu's LAC (a character tagger: two GRU layers and a CRF).

The package's own runner sets no thread count and decodes with a slow loop; this one runs the same network alone.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Final

from filters.finding import Finding
from filters.names.models import LAC_ENCODER, LAC_FOLDS, LAC_TAGS, LAC_TRANSITIONS, LAC_WORDS, checked
from filters.names.runtime import session

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ENTITIES: Final = {"PER": "PERSON", "LOC": "LOCATION", "ORG": "ORGANIZATION"}
SCORE: Final = 0.85  # the precision of its people and places on news, about
_UNKNOWN: Final = "OOV"


def _table(data: bytes) -> list[tuple[int, str]]:
    """The lines `number TAB value` of a dictionary file."""
    rows: list[tuple[int, str]] = []
    for line in data.decode("utf-8").split("\n"):
        number, tab, value = line.partition("\t")
        if tab:
            rows.append((int(number), value.rstrip("\r")))
    return rows


class Lac:
    """The loaded model. One for each process."""

    def __init__(self) -> None:
        import numpy as np

        self._session = session(checked(LAC_ENCODER))
        self._transitions: NDArray[np.float32] = np.load(io.BytesIO(checked(LAC_TRANSITIONS)), allow_pickle=False)
        words = {word: number for number, word in _table(checked(LAC_WORDS))}
        self._unknown = words[_UNKNOWN]
        folds: dict[str, str] = {}
        for line in checked(LAC_FOLDS).decode("utf-8").split("\n"):
            given, tab, folded = line.rstrip("\r").partition("\t")
            if tab:
                folds[given] = folded
        # One look-up a character: full-width and traditional forms go straight to the number of what they fold to.
        self._numbers = {word: number for word, number in words.items() if len(word) == 1}
        self._numbers |= {given: words.get(folded, self._unknown) for given, folded in folds.items()}
        tags = dict(_table(checked(LAC_TAGS)))  # numbers that come twice: the later name is the one in use
        self._begins = {n: ENTITIES[t[:-2]] for n, t in tags.items() if t[-2:] == "-B" and t[:-2] in ENTITIES}
        self._inside = frozenset(n for n, t in tags.items() if t.endswith("-I"))

    def find(self, text: str) -> list[Finding]:
        """The names of one text, in code points."""
        import numpy as np

        numbers, unknown = self._numbers, self._unknown
        ids = np.array([[numbers.get(c, unknown) for c in text]], np.int64)
        emissions = self._session.run(None, {"token_ids": ids, "length": np.array([len(text)], np.int64)})[0][0]
        tags = decode(emissions, self._transitions)
        findings: list[Finding] = []
        begins, inside, size = self._begins, self._inside, len(tags)
        at = 0
        while at < size:
            end = at + 1
            while end < size and tags[end] in inside:
                end += 1
            entity = begins.get(tags[at])
            if entity is not None:
                findings.append(Finding(entity, at, end, SCORE))
            at = end
        return findings


def decode(emissions: NDArray[np.float32], transitions: NDArray[np.float32]) -> list[int]:
    """The best path of tags (Viterbi), exactly.

    The model's transitions lie close together (0.41 apart at most, where emissions differ by 10): a tag whose emission
    falls behind the best one by more than two transitions can win or lose is on no best path. So most characters are
    decided by their emission alone, and only the few runs between them are searched.
    """
    import numpy as np

    margin = 2 * float(transitions.max() - transitions.min()) + 1e-3  # the last part covers rounding
    best = emissions.argmax(axis=1)
    tags: list[int] = best.tolist()
    rivals = (emissions >= emissions.max(axis=1, keepdims=True) - margin).sum(axis=1)
    open_at = np.flatnonzero(rivals > 1)
    if len(open_at) == 0:
        return tags
    size = len(tags)
    positions = open_at.tolist()
    index = 0
    while index < len(positions):
        first = last = positions[index]
        index += 1
        while index < len(positions) and positions[index] == last + 1:
            last = positions[index]
            index += 1
        if first == last:  # between two certain ones, as most are
            row = emissions[first]
            if first > 0:
                row = row + transitions[tags[first - 1]]
            if first + 1 < size:
                row = row + transitions[:, tags[first + 1]]
            tags[first] = int(row.argmax())
        else:
            start, end = max(first - 1, 0), min(last + 2, size)
            tags[start:end] = search(emissions[start:end], transitions)
    return tags


def search(emissions: NDArray[np.float32], transitions: NDArray[np.float32]) -> list[int]:
    """The best path of tags over all of them. Back-pointers are recomputed along that one path, not kept for each."""
    import numpy as np

    best = emissions.copy()
    step = np.empty_like(transitions)
    for at in range(1, len(best)):
        np.add(transitions, best[at - 1][:, None], out=step)
        best[at] += step.max(axis=0)
    tag = int(best[-1].argmax())
    path = [tag]
    for at in range(len(best) - 2, -1, -1):
        tag = int((best[at] + transitions[:, tag]).argmax())
        path.append(tag)
    path.reverse()
    return path
