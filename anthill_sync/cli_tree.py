"""The commands as data: what the help knows of each, for completion, the manual page and the reference."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import typer


@dataclass(frozen=True)
class Argument:
    """One positional argument."""

    metavar: str  # without brackets and dots
    help: str
    required: bool
    repeated: bool


@dataclass(frozen=True)
class Option:
    """One option with all its names."""

    names: tuple[str, ...]
    metavar: str | None  # None: takes no value
    help: str
    default: str | None  # None: not set
    repeated: bool


@dataclass(frozen=True)
class CommandHelp:
    """One command; the first is the program itself, with the options that may stand before any command."""

    path: tuple[str, ...]  # () is the program, ("key", "export") a command of a group
    help: str
    arguments: tuple[Argument, ...]
    options: tuple[Option, ...]
    commands: tuple[str, ...]  # names of a group's commands

    @property
    def name(self) -> str:
        """As it is typed."""
        return " ".join(self.path)


_HELP = Option(("--help",), None, "Show this message and exit.", None, False)


def commands(app: typer.Typer) -> list[CommandHelp]:
    """The program, its commands, and those of its groups behind their group."""
    return list(_walk(typer.main.get_command(app), ()))


def _walk(command: Any, path: tuple[str, ...]) -> Iterator[CommandHelp]:
    arguments = tuple(_argument(each) for each in command.params if each.param_type_name == "argument")
    options = tuple(_option(each) for each in command.params if each.param_type_name == "option")
    inside = getattr(command, "commands", {})
    yield CommandHelp(path, command.help or "", arguments, (*options, _HELP), tuple(inside))
    for name, each in inside.items():
        yield from _walk(each, (*path, name))


def _argument(parameter: Any) -> Argument:
    metavar = parameter.metavar or parameter.name.upper()
    bare = metavar.strip("[]").removesuffix("...").strip("[]")
    return Argument(bare, getattr(parameter, "help", None) or "", parameter.required, parameter.nargs == -1)


def _option(parameter: Any) -> Option:
    flag = parameter.is_flag or parameter.count
    default = parameter.default
    shown = None if flag or default is None or callable(default) else str(default)
    metavar = None if flag else parameter.metavar or parameter.name.upper()
    return Option(tuple(parameter.opts), metavar, parameter.help or "", shown, bool(parameter.multiple))
