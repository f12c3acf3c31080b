"""What several finders say of one text becomes one list: people by union, and what their errors share taken away."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from filters.finding import Finding

if TYPE_CHECKING:
    from filters.names.lexicon import Word

_DIGIT: Final = re.compile(r"\d")


def unite(
    text: str, words: Sequence[Word], listed: Sequence[Finding], guessed: Sequence[Finding], parsed: Sequence[Finding]
) -> list[Finding]:
    """One list, sorted, of `listed` (lexicon), `guessed` (Rampart) and `parsed` (spaCy) findings."""
    return joined([*listed, *guessed, *parsed])


def joined(findings: Sequence[Finding]) -> list[Finding]:
    """Overlapping findings of one entity become one."""
    united: list[Finding] = []
    last: dict[str, int] = {}
    for finding in sorted(findings, key=lambda f: (f.start, f.end)):
        index = last.get(finding.entity)
        if index is not None and finding.start < united[index].end:
            known = united[index]
            united[index] = Finding(
                known.entity, known.start, max(known.end, finding.end), max(known.score, finding.score)
            )
        else:
            last[finding.entity] = len(united)
            united.append(finding)
    return united
