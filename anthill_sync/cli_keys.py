"""The commands ``key export``, ``key verify`` and ``key passphrase``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .cli_commands import App, command
from .console import Console
from .errors import InvalidArgument, SourceNotFound
from .render import printable
from .settings import resolve

if TYPE_CHECKING:
    from .keys import MasterKey

_MOST = 4096  # bytes read of a key on standard input


def register(app: App) -> None:
    """Add the commands to ``app``."""
    group = App(help="Look after the key: a copy on paper, a proof, another passphrase.")
    command(group)(export)
    command(group, "json")(verify)
    command(group)(passphrase)
    app.add_typer(group, name="key")


def export(console: Console) -> None:
    """Print the key for paper, with check words. Whoever reads it can read the store."""
    from .keys import is_wrapped, key_line, read_key_text
    from .paper import to_paper

    home, config = console.home_path(), console.config()
    path = config.key_path(home)
    text = read_key_text(path)
    remarks = [
        f"of the store in {home.absolute()}, network {config.network}, slot {config.slot}; with its pads this opens everything",
        "to use it: type all lines but these into a file of mode 0600; 'anthill key verify FILE' tells what is wrong",
    ]
    if is_wrapped(text):
        remarks.append("it opens with its passphrase only, which does not stand here")
    console.out(to_paper(key_line(text, str(path)), tuple(map(printable, remarks))))


def verify(
    console: Console,
    file: Annotated[str, typer.Argument(metavar="FILE", help="A key file, or a paper typed in; - for stdin.")],
) -> None:
    """Prove that the key in FILE opens this store, by reading one of its pads."""
    from .keyfile import open_with

    home, config = console.home_path(), console.config()
    settings = resolve(config.settings)
    key = _typed_key(console) if file == "-" else _key_of(console, Path(file))
    pad = open_with(home, config, settings, key)
    if console.as_json:
        console.answer({"opens": True, "pad": pad})
    else:
        how = "told by the store's id: nothing is stored yet" if pad is None else f"tried on pad {pad}"
        console.note(f"{file} opens this store ({how})")


def _key_of(console: Console, path: Path) -> MasterKey:
    from .keys import read_key_file

    return read_key_file(path, console.passphrase(resolve(console.config().settings), path))


def _typed_key(console: Console) -> MasterKey:
    """The key on standard input, where then nobody can be asked for a passphrase."""
    from .keys import decode_key

    if sys.stdin is None:
        raise SourceNotFound("standard input is closed")
    console.stdin_is_data = True
    text = sys.stdin.buffer.read(_MOST).decode("utf-8", "replace")
    return decode_key(text, console.passphrase(resolve(console.config().settings)), "what was typed")


def passphrase(
    console: Console,
    new_file: Annotated[Path | None, typer.Option("--new-passphrase-file", metavar="FILE", help="Its first line.")] = None,
    new_command: Annotated[
        str | None, typer.Option("--new-passphrase-command", metavar="COMMAND", help="What it prints.")
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="None from now on: whoever has the file has the key.")] = False,
) -> None:
    """Change, set or remove the key file's passphrase; the key in it stays the same."""
    from .keyfile import change_passphrase

    if sum((new_file is not None, new_command is not None, remove)) > 1:
        raise InvalidArgument("give one of --new-passphrase-file, --new-passphrase-command and --remove")
    config = console.config()
    path = config.key_path(console.home_path())
    old = console.passphrase(resolve(config.settings), path)
    new = None if remove else _new_passphrase(console, new_file, new_command)
    change_passphrase(path, old, new)
    console.note(f"{path}: {'no passphrase any more' if remove else 'the passphrase is the new one'}; copies keep their own")


def _new_passphrase(console: Console, file: Path | None, command: str | None) -> str:
    from .cli_passphrase import ask_new_passphrase, read_passphrase, run_passphrase_command

    if file is not None:
        return read_passphrase(file)
    if command is not None:
        return run_passphrase_command(command)
    if not console.can_ask:
        raise InvalidArgument(
            "nobody to ask without a terminal: give --new-passphrase-file FILE, --new-passphrase-command COMMAND or --remove"
        )
    return ask_new_passphrase()
