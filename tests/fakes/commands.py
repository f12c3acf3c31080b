"""Commands run in this process, as a shell would run them: arguments in, exit code and output back."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from typing import NamedTuple

import typer
from typer.main import get_command


class Done(NamedTuple):
    """What a command said, on both streams."""

    exit_code: int
    output: str


def commands(app: typer.Typer) -> Callable[..., Done]:
    """Runs commands of the app. Their tree is built once: building it costs more than most of them."""
    tree = get_command(app)

    def run(*args: object) -> Done:
        said, code = io.StringIO(), 0
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            try:
                tree.main(args=[str(arg) for arg in args], prog_name="licet")
            except SystemExit as end:
                code = int(end.code or 0)
        return Done(code, said.getvalue())

    return run
