"""What the Store answers: frozen dataclasses, sizes in bytes, times as aware UTC datetimes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True)
class Transfer:
    """What one put moved; shared by all entries of one ``put_many``."""

    pads_written: int  # images sent and committed
    pads_reserved: int
    bytes_sent: int  # bytes of those images
    seconds: float


@dataclass(frozen=True)
class BlockPlace:
    """Where one chunk of a value lies: ``length`` sealed bytes at ``offset`` of pad number ``pad``."""

    chunk: int
    pad: int
    offset: int
    length: int


@dataclass(frozen=True)
class Entry:
    """One published value."""

    key: str
    size: int  # plaintext bytes
    version: int  # rises over the whole store with every publication
    modified: datetime  # when this version was sealed
    pads: int  # pads the value's blocks lie on
    attributes: Mapping[str, Any]  # mode, mtime_ns, kind, ... as given to put
    transfer: Transfer | None = field(default=None, compare=False)  # only in what put and put_many return
    blocks: tuple[BlockPlace, ...] | None = field(default=None, compare=False)  # only in what stat returns


@dataclass(frozen=True)
class Pending:
    """One interrupted put."""

    key: str
    done: int  # chunks committed
    total: int | None  # chunks in all; None for a stream
    source: str | None  # path of the source file; None where there was none
    started: datetime


@dataclass(frozen=True)
class ResumeReport:
    """What ``resume`` did."""

    entries: tuple[Entry, ...]  # finished and published
    left: tuple[Pending, ...]  # source cannot be read: run the put again
