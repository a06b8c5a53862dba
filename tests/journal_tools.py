"""What the journal's tests share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypeVar

from anthill_sync.index import MasterIndex, Record
from anthill_sync.journal import Journal
from anthill_sync.lines import load_snapshot, scan, snapshot_lines

T = TypeVar("T")


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


def states(snapshot: bytes, data: bytes) -> list[bytes]:
    """The state after each complete line, the first line included."""
    index, found = load_snapshot(snapshot, "snapshot"), []
    found.append(state(index))
    for sequence, records in scan(data, "journal").batches:
        for record in records:
            index.apply(record)
        index.sequence = sequence
        found.append(state(index))
    return found


def expected(data: bytes, known: list[T], original: list[bytes]) -> T | None:
    """What the promise allows for changed journal bytes: the longest prefix of original lines, or damage when a line
    that is still whole says that more than this prefix was safely on disk."""
    lines = data.split(b"\n")
    good = 0
    while good < min(len(lines) - 1, len(original)) and lines[good] == original[good]:
        good += 1
    if good == 0:
        return None
    end = sum(len(line) + 1 for line in original[:good])
    whole = [line for line in original if line in data[end:]]
    named = [json.loads(line).get("y", 0) for line in [*original[:good], *whole]]
    return None if len(data) > end and max(named) > end else known[good - 1]
