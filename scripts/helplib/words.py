"""What both documents say in the same words."""

from __future__ import annotations

import re

from anthill_sync.cli import app
from anthill_sync.cli_options import COMMON
from anthill_sync.cli_tree import Argument, CommandHelp, Option, commands

COMMON_NAMES = frozenset(name for name, _, _ in COMMON)


def program() -> tuple[CommandHelp, list[CommandHelp]]:
    """The program itself, and all commands that can be run, in the order of the help."""
    first, *others = commands(app)
    return first, [each for each in others if not each.commands]


def common_options() -> list[Option]:
    """Options that may stand before or after every command."""
    return [option for option in program()[0].options if _parameter(option) in COMMON_NAMES]


def own_options(command: CommandHelp) -> list[Option]:
    """Options of this command only."""
    common = {option.names for option in (*common_options(), Option(("--help",), None, "", None, False))}
    return [option for option in command.options if option.names not in common]


def _parameter(option: Option) -> str:
    return next(name for name in option.names if name.startswith("--"))[2:].replace("-", "_")


def synopsis(command: CommandHelp) -> str:
    """``put [OPTIONS] KEY SOURCE``."""
    return " ".join([command.name, "[OPTIONS]", *map(argument_text, command.arguments)])


def argument_text(argument: Argument) -> str:
    """``KEY``, ``[PREFIX]``, ``KEY...``."""
    text = argument.metavar + ("..." if argument.repeated else "")
    return text if argument.required else f"[{text}]"


def option_text(option: Option) -> str:
    """``-q, --quiet`` or ``--home DIR``."""
    names = ", ".join(option.names)
    return names if option.metavar is None else f"{names} {option.metavar}"


def option_words(option: Option) -> str:
    """The help, whether it may be given again, and the default."""
    words = option.help
    if option.repeated:
        words += " May be given more than once."
    return words if option.default is None else f"{words} Default: {option.default}."


def one_line(text: str) -> str:
    """A docstring's words without its line ends."""
    return re.sub(r"\s+", " ", text).strip()
