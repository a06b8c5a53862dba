"""Anthill: a private key-value store on storage that need not be trusted."""

from __future__ import annotations

import gc
import shlex
import shutil
import sys
from collections.abc import Iterable
from datetime import datetime, timezone
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from . import cli_checks, cli_completion, cli_data, cli_keys, cli_recovery, cli_serve, cli_settings
from .cli_ages import recent
from .cli_bugs import leave_no_core
from .cli_commands import App, command, root_options
from .cli_guard import CLOSED_OUTPUT, exit_code, guarded
from .cli_limits import seconds_left
from .cli_memory import share_heaps
from .cli_options import KeyName, key_text
from .cli_output import discard_rest, fill_standard_descriptors, is_terminal
from .cli_pictures import draw, write_svg
from .cli_signals import Signals, die
from .console import Console
from .errors import InvalidArgument, KeyNotFound, PartialFailure
from .render import (
    entry_fields,
    in_columns,
    long_listing,
    pending_fields,
    pending_listing,
    plural,
    printable,
    stat_fields,
    stat_listing,
    usage_fields,
    usage_listing,
)
from .settings import parse_duration

if TYPE_CHECKING:
    from .summaries import Pending

app = App(help=__doc__)

KeyNames = Annotated[list[str], typer.Argument(metavar="KEY...", parser=key_text)]
SomeKeys = Annotated[list[str] | None, typer.Argument(metavar="[KEY...]", parser=key_text)]
Prefix = Annotated[str, typer.Argument(metavar="[PREFIX]", parser=key_text, help="This key and all below it.")]


def _show_version(wanted: bool) -> None:
    if wanted:
        from . import __version__

        console = Console()
        raise typer.Exit(guarded(console, lambda: console.out(f"anthill {__version__}\n")))


root_options(app, _show_version)
cli_settings.register(app)
cli_data.register(app)


@command(app, "json")
def ls(
    console: Console,
    prefix: Prefix = "",
    long: Annotated[bool, typer.Option("-l", help="Size, version, time and pads too.")] = False,
    pending: Annotated[bool, typer.Option("--pending", help="Interrupted puts instead.")] = False,
) -> None:
    """List keys, in byte order."""
    with console.store(read_only=True) as store:
        if pending:
            waiting = {p.key: p for p in store.pending()}
            _show_pending(console, [waiting[key] for key in _below(prefix, waiting)])
            return
        names_only = not (long or console.as_json)
        keys = _below(prefix, store) if names_only else []
        entries = [] if names_only else store.entries(prefix)
    if names_only:
        _show_keys(console, keys)
    elif console.as_json:
        console.answer({"keys": [entry_fields(entry) for entry in entries]})
    else:
        console.out(long_listing(entries))


def _show_keys(console: Console, keys: list[str]) -> None:
    if is_terminal(sys.stdout):
        console.out(in_columns([printable(key) for key in keys], shutil.get_terminal_size().columns))
    else:
        console.out("".join([f"{key}\n" for key in keys]))


def _below(prefix: str, keys: Iterable[str]) -> list[str]:
    from .entries import check_prefix, under

    wanted = check_prefix(prefix)
    return [key for key in keys if under(wanted, key)]


def _show_pending(console: Console, pending: list[Pending]) -> None:
    if console.as_json:
        console.answer({"pending": [pending_fields(p) for p in pending]})
    else:
        console.out(pending_listing(pending))


@command(app, "json")
def stat(
    console: Console,
    key: KeyName,
    max_age: Annotated[
        str | None, typer.Option("--max-age", metavar="AGE", help="Only prove that it is no older: 26h, 8d.")
    ] = None,
) -> None:
    """Show one value in full; or, for a monitor, prove that it is there and recent (else 3)."""
    limit = None if max_age is None else parse_duration(max_age)
    with console.store(read_only=True) as store:
        entry = store.stat(key) if limit is None else recent(store, key, limit, datetime.now(timezone.utc))
    if console.as_json:
        console.answer(stat_fields(entry))
    elif limit is None:
        console.out(stat_listing(entry))


@command(app, "json", "run", "lock")
def mv(
    console: Console,
    old: Annotated[str, typer.Argument(metavar="OLD", parser=key_text)],
    new: Annotated[str, typer.Argument(metavar="NEW", parser=key_text)],
    force: Annotated[bool, typer.Option("--force", help="Replace a value under NEW.")] = False,
) -> None:
    """Rename a key."""
    with console.store() as store:
        entry = store.rename(old, new, force=force)
    if console.as_json:
        console.answer({"keys": [new], "old": old, "new": new, "version": entry.version})


@command(app, "json", "run", "lock")
def rm(
    console: Console,
    keys: KeyNames,
    recursive: Annotated[bool, typer.Option("-r", help="The keys, and all below them.")] = False,
    ignore_missing: Annotated[bool, typer.Option("--ignore-missing", help="A key that is not there is no error.")] = False,
) -> None:
    """Remove keys; all of them or none."""
    if recursive and "" in keys:
        raise InvalidArgument("rm -r '' would remove everything; name the keys")
    with console.store() as store:
        names = _expand(store, keys, ignore_missing) if recursive else keys
        removed = store.delete(*names, ignore_missing=ignore_missing or recursive)
    _report_keys(console, removed, "removed")


