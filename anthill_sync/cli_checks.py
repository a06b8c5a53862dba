"""The commands that prove a store and change nothing: ``check`` and ``drill``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from .cli_commands import App, command
from .cli_memory import share_heaps
from .cli_options import key_text
from .console import Console
from .errors import Damaged, InvalidArgument
from .render import check_fields, check_listing, drill_fields, plural, timestamp
from .settings import parse_duration

if TYPE_CHECKING:
    from .reports import CheckReport


def register(app: App) -> None:
    """Add the commands to ``app``."""
    command(app, "json", "run")(check)
    command(app, "json", "run")(drill)


def check(
    console: Console,
    prefix: Annotated[str, typer.Argument(metavar="[PREFIX]", parser=key_text, help="This key and all below it.")] = "",
    read_data: Annotated[bool, typer.Option("--read-data", help="Read and open every block.")] = False,
    sample: Annotated[str | None, typer.Option("--sample", metavar="PERCENT", help="Only a random share of them.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", metavar="N", help="The same share as another time.")] = None,
    max_duration: Annotated[
        str | None,
        typer.Option("--max-duration", metavar="TIME", help="Read for so long (30m, 2h); the next check goes on from there."),
    ] = None,
) -> None:
    """Prove the index and the memory map, and that the data can be read."""
    share = None if sample is None else _percent(sample)
    limit = None if max_duration is None else parse_duration(max_duration)
    if limit is not None and (share is not None or not read_data):
        raise InvalidArgument("--max-duration goes with --read-data, not with --sample")
    share_heaps()
    with console.store(read_only=True) as store:
        report = store.check(prefix, read_data=read_data or share is not None, sample=share, seed=seed, max_seconds=limit)
    console.bytes_done = report.bytes_read
    if console.as_json:
        console.answer(check_fields(report))
    else:
        console.out(check_listing(report))
    if not report.cursor_kept:
        console.warn("the home cannot be written: the next check begins where this one did")
    _judge(console, report)


def _judge(console: Console, report: CheckReport) -> None:
    seed = "" if report.seed is None else f", seed {report.seed}"
    summary = f"{plural(len(report.problems), 'problem')}, {plural(report.blocks_read, 'block')} read{seed}"
    if report.since is not None and report.complete:
        summary += f"; everything was read since {timestamp(report.since)}"
    elif report.since is not None:
        summary += f"; the rest of the round that began {timestamp(report.since)} is left to the next check"
    if report.problems:
        raise Damaged(summary)
    console.note(summary)


def drill(
    console: Console,
    values: Annotated[int, typer.Option("--values", metavar="N", min=0, help="Random values to read whole.")] = 10,
    seed: Annotated[int | None, typer.Option("--seed", metavar="N", help="The same values as another time.")] = None,
) -> None:
    """Rehearse the loss of the home: rebuild from key and network elsewhere, compare, and read some values."""
    with console.store(read_only=True) as store:
        report = store.drill(values=values, seed=seed)
    console.bytes_done = report.bytes_read
    if console.as_json:
        console.answer(drill_fields(report))
    else:
        console.out(check_listing(report))
    rebuilt = f"{plural(report.compared, 'value')} compared, {len(report.opened)} read, seed {report.seed}"
    if report.problems:
        raise Damaged(f"{plural(len(report.problems), 'difference')}, {rebuilt}")
    console.note(f"key and network give everything back: {rebuilt}")


def _percent(text: str) -> float:
    try:
        value = float(text.removesuffix("%"))
    except ValueError:
        value = -1.0
    if not 0 < value <= 100:
        raise InvalidArgument(f"not a percentage above 0 and up to 100: {text!r}")
    return value
