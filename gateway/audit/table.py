"""Rows for people, whatever the width: side by side where they fit, else one record after the other with a line for each field.

A table that is pressed into too narrow a terminal tears words and ids apart. Nothing is ever cut off, and what is not a terminal gets each row as one
line, unless COLUMNS says how wide it is.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

PIPE_CHARS = 10_000  # our choice: more than any row has
WIDE_CHARS = 132  # our choice: time, kind, model, result and a record's id side by side, and some room for facts
_HEADS_SHARE = 3  # names of fields take at most one part in so many of a line


def console_for_tables() -> Console:
    """The terminal's, or one on which each row has its line."""
    console = Console()
    return console if console.is_terminal or os.environ.get("COLUMNS", "").isdigit() else Console(width=PIPE_CHARS)


def wide_console() -> Console:
    """One on which no id is cut: a narrow terminal wraps the line, a pipe gets it whole."""
    return Console(width=max(Console().width, WIDE_CHARS))


class Rows:
    """What `Console.print` shows in either form. Cells are shown as they are: what comes from outside must be made printable before."""

    def __init__(
        self,
        heads: Sequence[str],
        rows: Iterable[Sequence[Text]],
        *,
        title: str = "",
        caption: str = "",
        right: Iterable[str] = (),
        ruled: bool = False,
    ) -> None:
        """`right`: columns of numbers. `ruled`: with lines around the table."""
        self._heads = heads
        self._rows = [tuple(row) for row in rows]
        self._title, self._caption = title, caption
        self._right = frozenset(right)
        self._ruled = ruled

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """See `rich.console.ConsoleRenderable`."""
        table = self._table()
        if Measurement.get(console, options.update(max_width=PIPE_CHARS), table).maximum <= options.max_width:
            yield table
        else:
            yield from self._records(options.max_width)

    def _table(self) -> Table:
        table = Table(
            title=Text(self._title) if self._title else None,
            caption=Text(self._caption) if self._caption else None,
            title_justify="left",
            caption_justify="left",
            header_style="bold",
        )
        if not self._ruled:
            table.box = None
        for head in self._heads:
            table.add_column(Text(head), overflow="fold", justify="right" if head in self._right else "left")
        for row in self._rows:
            table.add_row(*row)
        return table

    def _records(self, width: int) -> RenderResult:
        for text, style in ((self._title, "italic"), (self._caption, "dim italic")):
            if text:
                yield Text(text, style=style)
        for n, row in enumerate(self._rows):
            if n or self._title or self._caption:
                yield Text("")
            block = Table.grid(padding=(0, 2, 0, 0))
            block.add_column(style="bold", overflow="fold", max_width=max(width // _HEADS_SHARE, 8))
            block.add_column(overflow="fold")
            for head, cell in zip(self._heads, row, strict=False):
                if cell.plain:
                    block.add_row(Text(head), cell)
            yield block
