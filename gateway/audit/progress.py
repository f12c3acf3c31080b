"""Bars for long work, on standard error and only where somebody sees them: elsewhere they would leave an empty line in front of the answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


@contextmanager
def work_shown(what: str, *, in_bytes: bool = False) -> Iterator[Callable[[int, int], None]]:
    """A bar for work of one kind. Tell it how much is done, and of how much; a total of 0 is one that nobody knows yet."""
    with steps_shown(what, in_bytes=in_bytes) as told:
        yield lambda done, total: told(what, done, total)


@contextmanager
def steps_shown(first: str, *, in_bytes: bool = False) -> Iterator[Callable[[str, int, int], None]]:
    """The same for work of several kinds, one after the other. Tell it also which one it is now."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn() if in_bytes else MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_interactive) as bar:
        task = bar.add_task(first, total=None)
        yield lambda what, done, total: bar.update(task, description=what, completed=done, total=total or None)
