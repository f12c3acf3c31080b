"""Commands whose rooms are loaded when they are asked for: what `licet scan` needs, `licet key` need not wait for."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import typer
from typer.core import TyperGroup


def rooms(table: Mapping[str, str]) -> type[TyperGroup]:
    """A group with these commands beside its own: name -> `module:attribute`, a function or a group of commands."""

    class Rooms(TyperGroup):
        """The group's own commands, and those of the rooms."""

        def list_commands(self, ctx: Any) -> list[str]:
            """All names, in order."""
            return sorted({*self.commands, *table})

        def get_command(self, ctx: Any, cmd_name: str) -> Any:
            """The command, its room loaded."""
            if cmd_name in table and cmd_name not in self.commands:
                module, _, name = table[cmd_name].partition(":")
                made = getattr(importlib.import_module(module), name)
                command: Any
                if isinstance(made, typer.Typer):
                    command = typer.main.get_group(made)  # a group also where it has but one command
                else:
                    single = typer.Typer(add_completion=False, pretty_exceptions_show_locals=False)
                    single.command(cmd_name)(made)
                    command = typer.main.get_command(single)
                self.commands[cmd_name] = command
                command.name = cmd_name
            return super().get_command(ctx, cmd_name)

    return Rooms
