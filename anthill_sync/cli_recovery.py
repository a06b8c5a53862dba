"""The commands ``repair`` and ``recover``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .cli_commands import App, command
from .cli_settings import assignment
from .console import Console
from .errors import AnthillError, InvalidArgument, PartialFailure
from .render import plural, problem_line, recovery_fields
from .settings import resolve

if TYPE_CHECKING:
    from .config import Config
    from .reports import RecoveryReport


def register(app: App) -> None:
    """Add the commands to ``app``."""
    command(app, "json", "run", "lock")(repair)
    command(app, "json", "run", "lock")(recover)


def repair(console: Console) -> None:
    """Prove everything, then mend what is wrong; nothing that can be read is lost."""
    with console.store() as store:
        report = store.repair(on_problem=lambda problem: console.say(problem_line(problem)))
    _answer(console, report)
    if report.changed:
        _tell_changes(console, report)
    else:
        console.note(f"nothing to repair: {plural(len(report.keys), 'key')} on {plural(report.pads, 'pad')}")
    _judge(report)


def recover(
    console: Console,
    network: Annotated[str | None, typer.Option("--network", metavar="URL", help="Where no store is: its pads.")] = None,
    key_file: Annotated[Path | None, typer.Option("--key-file", metavar="FILE", help="And its key.")] = None,
    slot: Annotated[int, typer.Option("--slot", metavar="N", min=0, help="And which store of that key.")] = 0,
    assignments: Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A setting to keep.")] = None,
) -> None:
    """Rebuild the index from the pads; with the options, where no store is yet."""
    if network is not None and network.lower().startswith("memory:"):
        raise InvalidArgument("a memory: network ends with its process; it is for Python programs only")
    chosen = dict(assignment(text) for text in assignments or [])
    from .store import Store

    kept = _kept(console)
    settings = resolve({} if kept is None else kept.settings, chosen)
    opened = key_file if kept is None else kept.key_path(console.home_path())
    report = Store.recover(
        console.home_path(),
        network=network,
        key_file=key_file,
        slot=slot,
        passphrase=console.passphrase(settings, opened),
        settings=chosen,
        lock_wait=console.wait_for_lock(settings),
    )
    _answer(console, report)
    if report.changed:
        _tell_changes(console, report)
        console.note("there may be no fingerprints: the next put of a key sends all of it again")
    else:
        console.note("the index is undamaged and agrees with the pads: nothing was changed")
    _tell_losses(console, report)
    _judge(report)


def _kept(console: Console) -> Config | None:
    """Of a store whose ``config.json`` can be read."""
    try:
        return console.config()
    except AnthillError:
        return None


def _answer(console: Console, report: RecoveryReport) -> None:
    if console.as_json:
        console.answer(recovery_fields(report))


def _tell_changes(console: Console, report: RecoveryReport) -> None:
    console.note(f"{plural(len(report.keys), 'key')} on {plural(report.pads, 'pad')}")
    for path in report.kept:
        console.note(f"kept {path}")
    if report.emptied_pads:
        moved = plural(len(report.moved), "key")
        console.note(f"took {moved} off {plural(len(report.emptied_pads), 'damaged pad')}, which serve again")


def _tell_losses(console: Console, report: RecoveryReport) -> None:
    """What ``repair`` has told before it changed anything."""
    for key in report.lost:
        console.say(f"key {key}: no version of it is whole")
    for key in report.older:
        console.say(f"key {key}: its newest version is not whole; it has an older one now")
    for pad in report.rolled_back_pads:
        console.say(f"pad {pad}: is older than this store left it; what it holds counts from now on")
    for pad in report.damaged_pads:
        console.say(f"pad {pad}: is damaged and takes nothing more; 'anthill repair' takes off it what can be read")


def _judge(report: RecoveryReport) -> None:
    parts = {
        "key lost": report.lost,
        "key taken back to an older version": report.older,
        "interrupted put given up": report.abandoned,
        "damaged pad left": report.damaged_pads,
        "pad older than this store left it": report.rolled_back_pads,
    }
    words = [f"{len(found)} x {what}" for what, found in parts.items() if found]
    if words:
        raise PartialFailure(f"not everything is whole: {', '.join(words)}; the rest is")
