"""The commands ``put`` and ``get``."""

from __future__ import annotations

import contextlib
import stat
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .cli_commands import App, command
from .cli_limits import seconds_left
from .cli_memory import collecting_seldom, share_heaps
from .cli_options import KeyName
from .cli_output import TerminalText, is_terminal
from .cli_trees import changed, fail_for, listed, scan_tree
from .console import Console
from .errors import AnthillError, DestinationExists, InvalidArgument, KeyNotFound, NoRoom
from .render import got_fields, human_size, plural, put_fields
from .settings import parse_size

if TYPE_CHECKING:  # trees are imported when -r is given: the commands should start quickly
    from .store import Store
    from .summaries import Entry
    from .trees import Found, Left

Recursive = Annotated[bool, typer.Option("-r", "--recursive", help="A directory, as keys below KEY.")]


def register(app: App) -> None:
    """Add the commands to ``app``."""
    command(app, "json", "progress", "yes", "max_pads", "run", "limit_upload", "threads", "max_duration", "lock")(put)
    command(app, "json", "progress", "run", "limit_download", "threads")(get)


# -- put


def put(
    console: Console,
    key: KeyName,
    source: Annotated[str | None, typer.Argument(metavar="SOURCE", help="A file, - for stdin, or with -r a directory.")] = None,
    more: Annotated[list[str] | None, typer.Argument(metavar="[ARGS...]", help="Of the command, with --from-command.")] = None,
    recursive: Recursive = False,
    if_absent: Annotated[bool, typer.Option("--if-absent", help="Only when there is no such key.")] = False,
    checksum: Annotated[bool, typer.Option("--checksum", help="With -r: read files whose size and time are the same.")] = False,
    exclude: Annotated[
        list[str] | None, typer.Option("--exclude", metavar="PATTERN", help="With -r: leave out, as git does.")
    ] = None,
    exclude_from: Annotated[
        list[Path] | None, typer.Option("--exclude-from", metavar="FILE", help="With -r: patterns, one a line.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("-n", "--dry-run", help="Only say what would be stored, and what it takes.")] = False,
    from_command: Annotated[
        bool, typer.Option("--from-command", help="SOURCE and ARGS, after --, are a command: store what it writes.")
    ] = False,
    allow_empty: Annotated[bool, typer.Option("--allow-empty", help="Also when stdin or the command gives nothing.")] = False,
) -> None:
    """Store a value."""
    from .entries import check_prefix

    words = _command(source, more or [], recursive, from_command)
    if (checksum or exclude or exclude_from) and not recursive:
        raise InvalidArgument("--checksum, --exclude and --exclude-from go with -r")
    excluded = _exclusion(exclude, exclude_from)
    place = source or ""
    if dry_run:  # what a command will write is as unknown as stdin, and it is not run for this
        from .cli_estimate import Wanted, show

        show(console, Wanted(key, "-" if words else place, recursive, if_absent, checksum, excluded))
        return
    share_heaps()
    with collecting_seldom(), console.store() as store:
        if recursive:
            _put_tree(console, store, check_prefix(key), Path(place), excluded, if_absent=if_absent, checksum=checksum)
        else:
            _put_one(console, store, key, place, words, if_absent=if_absent, allow_empty=allow_empty)


def _command(source: str | None, more: list[str], recursive: bool, from_command: bool) -> list[str]:
    """The words of the command to run, if any; ``InvalidArgument`` for what does not go together."""
    if source is None:
        what = "the command: put KEY --from-command -- COMMAND ARGS..." if from_command else "SOURCE: a file, or - for stdin"
        raise InvalidArgument(f"missing argument, {what}")
    if from_command:
        if recursive:
            raise InvalidArgument("--from-command stores one value: not with -r")
        return [source, *more]
    if more:
        raise InvalidArgument(f"unexpected argument {more[0]!r}; the words of a command go with --from-command")
    return []


def _put_one(
    console: Console, store: Store, key: str, source: str, words: Sequence[str], *, if_absent: bool, allow_empty: bool
) -> None:
    console.stdin_is_data = source == "-" and not words
    with console.reporting() as report, _source(console, source, words, allow_empty) as opened:
        entry = store.put(
            key,
            opened,
            if_absent=if_absent,
            confirm=console.confirm(store),
            on_event=report,
            max_pads=console.max_pads,
            max_duration=seconds_left(console),
        )
    if console.as_json:
        console.answer(put_fields(entry))
    else:
        console.note(f"stored {key}: {_moved(entry)}")


def _source(console: Console, source: str, words: Sequence[str], allow_empty: bool) -> Any:
    from .cli_sources import output_of, source_of

    if words:
        return output_of(words, allow_empty=allow_empty, signals=console.signals, say=console.say)
    return source_of(source, allow_empty=allow_empty)


def _moved(entry: Entry) -> str:
    moved = entry.transfer
    if moved is None:
        return human_size(entry.size)
    return f"{human_size(entry.size)}, {plural(moved.pads_written, 'pad')} written in {moved.seconds:.1f} s"


def _put_tree(
    console: Console,
    store: Store,
    key: str,
    folder: Path,
    excluded: Callable[[str], bool] | None,
    *,
    if_absent: bool,
    checksum: bool,
) -> None:
    found, left = scan_tree(store, key, folder, excluded)
    wanted = found if checksum else changed(store, key, found)
    entries = _put_all(console, store, wanted, left, if_absent) if wanted else {}
    _report_tree(console, list(entries.values()), len(found) - len(wanted), left)


def _exclusion(patterns: list[str] | None, files: list[Path] | None) -> Callable[[str], bool] | None:
    if not patterns and not files:
        return None
    from .trees_exclude import exclusion

    return exclusion(patterns or [], files or [])


def _put_all(console: Console, store: Store, wanted: list[Found], left: list[Left], if_absent: bool) -> dict[str, Entry]:
    from .trees import Left

    paths = {thing.key: thing.path for thing in wanted}

    def on_source_error(key: str, error: AnthillError) -> None:
        left.append(Left(paths[key], str(error)))

    with console.reporting() as report:
        return store.put_many(
            [(thing.key, thing.source) for thing in wanted],
            if_absent=if_absent,
            confirm=console.confirm(store),
            on_event=report,
            max_pads=console.max_pads,
            attributes={thing.key: thing.attributes for thing in wanted},
            on_source_error=on_source_error,
            max_duration=seconds_left(console),
        )


def _report_tree(console: Console, entries: list[Entry], unchanged: int, left: list[Left]) -> None:
    skipped = [thing for thing in left if not thing.failed]
    failed = [thing for thing in left if thing.failed]
    if console.as_json:
        values = [put_fields(entry) for entry in entries]
        console.answer({"values": values, "failed": listed(failed), "skipped": listed(skipped), "unchanged": unchanged})
    for thing in skipped:
        console.note(f"skipped {thing.path}: {thing.reason}")
    console.note(f"stored {plural(len(entries), 'value')}, {unchanged} unchanged")
    fail_for(console, failed, "not stored")


# -- get


def get(
    console: Console,
    key: KeyName,
    dest: Annotated[str, typer.Argument(metavar="[DEST]", help="A file, or - for stdout.")] = "-",
    recursive: Recursive = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite what is there.")] = False,
    offset: Annotated[str, typer.Option("--offset", metavar="N", help="Bytes to leave out at the start.")] = "0",
    length: Annotated[str | None, typer.Option("--length", metavar="N", help="Bytes at most.")] = None,
) -> None:
    """Read a value."""
    share_heaps()
    start, count = parse_size(offset), None if length is None else parse_size(length)
    if recursive:
        if dest == "-" or start or count is not None:
            raise InvalidArgument("get -r needs a directory to restore into, and whole values")
        _get_tree(console, key, Path(dest), force)
        return
    if dest == "-":
        _check_stdout(console)
    began = time.monotonic()
    with console.store(read_only=True) as store, console.reporting() as report, _destination(console, dest, force) as target:
        entry = store.get_into(key, target, offset=start, length=count, overwrite=force, on_progress=report.transferred)
    if console.as_json:
        console.answer(got_fields(entry, time.monotonic() - began))


def _check_stdout(console: Console) -> None:
    if console.as_json:
        raise InvalidArgument("--json needs a file as DEST: stdout cannot hold the value and the answer")
    if console.progress == "auto" and is_terminal(sys.stdout):
        console.progress = "none"  # bars on the same screen would wipe a last line that has no end


@contextlib.contextmanager
def _destination(console: Console, dest: str, force: bool) -> Iterator[Any]:
    """Stdout; the path, to be replaced as a whole; a pipe or a character device, to be written to."""
    path = Path(dest)
    if dest == "-":
        yield TerminalText() if is_terminal(sys.stdout) else console.stdout
    elif _is_stream(path, force):
        with path.open("wb") as stream:
            yield stream
    else:
        yield path


def _is_stream(path: Path, force: bool) -> bool:
    """False for what can be replaced by a file; ``NoRoom`` for what must not be."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False  # not there, or not to be seen: writing beside it says which
    if stat.S_ISDIR(mode) or stat.S_ISBLK(mode):
        raise NoRoom(f"{path} is a directory or a disk, not a file; a directory is restored with -r")
    if stat.S_ISREG(mode):
        if not force:
            raise DestinationExists(f"{path} is there; --force overwrites")
        return False
    return True


def _get_tree(console: Console, key: str, dest: Path, force: bool) -> None:
    from .entries import check_prefix
    from .trees import plan
    from .trees_restore import Restorer

    began = time.monotonic()
    with console.store(read_only=True) as store, console.reporting() as report:
        key = check_prefix(key)
        entries = store.entries(key)
        if not entries and key:
            raise KeyNotFound(f"no key {key!r} and none below it", key=key)
        restorer = Restorer(store, dest, force=force, on_progress=report.transferred)
        restorer.run(plan(entries, key))
    failed = restorer.left
    if console.as_json:
        seconds = time.monotonic() - began
        console.answer({"values": [got_fields(e, seconds) for e in restorer.restored], "failed": listed(failed)})
    console.note(f"restored {plural(len(restorer.restored), 'value')}")
    fail_for(console, failed, "not restored")
