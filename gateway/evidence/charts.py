"""Charts of a report as inline SVG: no script, no font, nothing from elsewhere. They are read in black and white, too: each part says its number.

What is drawn comes from records: texts are shown without control characters and escaped.
"""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

# Outcomes in this order, and their colors: told apart by most who see colors otherwise (Okabe and Ito, 2008).
OUTCOMES = {
    "allowed": "#009e73",
    "masked": "#56b4e9",
    "blocked": "#d55e00",
    "refused": "#e69f00",
    "cancelled": "#999999",
    "failed": "#cc79a7",
    "unknown": "#000000",
}
_OTHER = "#f0e442"
_WIDTH, _HEIGHT, _FOOT = 960, 240, 24
_BAR, _LABEL, _NUMBER = 22, 280, 90
BARS_MAX = 15  # our choice: names of one chart; the rest together
_SLOTS_SHOWN = 120  # our choice: bars over time
_CHARS = 44  # of a label


def shown(text: object) -> str:
    """Any text for HTML: what is not printable, and what turns the direction of text round, is a sign of its own."""
    plain = str(text)
    if not plain.isprintable():
        plain = "".join(c if c.isprintable() else "\ufffd" for c in plain)
    return html.escape(plain, quote=True)


def over_time(slots: Mapping[tuple[int, str], int], slot_ms: int, when: Callable[[int], str]) -> str:
    """Calls by outcome, a bar for each stretch of time. "" if there are none."""
    if not slots:
        return ""
    low, high = min(slot for slot, _ in slots), max(slot for slot, _ in slots)
    wide = -(-(high - low + 1) // _SLOTS_SHOWN)
    bars: dict[int, Counter[str]] = {}
    for (slot, how), count in slots.items():
        bars.setdefault((slot - low) // wide, Counter())[how] += count
    most = max(bar.total() for bar in bars.values())
    count_of = (high - low) // wide + 1
    step = _WIDTH / count_of
    parts = []
    for at, bar in sorted(bars.items()):
        start = (low + at * wide) * slot_ms
        y = float(_HEIGHT)
        for how in sorted(bar, key=_rank):
            tall = bar[how] / most * (_HEIGHT - 10)
            y -= tall
            parts.append(
                f'<rect x="{at * step:.2f}" y="{y:.2f}" width="{max(step - 1, 0.5):.2f}" height="{tall:.2f}" fill="{_color(how)}">'
                f"<title>{shown(when(start))}: {shown(how)} {bar[how]:,}</title></rect>"
            )
    axis = (
        f'<line x1="0" y1="{_HEIGHT}" x2="{_WIDTH}" y2="{_HEIGHT}" stroke="#444"/>'
        f'<text x="0" y="{_HEIGHT + 17}">{shown(when(low * slot_ms))}</text>'
        f'<text x="{_WIDTH}" y="{_HEIGHT + 17}" text-anchor="end">{shown(when((high + 1) * slot_ms))}</text>'
        f'<text x="0" y="12">most in one bar: {most:,}</text>'
    )
    label = f"Calls by outcome over time, {count_of} bars"
    return _svg(_HEIGHT + _FOOT, label, "".join(parts) + axis) + _legend({how for _, how in slots})


def bars(counts: Counter[str], label: str) -> str:
    """A bar for each name, the most first. "" if there are none."""
    if not counts:
        return ""
    rows = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    rest = rows[BARS_MAX:]
    rows = rows[:BARS_MAX] + ([(f"{len(rest):,} others", sum(count for _, count in rest))] if rest else [])
    most = max(1, *(count for _, count in rows))
    room = _WIDTH - _LABEL - _NUMBER
    parts = []
    for at, (name, count) in enumerate(rows):
        y, wide = at * _BAR, count / most * room
        cut = name if len(name) <= _CHARS else name[: _CHARS - 1] + "\N{HORIZONTAL ELLIPSIS}"
        parts.append(
            f'<text x="{_LABEL - 8}" y="{y + 15}" text-anchor="end">{shown(cut)}<title>{shown(name)}</title></text>'
            f'<rect x="{_LABEL}" y="{y + 3}" width="{wide:.2f}" height="{_BAR - 6}" fill="#0072b2"/>'
            f'<text x="{_LABEL + wide + 6:.2f}" y="{y + 15}">{count:,}</text>'
        )
    return _svg(len(rows) * _BAR, label, "".join(parts))


def _svg(height: int, label: str, inside: str) -> str:
    return f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{shown(label)}">{inside}</svg>'


def _legend(names: set[str]) -> str:
    items: Sequence[str] = sorted(names, key=_rank)
    boxes = "".join(
        f'<li><svg viewBox="0 0 12 12" class="box"><rect width="12" height="12" fill="{_color(how)}"/></svg>{shown(how)}</li>'
        for how in items
    )
    return f'<ul class="legend">{boxes}</ul>'


def _color(how: str) -> str:
    return OUTCOMES.get(how, _OTHER)


def _rank(how: str) -> tuple[int, str]:
    return (list(OUTCOMES).index(how) if how in OUTCOMES else len(OUTCOMES)), how
