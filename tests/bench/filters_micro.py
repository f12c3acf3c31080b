"""What the filters cost on text not seen before: `python tests/bench/filters_micro.py` prints a table.

CPU time of this thread, one core. Every text is different from every other, so nothing is measured that a cache or a
lazily built automaton had seen; the memory of findings is bypassed by the same means.
"""

from __future__ import annotations

import base64
import json
import os
import random
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from filters import Action, Engine, Rules

_WORDS = [
    "the",
    "of",
    "and",
    "to",
    "in",
    "is",
    "that",
    "it",
    "was",
    "for",
    "on",
    "are",
    "as",
    "with",
    "his",
    "they",
    "at",
    "be",
    "this",
    "from",
    "have",
    "or",
    "by",
    "one",
    "had",
    "not",
    "but",
    "what",
    "all",
    "were",
    "when",
    "we",
    "there",
    "can",
    "an",
    "your",
    "which",
    "their",
    "said",
    "if",
    "do",
    "will",
    "each",
    "about",
    "how",
    "up",
    "out",
    "them",
    "then",
    "she",
    "many",
    "some",
    "so",
    "these",
    "would",
    "other",
    "into",
    "has",
    "more",
    "her",
    "two",
    "like",
    "him",
    "see",
    "time",
    "could",
    "no",
    "make",
    "than",
    "first",
    "been",
    "its",
    "who",
    "now",
    "people",
    "my",
    "made",
    "over",
    "did",
    "down",
    "only",
    "way",
    "find",
    "use",
    "may",
    "water",
    "long",
    "little",
    "very",
    "after",
    "words",
    "called",
    "just",
    "where",
    "most",
    "know",
    "get",
    "through",
    "back",
    "much",
    "before",
    "go",
    "good",
    "new",
    "write",
    "our",
    "used",
    "me",
    "man",
    "too",
    "any",
    "day",
    "same",
    "right",
    "look",
    "think",
    "also",
    "around",
    "another",
    "came",
    "come",
    "work",
    "three",
    "word",
    "must",
    "because",
    "does",
    "part",
    "even",
    "place",
    "well",
    "such",
    "here",
    "take",
    "why",
    "things",
    "help",
    "put",
    "years",
    "different",
    "away",
    "again",
    "off",
    "went",
    "old",
    "number",
    "great",
    "tell",
    "men",
    "say",
    "small",
    "every",
    "found",
    "still",
    "between",
    "name",
    "should",
    "home",
    "big",
    "give",
    "air",
    "line",
    "set",
    "own",
    "under",
    "read",
    "last",
    "never",
    "us",
    "left",
    "end",
    "along",
    "while",
    "might",
    "next",
    "sound",
    "below",
    "saw",
    "something",
    "thought",
    "both",
    "few",
    "those",
    "always",
    "looked",
    "show",
    "large",
    "often",
    "together",
    "asked",
    "house",
    "world",
    "going",
    "want",
    "school",
    "important",
    "until",
    "form",
    "food",
    "keep",
    "children",
    "feet",
    "land",
    "side",
    "without",
    "boy",
    "once",
    "animals",
    "life",
    "enough",
    "took",
    "sometimes",
]


def prose(rng: random.Random, chars: int) -> str:
    out: list[str] = []
    size = 0
    while size < chars:
        sentence = " ".join(rng.choice(_WORDS) for _ in range(rng.randint(6, 16))).capitalize() + ". "
        out.append(sentence)
        size += len(sentence)
    return "".join(out)[:chars]


def dense(rng: random.Random, chars: int) -> str:
    def digits(n: int) -> str:
        return "".join(rng.choice("0123456789") for _ in range(n))

    makers: list[Callable[[], str]] = [
        lambda: f"card 4{digits(3)} {digits(4)} {digits(4)} {digits(4)}",
        lambda: f"mail {rng.choice(_WORDS)}.{rng.choice(_WORDS)}{digits(2)}@{rng.choice(_WORDS)}.com",
        lambda: f"call 212-{rng.randint(200, 999)}-{digits(4)}",
        lambda: f"ssn {rng.randint(100, 665)}-{rng.randint(10, 99)}-{digits(4)}",
        lambda: f"at https://{rng.choice(_WORDS)}.example.com/{digits(6)}",
        lambda: f"host 10.{rng.randint(0, 255)}.{rng.randint(0, 255)}.{rng.randint(0, 255)}",
        lambda: f"born {rng.randint(1, 12):02d}/{rng.randint(1, 28):02d}/19{digits(2)}",
    ]
    out = ""
    while len(out) < chars:
        out += " ".join(rng.choice(_WORDS) for _ in range(rng.randint(2, 6))) + " " + rng.choice(makers)() + ", "
    return out[:chars]


def chinese(rng: random.Random, chars: int) -> str:
    return "".join(
        "，" if rng.random() < 0.08 else "。" if rng.random() < 0.03 else chr(rng.randint(0x4E00, 0x62FF))
        for _ in range(chars)
    )


