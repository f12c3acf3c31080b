"""From corpus to table: which word follows which one or two words. Run it after the corpus changes; its output is kept.

    python -m gateway.sample.learn          writes ngrams.json beside this file

Pure counting, so the same corpus gives the same bytes (a test checks that the kept file is what this makes).
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import orjson

HERE: Final = Path(__file__).parent
CORPUS: Final = HERE / "corpus"
TABLE: Final = HERE / "ngrams.json"

# How many followers of a word are kept. Our choice: "the" has hundreds, and more of them make the file larger, not the text better.
FOLLOWERS_MAX: Final = 48


def learn(texts: list[str]) -> bytes:
    """The table as JSON: vocabulary, pairs of words that begin a sentence, and followers of one word and of two.

    Followers of two words are kept only where there is a choice: a single one would make the model recite its corpus.
    """
    numbers: dict[str, int] = {}
    starts: list[list[int]] = []
    after_one: dict[int, list[int]] = {}
    after_two: dict[tuple[int, int], list[int]] = {}
    for text in texts:
        for paragraph in text.split("\n\n"):
            words = [numbers.setdefault(word, len(numbers)) for word in paragraph.split()]
            vocabulary = list(numbers)
            for index, word in enumerate(words):
                begins = index == 0 or ends_sentence(vocabulary[words[index - 1]])
                if begins and index + 1 < len(words):
                    starts.append([word, words[index + 1]])
                if index + 1 < len(words):
                    _add(after_one.setdefault(word, []), words[index + 1])
                if index + 2 < len(words):
                    _add(after_two.setdefault((word, words[index + 1]), []), words[index + 2])
    table = {
        "vocabulary": list(numbers),
        "starts": starts,
        "after_one": [after_one.get(number, []) for number in range(len(numbers))],
        "after_two": [[first, second, *found] for (first, second), found in after_two.items() if len(set(found)) > 1],
    }
    return orjson.dumps(table) + b"\n"


def ends_sentence(word: str) -> bool:
    """Whether a sentence ends with this word."""
    return word.endswith((".", "?", "!"))


def corpus() -> list[str]:
    """The texts, in the order of their file names."""
    return [path.read_text(encoding="utf-8") for path in sorted(CORPUS.glob("*.txt"))]


def _add(followers: list[int], word: int) -> None:
    if len(followers) < FOLLOWERS_MAX:
        followers.append(word)


if __name__ == "__main__":
    TABLE.write_bytes(learn(corpus()))
