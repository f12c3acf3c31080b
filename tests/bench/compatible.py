"""The compatible engine beside presidio-analyzer, CPU time of one thread: `python -m tests.bench.compatible`.

Both judge the same texts in one process, turn about. `first` is a text never seen before (each made for its row), `again`
the same texts once more. Presidio runs without NER, under its `no_op` engine and with blank spaCy tokens. Texts that
presidio takes seconds for are given to the engine alone, at n and at 2n characters.
"""

from __future__ import annotations

import base64
import random
import statistics
import string
import time
from collections.abc import Callable, Sequence
from typing import Final

from filters.compatible import CompatibleEngine
from filters.compatible.engine import Tokens
from tests.filters.compatible.oracle import Oracle, oracle
from tests.filters.compatible.texts import sentence
from tests.quality.english import samples

_WORDS: Final = [
    "please", "could", "you", "help", "me", "understand", "how", "this", "works", "and", "write", "a", "short",
    "answer", "that", "my", "colleagues", "can", "read", "before", "the", "meeting", "because", "we", "want", "to",
    "compare", "several", "options", "for", "our", "project", "and", "nobody", "has", "enough", "time", "to",
    "look", "at", "all", "of", "them", "so", "a", "table", "with", "the", "main", "points", "would", "be", "great",
    "thanks", "also", "mention", "which", "of", "these", "ideas", "you", "like", "best", "and", "why", "not",
    "explain", "what", "happens", "when", "the", "function", "returns", "an", "empty", "list", "instead", "of",
    "raising", "errors", "in", "production", "code",
]  # fmt: skip
_TEXTS: Final = 60
_ADVERSARIAL_CHARS: Final = 100_000


def chat(r: random.Random, words: int) -> str:
    """Ordinary prose: sentences, a small number now and then, no identifier."""
    pieces: list[str] = []
    while len(pieces) < words:
        size = r.randrange(6, 15)
        listed = [r.choice(_WORDS) for _ in range(size)]
        if r.random() < 0.25:
            listed[r.randrange(size)] = r.choice(
                (str(r.randrange(2, 60)), f"{r.randrange(1, 12)}:30", f"{r.randrange(2, 99)}%", "2024")
            )
        pieces += [listed[0].capitalize(), *listed[1:-1], listed[-1] + r.choice(".?!,")]
    return " ".join(pieces[:words])


def corpus(count: int, seed: int) -> list[str]:
    """Sentences from the templates and identities of presidio-evaluator."""
    return [sample.text for sample in samples(count, seed)]


def dense(r: random.Random) -> str:
    """Fifty words and more with five to nine items."""
    d = r.randrange
    items = [
        f"my card is 4{d(10**14, 10**15)} and it expires {d(1, 12)}/{d(25, 31)}",
        f"call me at ({d(200, 999)}) {d(200, 999)}-{d(1000, 9999)} in the morning",
        f"write to {r.choice(_WORDS)}.{r.choice(_WORDS)}@{r.choice(_WORDS)}.com or .org instead",
        f"the server {d(1, 255)}.{d(256)}.{d(256)}.{d(1, 255)} did not answer",
        f"social security number {d(100, 665)}-{d(10, 99)}-{d(1000, 9999)} for the form",
        f"bank account {d(10**8, 10**12)} at the branch in town",
        f"born on {d(1950, 2005)}-{d(10, 12)}-{d(10, 28)} near the lake",
        f"see https://www.{r.choice(_WORDS)}.com/{d(1000)}?id={d(10**6)} for more",
        f"passport {d(10**8, 10**9)} and license {r.choice(string.ascii_uppercase)}{d(10**6, 10**7)} of the driver",
    ]
    r.shuffle(items)
    return ". ".join(items[: d(5, 9)]).capitalize() + "."


def _timed(judge: Callable[[str], object], listed: Sequence[str]) -> float:
    """Mean milliseconds of a text."""
    spent = []
    for text in listed:
        start = time.thread_time_ns()
        judge(text)
        spent.append(time.thread_time_ns() - start)
    return statistics.fmean(spent) / 1e6


def _warm(engine: CompatibleEngine, expected: Oracle) -> None:
    r = random.Random(1)
    for text in (*(dense(r) + sentence(r) for _ in range(150)), *corpus(300, 1)):
        engine.find(text)
        expected.find(text)


