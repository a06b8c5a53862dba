"""What the journal's tests share."""

from __future__ import annotations

from pathlib import Path

from anthill_sync.index import MasterIndex, Record
from anthill_sync.journal import Journal
from anthill_sync.lines import snapshot_lines


def state(index: MasterIndex) -> bytes:
    """Everything an index knows."""
    return b"".join(snapshot_lines(index))


def ends(data: bytes) -> list[int]:
    """Offset behind each line."""
    return [at + 1 for at, byte in enumerate(data) if byte == 10]


def run_of(number: int) -> Record:
    """The record of this run."""
    return ["run", number, number.to_bytes(16, "big").hex()]


def seen(home: Path) -> bytes:
    """The state a reader finds."""
    reader = Journal(home)
    try:
        reader.refresh()
        return state(reader.index)
    finally:
        reader.close()
