"""The parts of ``docs/cli.rst`` that the program's help knows best: a block per command, where the page has a mark for it."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

from anthill_sync.cli_tree import Argument, CommandHelp, Option

from .words import argument_text, common_options, one_line, option_text, option_words, own_options, program, synopsis

PAGE = Path(__file__).resolve().parents[2] / "docs" / "cli.rst"
_BLOCK = re.compile(r"^\.\. from the help: ([^\n]+)\n\n.*?^\.\. end of the help\n", re.MULTILINE | re.DOTALL)
_COMMON = "all commands"


def blocks() -> dict[str, str]:
    """What stands in each block, by its mark."""
    found = {_COMMON: "\n".join(_options(common_options()))}
    for command in program()[1]:
        found[command.name] = "\n".join(_command(command))
    return found


def _command(command: CommandHelp) -> Iterator[str]:
    yield from ("::", "", f"   anthill {synopsis(command)}", "")
    yield one_line(command.help)
    yield ""
    yield from _arguments(command.arguments)
    yield from _options(own_options(command))


def _arguments(arguments: tuple[Argument, ...]) -> Iterator[str]:
    for argument in arguments:
        if argument.help:
            yield f"``{argument_text(argument)}``"
            yield f"   {argument.help}"


def _options(options: list[Option]) -> Iterator[str]:
    for option in options:
        yield f"``{option_text(option)}``"
        yield f"   {option_words(option)}"


def renewed(page: str) -> str:
    """``page`` with every block as the program has it now; a command without one gets a section at the end."""
    made = blocks()
    page = _BLOCK.sub(lambda match: _marked(match[1], made.pop(match[1], None)), page)
    for name, text in made.items():
        page += f"\n\n{name}\n{'-' * len(name)}\n\n{_marked(name, text)}"
    return page


def _marked(name: str, text: str | None) -> str:
    """Nothing for a command that is gone."""
    return "" if text is None else f".. from the help: {name}\n\n{text}\n\n.. end of the help\n"


def main() -> int:
    """Renew the page; with ``--check`` only tell whether it would change."""
    page = PAGE.read_text(encoding="utf-8")
    new = renewed(page)
    if "--check" in sys.argv[1:]:
        return int(new != page)
    PAGE.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
