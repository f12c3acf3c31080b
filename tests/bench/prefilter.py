"""Which prefilter: `python -m tests.bench.prefilter` prints CPU time on first sight for three candidates, six kinds of text.

- `set`: one google-re2 Set over all expressions, widened to what RE2 takes, with a sentinel that always matches;
- `vectorscan`: a hyperscan database of the same with HS_FLAG_PREFILTER, if its package is installed;
- `shapes`: what the engine does (filters/compatible/scan.py): digits and marks say where something may match, shapes what.

Each text is made for its row and seen once. The first two say only that something may match; expressions then still have
to run. `shapes` is the whole engine, findings included.

Measured 2026-11-22 on a busy core (read it as ratios), microseconds for 2,000 bytes, mean of the first five, median of the rest:

                        prose          base64            uuids              csv           code     chinese
    set            1130    49   52336   50296   16823    10126     655      127   1369     896   3493  110
    vectorscan      160   126     265     284     364      372     370      334    192     195     37   26
    shapes           91    79    1252    1579   11285     5415   13661     5665    664     576    163  113

The Set thrashes where texts are new (base64, UUIDs). vectorscan is flat, but takes ASCII classes only, dearer than shapes on
prose, and still leaves every flagged expression to run; what shapes cost more elsewhere is phone numbers and findings.
"""

from __future__ import annotations

import random
import re
import statistics
import time
from collections.abc import Callable
from typing import Any, Final

from filters.compatible import CompatibleEngine
from filters.compatible.data import RECOGNIZERS, load
from tests.bench.texts import make

_KINDS: Final = ("prose", "base64", "uuids", "csv", "code", "chinese")
_TEXTS: Final = 40
_BYTES: Final = 2_000
_SENTINEL: Final = "(?s:.*)"

Judge = Callable[[str], object]


def widened(letters: str = r"\pL") -> list[str]:
    """The expressions without what RE2 has not: borders and lookarounds are dropped, a back-reference is its group."""
    from filters.compatible.build import shape_of

    found = []
    for recognizer in load(RECOGNIZERS)[0]["recognizers"]:
        for pattern in recognizer["patterns"]:
            if "regex" not in pattern:
                continue
            # A shape's `a` and `0` stand for classes; written out they are a superset that RE2 takes.
            shape = shape_of(pattern["regex"])
            shape = shape.replace("\\ ", " ").replace("ª", "")
            found.append(re.sub(r"\[([^\]]*)\]", lambda m: "[" + _classes(m[1]) + "]", _outside(shape, letters)))
    labels = "|".join(load(RECOGNIZERS)[0]["url_labels"])
    return [*found, rf"[a-z0-9.\-]\.(?:{labels})", r"\d[^a-z]{0,12}\d"]


def _outside(shape: str, letters: str) -> str:
    out, depth = [], False
    at = 0
    while at < len(shape):
        char = shape[at]
        if char == "\\":
            out.append(shape[at : at + 2])
            at += 2
            continue
        depth = (depth or char == "[") and char != "]"
        if not depth and char == "{":
            end = shape.index("}", at)
            out.append(shape[at : end + 1])
            at = end + 1
            continue
        out.append({"a": letters, "0": r"\d"}.get(char, char) if not depth else char)
        at += 1
    return "".join(out)


def _classes(inner: str) -> str:
    return inner.replace("a", r"\pL").replace("0", r"\d")


def re2_set() -> Judge:
    """google-re2's Set."""
    import re2

    options = re2.Options()
    options.case_sensitive = False
    options.max_mem = 64 << 20
    options.log_errors = True
    chosen = re2.Set.SearchSet(options)
    for expression in (*widened(), _SENTINEL):
        chosen.Add(expression)
    chosen.Compile()
    size = len(widened())

    def judge(text: str) -> object:
        found = chosen.Match(text)
        if size not in found:
            raise RuntimeError("the sentinel did not match: everything has to run")
        return found

    return judge


def vectorscan() -> Judge | None:
    """A hyperscan database, or None where the package is missing."""
    try:
        import hyperscan  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        return None
    database: Any = hyperscan.Database()
    # With Unicode classes the database is "too large": ASCII ones, on a text in canonical form.
    listed = [expression.replace(r"\pL", "a-z").encode() for expression in widened(letters="[a-z]")]
    flags = hyperscan.HS_FLAG_PREFILTER | hyperscan.HS_FLAG_SINGLEMATCH | hyperscan.HS_FLAG_CASELESS
    database.compile(
        expressions=listed, ids=list(range(len(listed))), elements=len(listed), flags=[flags] * len(listed)
    )

    def judge(text: str) -> object:
        found: list[int] = []
        database.scan(text.encode(), match_event_handler=lambda number, *_: found.append(number))
        return found

    return judge


def main() -> None:
    """The table."""
    candidates: dict[str, Judge | None] = {
        "set": re2_set(),
        "vectorscan": vectorscan(),
        "shapes": CompatibleEngine.load().find,
    }
    seed = str(random.SystemRandom().random())
    spent: dict[tuple[str, str], list[float]] = {}
    for number in range(_TEXTS):
        for kind in _KINDS:
            for name, judge in candidates.items():
                if judge is None:
                    continue
                text = make(kind, seed + name, number, _BYTES).text
                start = time.thread_time_ns()
                judge(text)
                spent.setdefault((name, kind), []).append((time.thread_time_ns() - start) / 1e3)
    print(f"{'us, mean (first five, then the rest)':<38}" + "".join(f"{kind:>16}" for kind in _KINDS))
    for name, judge in candidates.items():
        if judge is None:
            print(f"{name:<38}is not installed")
            continue
        cells = []
        for kind in _KINDS:
            listed = spent[name, kind]
            cells.append(f"{statistics.fmean(listed[:5]):>8.0f} {statistics.median(listed[5:]):>7.0f}")
        print(f"{name:<38}" + "".join(cells))


if __name__ == "__main__":
    main()
