"""The manual page, ``anthill.1``, in the man macros that groff, mandoc and others know."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

from anthill_sync import __version__, errors
from anthill_sync.cli_tree import Option

from .words import argument_text, common_options, one_line, option_text, option_words, own_options, program

CODES = re.compile(r"^(\d+) {2,}(.+?)(?: {2,}.*)?$")


def escaped(text: str) -> str:
    """Text as roff takes it literally: hyphens stay hyphens, and no line begins with a command."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("~", "\\(ti").replace("^", "\\(ha")
    return re.sub(r"^([.'])", r"\\&\1", text, flags=re.MULTILINE)


def page() -> str:
    """The whole page."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    first, every = program()
    yield f'.TH ANTHILL 1 "" "anthill {escaped(__version__)}" "User Commands"'
    yield ".SH NAME"
    yield f"anthill \\- {escaped(first.help.removeprefix('Anthill: ').rstrip('.'))}"
    yield ".SH SYNOPSIS"
    yield ".B anthill"
    yield "[\\fIOPTIONS\\fR] \\fICOMMAND\\fR [\\fIARGUMENTS\\fR]"
    yield ".SH OPTIONS"
    yield "They may stand before the command or after it."
    yield from _options([*common_options(), *(o for o in first.options if "--version" in o.names or "--help" in o.names)])
    yield ".SH COMMANDS"
    for command in every:
        yield f'.SS "{escaped(" ".join([command.name, *map(argument_text, command.arguments)]))}"'
        yield escaped(one_line(command.help))
        yield from _options(own_options(command))
    yield from _ending()


def _options(options: list[Option]) -> Iterator[str]:
    for option in options:
        yield ".TP"
        yield f"\\fB{escaped(option_text(option))}\\fR"
        yield escaped(option_words(option))


def _ending() -> Iterator[str]:
    yield ".SH EXIT STATUS"
    for code, words in sorted(_codes().items()):
        yield ".TP"
        yield f"\\fB{code}\\fR"
        yield escaped(words)
    yield ".SH ENVIRONMENT"
    yield "\\fBANTHILL_HOME\\fR names the store's directory, and \\fBANTHILL_\\fINAME\\fR a setting: see \\fBanthill config\\fR."
    yield "\\fBCREDENTIALS_DIRECTORY\\fR may hold \\fBanthill\\-passphrase\\fR and \\fBanthill\\-key\\fR."


def _codes() -> dict[int, str]:
    """From the table in docs/cron.rst; its first column of words, lines that go on included."""
    found: dict[int, str] = {}
    text = (Path(__file__).resolve().parents[2] / "docs" / "cron.rst").read_text(encoding="utf-8")
    code = -1
    for line in text.partition("\nExit codes\n")[2].splitlines():
        begins, column = line[:7].strip(), line[7:71].strip()
        if begins.isdigit():
            code = int(begins)
            found[code] = column.replace("``", "")
        elif code >= 0 and line.startswith("       ") and column:
            found[code] += " " + column.replace("``", "")
        elif line.startswith("=") and found:
            break
    known = {kind.exit_code for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.AnthillError)}
    assert known <= found.keys(), known - found.keys()
    return found


if __name__ == "__main__":
    sys.stdout.write(page())
