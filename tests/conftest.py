"""What all tests share."""

from __future__ import annotations

import functools

import typer.testing
from typer.main import get_command

# Building a tree of commands costs more than most of them, and tests run hundreds: each app's is built once.
vars(typer.testing)["_get_command"] = functools.cache(get_command)
