"""What the commands for directories have in common: finding files, and naming those that were left."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .console import Console
from .errors import PartialFailure
from .render import plural

if TYPE_CHECKING:  # trees are imported when -r is given: the commands should start quickly
    from .store import Store
    from .trees import Found, Left


def scan_tree(store: Store, key: str, root: Path, excluded: Callable[[str], bool] | None) -> tuple[list[Found], list[Left]]:
    """What ``put -r`` would store of the directory ``root``, and what it leaves."""
    from .trees import Found, scan

    things = list(scan(root, key, avoid=Path(store.home), excluded=excluded))
    return [t for t in things if isinstance(t, Found)], [t for t in things if not isinstance(t, Found)]


def changed(store: Store, key: str, found: list[Found]) -> list[Found]:
    """Those whose size, time or mode is not what the store has."""
    known = {entry.key: entry for entry in store.entries(key)}
    return [thing for thing in found if not thing.is_unchanged(known.get(thing.key))]


def listed(things: Sequence[Left]) -> list[dict[str, str]]:
    """Files that were left, for JSON."""
    return [{"path": thing.path, "error": thing.reason} for thing in things]


def fail_for(console: Console, failed: Sequence[Left], what: str) -> None:
    """``PartialFailure``, after naming each, when there are any."""
    if not failed:
        return
    for thing in failed:
        console.say(f"{what}: {thing.path}: {thing.reason}")
    raise PartialFailure(f"{plural(len(failed), 'file')} {what}, all others are done")
