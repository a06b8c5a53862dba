"""``put --dry-run``: what would be stored, and what it would take; nothing is changed, and nobody is waited for."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .cli_questions import describe
from .cli_trees import changed, fail_for, listed, scan_tree
from .console import Console
from .errors import InvalidArgument, SourceNotFound
from .render import human_size, plural

if TYPE_CHECKING:
    from .events import ConfirmReservation
    from .store import Store
    from .trees import Left


@dataclass(frozen=True)
class Wanted:
    """What a put was asked for."""

    key: str
    source: str
    recursive: bool
    if_absent: bool
    checksum: bool
    excluded: Callable[[str], bool] | None


@dataclass
class _Found:
    """What there is to store: bytes by key, None where nobody can know; and their attributes."""

    sizes: dict[str, int | None] = field(default_factory=dict)
    attributes: dict[str, dict[str, Any]] = field(default_factory=dict)
    unchanged: int = 0
    left: list[Left] = field(default_factory=list)


def show(console: Console, wanted: Wanted) -> None:
    """Print it. ``PartialFailure`` where the put itself would end with it."""
    if console.ping is not None or console.metrics_file is not None:
        raise InvalidArgument("a dry run is no run to tell others of: not with --ping or --metrics-file")
    console.run = None
    with console.store(read_only=True) as store:
        found = _found_tree(store, wanted) if wanted.recursive else _found_one(wanted)
        question = store.estimate(found.sizes, if_absent=wanted.if_absent, max_pads=console.max_pads, attributes=found.attributes)
    failed = [thing for thing in found.left if thing.failed]
    skipped = [thing for thing in found.left if not thing.failed]
    if console.as_json:
        values = [{"key": key, "size": size} for key, size in found.sizes.items()]
        lists = {"values": values, "failed": listed(failed), "skipped": listed(skipped), "unchanged": found.unchanged}
        console.answer({"dry_run": True, **lists, **_question_fields(question)})
    else:
        console.out(_listing(found, question))
    fail_for(console, failed, "would not be stored")


def _found_tree(store: Store, wanted: Wanted) -> _Found:
    from .entries import check_prefix

    key = check_prefix(wanted.key)
    every, left = scan_tree(store, key, Path(wanted.source), wanted.excluded)
    chosen = every if wanted.checksum else changed(store, key, every)
    return _Found(
        {thing.key: thing.size for thing in chosen},
        {thing.key: dict(thing.attributes) for thing in chosen},
        len(every) - len(chosen),
        left,
    )


def _found_one(wanted: Wanted) -> _Found:
    """A file's size; what can be read only once is not read for this."""
    if wanted.source == "-":
        return _Found({wanted.key: None})
    try:
        status = os.stat(wanted.source)
    except OSError as error:
        raise SourceNotFound(f"{wanted.source}: {error.strerror}") from None
    if stat.S_ISDIR(status.st_mode):
        raise InvalidArgument(f"{wanted.source} is a directory: give -r to store what is in it")
    return _Found({wanted.key: status.st_size if stat.S_ISREG(status.st_mode) else None})


def _question_fields(question: ConfirmReservation) -> dict[str, Any]:
    """The fields of the event, but for the name of the first, which says more here."""
    fields = dict(vars(question))
    return {"pads_needed": fields.pop("needed"), **fields}


def _listing(found: _Found, question: ConfirmReservation) -> str:
    rows = [("?" if size is None else str(size), key) for key, size in found.sizes.items()]
    width = max((len(size) for size, _ in rows), default=0)
    lines = [f"{size:>{width}}  {key}" for size, key in rows]
    known = sum(size or 0 for size in found.sizes.values())
    total = f"would store {plural(len(rows), 'value')} of {human_size(known)}, {found.unchanged} unchanged"
    return "\n".join([*lines, total, describe(question)]) + "\n"
