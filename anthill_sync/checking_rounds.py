"""Checks with a time limit: each goes on where the last one stopped, so that enough of them read everything.

A round goes through all blocks in the order of their keys, then through all pads. How far it came stands in the home, by
key and chunk: what is put, renamed or removed meanwhile moves nothing. A value that comes to lie before the cursor is read
in the next round.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from itertools import takewhile
from pathlib import Path
from typing import Any

from . import checking, durable
from .checking import CheckOptions, Job, jobs_below, local_problems, pad_problems, read_blocks
from .errors import IndexDamaged, InvalidArgument
from .index import MasterIndex
from .reports import CheckReport, Problem
from .session import Session

log = logging.getLogger(__name__)

CURSOR_NAME = "check-cursor.json"
_FORMAT = 1


@dataclass
class Cursor:
    """How far a round came: everything up to and including this is proved. ``key`` None: no block yet; ``pad`` not None:
    all blocks, and the pads below it."""

    began: str  # ISO 8601, UTC: when the round began
    key: str | None = None
    chunk: int = -1
    pad: int | None = None


class _Limit:
    """Says yes to the first item, so that every run gets on, and then until the time is over."""

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self._clock, self._ends = clock, clock() + seconds
        self._first = True
        self.reached = False

    def __call__(self, item: object) -> bool:
        self.reached = not self._first and self._clock() >= self._ends
        self._first = False
        return not self.reached


def check(session: Session, options: CheckOptions, max_seconds: float | None) -> CheckReport:
    """Prove the store; with ``max_seconds`` all data, as far as that time allows."""
    if max_seconds is None:
        return checking.check(session, options)
    if options.sample is not None or not options.read_data or max_seconds < 0:
        raise InvalidArgument("a time limit goes with reading all data, not with a sample")
    return check_some(session, options.prefix, max_seconds)


def check_some(session: Session, prefix: str, seconds: float, clock: Callable[[], float] = time.monotonic) -> CheckReport:
    """Prove index and map, then go on with the round for about ``seconds``, a block at least."""
    limit = _Limit(seconds, clock)
    try:
        problems, index = list(local_problems(session)), session.index()
    except IndexDamaged as error:
        return CheckReport((Problem("index", str(error)),), 0, complete=False)
    cursor = read_cursor(session.home, prefix)
    began = cursor.began
    part = _Part(session, prefix, limit, cursor)
    try:
        part.run(index)
    finally:
        kept = keep_cursor(session.home, prefix, None if part.complete else cursor)
    return CheckReport(
        (*problems, *part.problems),
        part.blocks,
        bytes_read=part.size,
        complete=part.complete,
        since=datetime.fromisoformat(began),
        cursor_kept=kept,
    )


class _Part:
    """One run's share of a round; moves the cursor over what is proved."""

    def __init__(self, session: Session, prefix: str, limit: _Limit, cursor: Cursor) -> None:
        self._session, self._prefix, self._limit, self._cursor = session, prefix, limit, cursor
        self.problems: list[Problem] = []
        self.blocks = self.size = 0
        self.complete = False

    def run(self, index: MasterIndex) -> None:
        if self._cursor.pad is None:
            jobs = takewhile(self._limit, self._jobs_left(index))
            self.blocks, self.size, self.problems = read_blocks(self._session, jobs, self._proved)
        if not self._limit.reached and not self._prefix:
            self._look_at_pads()
        self.complete = not self._limit.reached

    def _jobs_left(self, index: MasterIndex) -> Iterator[Job]:
        key, chunk = self._cursor.key, self._cursor.chunk
        jobs = jobs_below(index, self._prefix, key or "")
        return (job for job in jobs if job[0] != key or job[1] > chunk)

    def _proved(self, job: Job) -> None:
        self._cursor.key, self._cursor.chunk = job[:2]

    def _look_at_pads(self) -> None:
        """The cursor moves when all pads that were begun are done: their results come without numbers."""
        first = next_pad = self._cursor.pad or 0
        self._cursor.pad = first

        def go_on(pad: int) -> bool:
            nonlocal next_pad
            wanted = self._limit(pad)
            next_pad = pad + 1 if wanted else next_pad
            return wanted

        self.problems += pad_problems(self._session, first, go_on)
        self._cursor.pad = next_pad


# -- the file


def read_cursor(home: Path, prefix: str) -> Cursor:
    """Where the round of ``prefix`` stands; at its beginning where there is none, or nothing that can be read."""
    try:
        return Cursor(**_cursors(home)[prefix])
    except KeyError:
        return Cursor(datetime.now(timezone.utc).isoformat())


def _cursors(home: Path) -> dict[str, dict[str, Any]]:
    try:
        fields = json.loads((home / CURSOR_NAME).read_bytes())
        cursors = {prefix: each for prefix, each in fields["cursors"].items() if fields["format"] == _FORMAT}
        for each in cursors.values():
            _check(Cursor(**each))
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("%s cannot be read (%s): the round begins anew", home / CURSOR_NAME, type(error).__name__)
        return {}
    return cursors


def _check(cursor: Cursor) -> None:
    datetime.fromisoformat(cursor.began)
    sane = (
        isinstance(cursor.key, (str, type(None))) and isinstance(cursor.chunk, int) and isinstance(cursor.pad, (int, type(None)))
    )
    if not sane:
        raise ValueError("a field has an impossible type")


def keep_cursor(home: Path, prefix: str, cursor: Cursor | None) -> bool:
    """Remember it, or that the round is over (None); False where the home cannot be written."""
    cursors = {**_cursors(home), prefix: cursor and asdict(cursor)}
    fields = {"format": _FORMAT, "cursors": {prefix: each for prefix, each in cursors.items() if each}}
    try:
        durable.replace_file(home / CURSOR_NAME, (json.dumps(fields) + "\n").encode(), suffix=f".{os.getpid()}.new")
    except OSError as error:
        log.warning("%s: %s: the next check begins where this one did", home / CURSOR_NAME, error.strerror)
        return False
    return True
