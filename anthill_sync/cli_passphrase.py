"""Where the key's passphrase comes from: never the command line, never an environment variable."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from .config import PASSPHRASE_CREDENTIAL, credential
from .errors import ConfigurationError, InvalidArgument, PermissionRefused, SourceNotFound
from .private_files import check_private
from .settings import Settings

_FIRST_LINE = 64 * 1024  # bytes read of a passphrase file or of a command's output
COMMAND_SECONDS = 120.0  # for a password manager that asks its user


class Asked(Protocol):
    """What the command line said about passphrases."""

    passphrase_file: Path | None
    passphrase_command: str | None

    @property
    def can_ask(self) -> bool:
        """A person is there to ask."""


def find_passphrase(asked: Asked, settings: Settings, key_file: Path | None) -> str | None:
    """From the options, else the settings, else the service manager; from the person at the terminal only for a
    ``key_file`` that needs one; else None."""
    wrapped = _is_wrapped(key_file)
    if wrapped is False:
        return None
    found = next(_named(asked, settings), None)
    if found is None and wrapped and asked.can_ask:
        return ask_passphrase(f"Passphrase of {key_file}: ")
    return found


def _is_wrapped(key_file: Path | None) -> bool | None:
    """None where there is no key to look at."""
    if key_file is None or not key_file.exists():
        return None
    from .keys import is_wrapped, read_key_text

    return is_wrapped(read_key_text(key_file))


def _named(asked: Asked, settings: Settings) -> Iterator[str]:
    """What was named, the strongest first; none of it is read or run before it is needed."""
    if asked.passphrase_file is not None and asked.passphrase_command is not None:
        raise InvalidArgument("give --passphrase-file or --passphrase-command, not both")
    for file, command in (
        (asked.passphrase_file, asked.passphrase_command),
        (settings.passphrase_file, settings.passphrase_command),
        (credential(PASSPHRASE_CREDENTIAL), None),
    ):
        if file is not None:
            yield read_passphrase(Path(file))
        if command is not None:
            yield run_passphrase_command(command)


def read_passphrase(path: Path) -> str:
    """First line of ``path``, without its end; 66, 77 or 78 when there is none to read."""
    try:
        with path.open("rb") as file:
            check_private(file.fileno(), path, "passphrase file")
            line = file.readline(_FIRST_LINE)
    except FileNotFoundError:
        raise SourceNotFound(f"passphrase file {path} is not there") from None
    except PermissionError:
        raise PermissionRefused(f"passphrase file {path} may not be read: chmod u+r {shlex.quote(str(path))}") from None
    return _first_line(line, f"passphrase file {path}")


def run_passphrase_command(command: str) -> str:
    """First line that ``command`` prints. It is split as a shell splits words, and run without one, with nothing on its
    stdin; its stderr is ours. ``ConfigurationError`` names its program only: arguments may hold secrets."""
    import subprocess

    try:
        words = shlex.split(command)
        name = f"passphrase command {words[0]}"
        done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=COMMAND_SECONDS, check=False)
    except (ValueError, IndexError):
        raise ConfigurationError("the passphrase command cannot be split into words: is a quote missing?") from None
    except subprocess.TimeoutExpired:
        raise ConfigurationError(f"{name} took longer than {COMMAND_SECONDS:.0f} seconds") from None
    except OSError as error:
        raise ConfigurationError(f"{name} cannot be run: {error.strerror}") from None
    if done.returncode != 0:
        raise ConfigurationError(f"{name} ended with code {done.returncode}")
    return _first_line(done.stdout.partition(b"\n")[0], f"what the {name} printed")


def _first_line(line: bytes, where: str) -> str:
    try:
        text = line.rstrip(b"\r\n").decode()
    except UnicodeDecodeError:
        raise ConfigurationError(f"the first line of {where} is not UTF-8") from None
    if not text:
        raise ConfigurationError(f"the first line of {where} is empty")
    return text


def ask_passphrase(question: str) -> str:
    """What the person at the terminal types, without an echo; ``ConfigurationError`` for nothing."""
    import getpass

    try:
        text = getpass.getpass(question)
    except EOFError:
        text = ""
    if not text:
        raise ConfigurationError("no passphrase was typed")
    return text


def ask_new_passphrase() -> str:
    """A new passphrase, typed twice; ``InvalidArgument`` when the two differ."""
    first = ask_passphrase("New passphrase: ")
    if ask_passphrase("The same again: ") != first:
        raise InvalidArgument("the two passphrases differ; nothing was changed")
    return first