def code(rng: random.Random, chars: int) -> str:
    out = ""
    while len(out) < chars:
        a, b, c = (rng.choice(_WORDS) for _ in range(3))
        out += f"def {a}_{b}(self, {c}):\n    {c}.{a} = self.{b}[{rng.randint(0, 99)}] + {b}({c!r}, x={rng.random():.4f})\n    return {a}.{c}()\n\n"
    return out[:chars]


def uuid_json(rng: random.Random, chars: int) -> str:
    out: list[dict[str, object]] = []
    while len(json.dumps(out)) < min(chars, 4000):
        out.append(
            {
                "id": str(uuid.UUID(int=rng.getrandbits(128), version=4)),
                "n": rng.randint(0, 10**9),
                "name": rng.choice(_WORDS),
            }
        )
    text = ""
    while len(text) < chars:
        text += json.dumps(
            [{**row, "id": str(uuid.UUID(int=rng.getrandbits(128), version=4))} for row in out], separators=(",", ":")
        )
    return text[:chars]


def csv(rng: random.Random, chars: int) -> str:
    out = ""
    while len(out) < chars:
        out += f"{rng.randint(1, 10**6)},{rng.choice(_WORDS)},{rng.random() * 1000:.2f},{rng.randint(2000, 2025)}-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}\n"
    return out[:chars]


def base64_blob(rng: random.Random, chars: int) -> str:
    return base64.b64encode(rng.randbytes(chars)).decode()[:chars]


KINDS: dict[str, Callable[[random.Random, int], str]] = {
    "prose": prose, "dense": dense, "chinese": chinese, "code": code, "uuid json": uuid_json, "csv": csv, "base64": base64_blob,
    "digits": lambda r, n: "".join(r.choice("0123456789") for _ in range(n)),
    "+1(": lambda r, n: ("+1(" * n)[:n],
    "phones": lambda r, n: "\n".join(f"{r.randint(200, 999)}-{r.randint(200, 999)}-{r.randint(1000, 9999)}" for _ in range(n // 13 + 1))[:n],
    "dots": lambda r, n: "." * n,
    "a.": lambda r, n: ("a." * n)[:n],
    "a@": lambda r, n: ("a@" * n)[:n],
    "numbers": lambda r, n: " ".join(str(r.randint(0, 99999)) for _ in range(n))[:n],
    "hex:": lambda r, n: ("1:" * n)[:n],
    "spaces": lambda r, n: " " * n,
    "i am": lambda r, n: ("I am the " * n)[:n],
}  # fmt: skip


def _cpu(call: Callable[[], object]) -> float:
    start = time.thread_time()
    call()
    return time.thread_time() - start


def _tokens(rng: random.Random, text: str) -> list[str]:
    out = []
    at = 0
    while at < len(text):
        size = rng.randint(3, 7)
        out.append(text[at : at + size])
        at += size
    return out


def main() -> None:
    """Prints the table."""
    rng = random.Random(os.getpid())
    engine = Engine.load()
    engine.warm()
    rules = Rules(default=Action.MASK)
    print(
        f"{'kind':12s} {'0.7 kB us':>10s} {'100 kB ms':>10s} {'feed us/token':>14s} {'mean held':>10s} {'max held':>9s}"
    )
    for kind, make in KINDS.items():
        n = 100 if len(sys.argv) < 2 else int(sys.argv[1])
        texts = [make(rng, 700 + i % 7) for i in range(n)]
        small = sum(_cpu(lambda t=t: engine.examine(t, rules, direction="prompt")) for t in texts) / n  # type: ignore[misc]
        large = (
            _cpu(lambda: engine.examine(make_once, rules, direction="prompt"))
            if (make_once := make(rng, 100_000))
            else 0.0
        )
        spent = 0.0
        held: list[int] = []
        count = 0
        for text in (make(rng, 2_000) for _ in range(max(1, n // 10))):
            sieve = engine.sieve(rules, direction="answer")
            parts = _tokens(rng, text)
            start = time.thread_time()
            for part in parts:
                sieve.feed(part)
                held.append(sieve.held_chars)
            sieve.close()
            spent += time.thread_time() - start
            count += len(parts)
        print(
            f"{kind:12s} {small * 1e6:10.0f} {large * 1e3:10.1f} {spent / count * 1e6:14.1f} {sum(held) / len(held):10.1f} {max(held):9d}"
        )
    script = "import psutil,time; t=time.thread_time(); from filters import Engine; Engine.load(); print(psutil.Process().memory_info().rss / 2**20, time.thread_time() - t)"
    rss, load = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).resolve().parents[2],
    ).stdout.split()
    print(f"import filters; Engine.load(): {float(rss):.0f} MB, {float(load):.2f} s of CPU")


if __name__ == "__main__":
    main()