def _expand(store: Any, prefixes: list[str], ignore_missing: bool) -> list[str]:
    """All keys at or below the prefixes, values and interrupted puts, once each."""
    found: dict[str, None] = {}
    waiting = [p.key for p in store.pending()]
    for prefix in prefixes:
        below = [e.key for e in store.entries(prefix)] + _below(prefix, waiting)
        if not below and not ignore_missing:
            raise KeyNotFound(f"no key {prefix!r} and none below it", key=prefix)
        found.update(dict.fromkeys(below))
    return list(found)


def _report_keys(console: Console, keys: list[str], done: str) -> None:
    if console.as_json:
        console.answer({"keys": keys})
    else:
        console.note(f"{done} {plural(len(keys), 'key')}")


@command(app, "json")
def usage(
    console: Console,
    svg: Annotated[Path | None, typer.Option("--svg", metavar="FILE", help="Draw the memory map into FILE.")] = None,
) -> None:
    """Show what the store holds, and on a terminal the picture of its memory map."""
    with console.store(read_only=True) as store:
        state = store.usage()
    if svg is not None:
        write_svg(svg, state)
    if console.as_json:
        console.answer(usage_fields(state))
    elif svg is None:
        console.out(usage_listing(state))
        draw(console, state)


@command(app, "json", "progress", "yes", "run", "limit_upload", "threads", "max_duration", "lock")
def resume(console: Console, keys: SomeKeys = None) -> None:
    """Finish interrupted puts whose source file can be read; all of them, or those named."""
    share_heaps()
    with console.store() as store, console.reporting() as report:
        left = seconds_left(console)
        done = store.resume(*(keys or []), confirm=console.confirm(store), on_event=report, max_duration=left)
    names = [entry.key for entry in done.entries]
    if console.as_json:
        console.answer({"keys": names, "left": [pending_fields(p) for p in done.left]})
    else:
        console.note(f"finished {plural(len(names), 'put')}")
    _name_left(console, done.left)


def _name_left(console: Console, left: tuple[Pending, ...]) -> None:
    for pending in left:
        source = pending.source or "-"
        console.say(f"to finish {pending.key!r}, run: anthill put {shlex.quote(pending.key)} {shlex.quote(source)}")
    if left:
        raise PartialFailure(f"{plural(len(left), 'put')} could not be finished: the source cannot be read", resume=True)


@command(app, "json", "run", "lock")
def abandon(console: Console, keys: SomeKeys = None) -> None:
    """Give up interrupted puts and free their pads; all of them, or those named."""
    with console.store() as store:
        gone = store.abandon(*(keys or []))
    _report_keys(console, gone, "gave up")


@command(app, "json", "progress", "yes", "run", "lock")
def reserve(console: Console, count: Annotated[int, typer.Argument(metavar="N", min=1)]) -> None:
    """Reserve N pads ahead of need."""
    with console.store() as store, console.reporting() as report:
        reserved = store.reserve(count, confirm=console.confirm(store), on_event=report)
    if console.as_json:
        console.answer({"reserved": reserved})
    else:
        console.note(f"reserved {plural(reserved, 'pad')}")


@command(app, "json", "progress", "run", "lock")
def trim(console: Console) -> None:
    """Empty all free pads."""
    with console.store() as store, console.reporting() as report:
        emptied = store.trim(on_event=report)
    if console.as_json:
        console.answer({"emptied": emptied})
    else:
        console.note(f"emptied {plural(emptied, 'pad')}")


cli_checks.register(app)
cli_recovery.register(app)
cli_keys.register(app)
cli_serve.register(app)
cli_completion.register(app)


# -- the program


def main(argv: list[str] | None = None) -> int:
    """Run ``anthill`` with ``argv`` (default: the program's arguments); returns the exit code.

    Does not return after SIGINT, SIGTERM or SIGHUP: the process then ends by that signal.
    """
    arguments = sys.argv[1:] if argv is None else list(argv)
    fill_standard_descriptors()
    leave_no_core()
    with Signals() as signals:
        try:
            code = _run(arguments, Console(signals=signals))
        except KeyboardInterrupt:  # before a command began
            code = 130
    if signals.received is not None:
        die(signals.received)
    if argv is None:
        gc.freeze()  # the process ends: looking for what could be freed takes as long as listing a store
    return code


_Usage = cast("type[Exception]", typer.BadParameter.__base__)  # click's UsageError, wherever this typer keeps it


def _run(arguments: list[str], console: Console) -> int:
    try:
        code = app(arguments, standalone_mode=False, prog_name="anthill", obj=console)
        return int(code or 0)
    except SystemExit:  # typer's answer to a closed stdout, while it printed help
        discard_rest()
        return CLOSED_OUTPUT
    except _Usage as error:
        console.as_json = _wants_json(arguments)
        return console.fail(_usage_text(error), InvalidArgument.exit_code)
    except Exception as error:  # noqa: BLE001  (outside of any command: help onto a full disk, or a bug)
        discard_rest()
        return exit_code(console, error)


def _usage_text(error: Any) -> str:
    path = getattr(getattr(error, "ctx", None), "command_path", "anthill")
    return f"{' '.join(error.format_message().split())} (see {path} --help)"


def _wants_json(arguments: list[str]) -> bool:
    """The command line could not be read, so look for the words themselves."""
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return "--json" in options or "--progress=json" in options or ("--progress", "json") in pairwise(options)