def beside(tokens: Tokens) -> None:
    """Prints the table of both engines."""
    engine, expected = CompatibleEngine.load(tokens=tokens), oracle(tokens)
    _warm(engine, expected)
    r = random.Random(time.time_ns())
    rows: list[tuple[str, list[str]]] = [
        ("60 words of chat", [chat(r, 60) for _ in range(_TEXTS)]),
        ("synthetic corpus", corpus(200, r.randrange(1 << 30))),
        ("dense with identifiers", [dense(r) for _ in range(_TEXTS)]),
        ("2,000 words of chat", [chat(r, 2000) for _ in range(6)]),
    ]
    print(f"\ntokens: {tokens:<22} presidio ms   first ms  ratio   again ms  ratio")
    for name, listed in rows:
        theirs, first = [], []
        for text in listed:
            theirs.append(_timed(expected.find, [text]))
            first.append(_timed(engine.find, [text]))
        again = _timed(engine.find, listed)
        their, ours = statistics.fmean(theirs), statistics.fmean(first)
        print(f"{name:<30} {their:>10.3f} {ours:>10.4f} {their / ours:>5.0f}x {again:>10.4f} {their / again:>5.0f}x")


def adversarial(r: random.Random) -> dict[str, Callable[[int], str]]:
    """Texts of n characters that are hard on expressions."""

    def random_text(alphabet: str) -> Callable[[int], str]:
        return lambda n: "".join(r.choices(alphabet, k=n))

    def repeated(part: str) -> Callable[[int], str]:
        return lambda n: (part * (n // len(part) + 1))[:n]

    return {
        "dots": repeated("."),
        "a.b.": repeated("a.b."),
        "a.com": repeated("a.com"),
        "a.co ": repeated("a.co "),
        "www.": repeated("www."),
        "http://": repeated("http://"),
        "'a.b": repeated("'a.b"),
        "a@": repeated("a@"),
        "a@b.": repeated("a@b."),
        "a (one word)": repeated("a"),
        "a-": repeated("a-"),
        "digits": random_text(string.digits),
        "hexadecimal": random_text("0123456789abcdef"),
        "base64": lambda n: base64.b64encode(r.randbytes(n)).decode()[:n],
        "random printable": random_text(string.ascii_letters + string.digits + string.punctuation + " "),
        "letters and digits": random_text(string.ascii_letters + string.digits),
        "spaces": repeated(" "),
        "lines": repeated("\n"),
        "colons": repeated(":"),
        "1:": repeated("1:"),
        "a:b:": repeated("a:b:"),
        "DE00": repeated("DE00"),
        "mixed": lambda n: "".join(
            r.choice(("......", "a.b.", "http://x", "a@b", "....", "base", " ", "--", "::", "ab12cd"))
            for _ in range(n // 4)
        )[:n],
        "Chinese": random_text("的一是不了人我在有他这为之大来以个中上们"),
        "phone list (candidates)": lambda n: "".join(
            f"212-{r.randrange(200, 999)}-{r.randrange(1000, 9999)}, " for _ in range(n // 14)
        )[:n],
        "1 2 3 (candidates)": repeated("1 2 3 4 5 6 "),
        "+1( (candidates)": repeated("+1("),
    }


def linear(tokens: Tokens) -> None:
    """Prints the time at n and at 2n characters."""
    engine = CompatibleEngine.load(tokens=tokens)
    r = random.Random(time.time_ns())
    print(f"\ntokens: {tokens:<22}   100 kB ms   200 kB ms   ratio")
    for name, make in adversarial(r).items():
        half = min(_timed(engine.find, [make(_ADVERSARIAL_CHARS)]) for _ in range(3))
        whole = min(_timed(engine.find, [make(2 * _ADVERSARIAL_CHARS)]) for _ in range(3))
        print(f"{name:<30} {half:>10.2f} {whole:>11.2f} {whole / half:>7.2f}")


def main() -> None:
    """All tables."""
    engines: tuple[Tokens, ...] = ("none", "blank")
    for tokens in engines:
        beside(tokens)
    for tokens in engines:
        linear(tokens)


if __name__ == "__main__":
    main()
