"""What the Store answers about itself as a whole: its numbers, and what was proved or mended. Frozen dataclasses, sizes in
bytes, times as aware UTC datetimes. Apart from ``summaries``, because most programs never ask: making the classes takes
longer than opening a store."""

from __future__ import annotations

import builtins
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum
from typing import Any, NamedTuple


@dataclass(frozen=True)
class PadSummary:
    """Counts of pads."""

    total: int
    used: int  # pads that hold a live block or manifest
    free: int  # reserved pads that hold nothing live, written before or not
    reserved: int  # of these, never written


@dataclass(frozen=True)
class ByteSummary:
    """Counts of bytes."""

    stored: int  # plaintext bytes of all values
    live: int  # sealed bytes of live blocks, tables included
    free: int  # bytes a put can use without reserving
    gaps: int  # bytes in used pads that no put can use until their pad has less in it


class Use(IntEnum):
    """What bytes of a pad are used for."""

    FREE = 0  # a put can use them
    GAP = 1  # nothing is there, and no put can use them until their pad has less in it
    LIVE = 2  # blocks of values, and the tables that name them
    PENDING = 3  # blocks of interrupted puts, and images that are on their way


class ExtentRange(NamedTuple):
    """Neighbouring bytes of neighbouring pads with the same use."""

    use: Use
    length: int


@dataclass(frozen=True)
class Usage:
    """The store in numbers."""

    pads: PadSummary
    bytes: ByteSummary
    keys: int
    network: str  # URL
    slot: int
    facts: Mapping[str, Any]  # the network's probed properties
    fill: builtins.bytes = field(repr=False, default=b"")  # one byte per pad, 0 empty to 255 full
    ranges: tuple[ExtentRange, ...] = field(repr=False, default=())  # all bytes of all pads, in order


@dataclass(frozen=True)
class Problem:
    """One thing ``check`` found."""

    kind: str  # index, map, pad, block, or lost (a key that repair gives up)
    detail: str
    pad: int | None = None
    key: str | None = None


@dataclass(frozen=True)
class RecoveryReport:
    """What ``recover`` or ``repair`` found and did."""

    keys: tuple[str, ...]  # all that the store has now
    changed: bool  # False: index and pads agreed, and nothing was written
    damage: str | None = None  # what was wrong with the index; None: nothing
    lost: tuple[str, ...] = ()  # keys of which no version is whole
    older: tuple[str, ...] = ()  # keys that have an older version now, because a newer one was not whole
    moved: tuple[str, ...] = ()  # keys whose data was taken off damaged pads
    abandoned: tuple[str, ...] = ()  # of these: keys that had an interrupted put beside, which was given up
    damaged_pads: tuple[int, ...] = ()  # still damaged: they take nothing more until ``repair`` has emptied them
    emptied_pads: tuple[int, ...] = ()  # were damaged, and serve again
    rolled_back_pads: tuple[int, ...] = ()  # older than this store left them; what they hold counts now
    pads: int = 0  # numbers in use
    kept: tuple[str, ...] = ()  # paths of the files that were replaced, under their new names

    @property
    def given_up(self) -> bool:
        """True when something had to be, or is not whole."""
        return bool(self.lost or self.older or self.abandoned or self.damaged_pads or self.rolled_back_pads)


@dataclass(frozen=True)
class CheckReport:
    """What ``check`` proved and found."""

    problems: tuple[Problem, ...]
    blocks_read: int
    seed: int | None = None  # of the random sample
    bytes_read: int = 0  # plaintext bytes of those blocks
    complete: bool = True  # False: the time was over before the round was
    since: datetime | None = None  # with a time limit: when the round began that this check belongs to
    cursor_kept: bool = True  # False: the home cannot be written, and the next check begins where this one did


@dataclass(frozen=True)
class DrillReport:
    """What ``drill`` rebuilt and found."""

    problems: tuple[Problem, ...]
    compared: int  # values that nobody changed meanwhile
    opened: tuple[str, ...]  # keys of the values that were read whole
    seed: int  # of their choice
    bytes_read: int  # plaintext bytes of those
