"""What the tests of ``recover`` and ``repair`` share: states to compare, and damage to do."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from anthill_sync.index import MasterIndex, PadStatus
from anthill_sync.recovery import recover
from anthill_sync.reports import RecoveryReport
from anthill_sync.values import Value
from tests.store_tools import StoreRig

FILES = ("index.json", "index.journal")


def value_facts(value: Value) -> tuple[Any, ...]:
    """All that the pads tell of a value; fingerprints they do not."""
    blocks = [(block.data_id, block.extent) for block in value.blocks()]
    facts = value.size, value.version, value.modified, dict(value.attributes or {}), value.manifest_pad
    return *facts, blocks or value.data_ids


def facts(index: MasterIndex) -> dict[str, Any]:
    """What a recovery from the pads alone has to find again."""
    reserved = [pad for pad, status in enumerate(index.status) if status >= PadStatus.RESERVED_PENDING_UPLOAD]
    last = reserved[-1] + 1 if reserved else 0
    return {
        "values": {key: value_facts(value) for key, value in index.values.items()},
        "reserved": reserved,
        "committed": [pad for pad in reserved if index.status[pad] == PadStatus.COMMITTED],
        "counters": list(index.counters)[:last],
        "blank": bytes(index.blank[:last]),
        "stale": {key: set(places) for key, places in index.stale.items()},
    }


def is_clean(index: MasterIndex) -> bool:
    """Nothing is on the network that the index knows to be dead or unfinished, so the pads alone tell everything."""
    return not index.to_rewrite and not index.writing and not index.pending_uploads


def lose_index(rig: StoreRig) -> None:
    """As if the disk had eaten the index."""
    rig.store.close()
    for name in FILES:
        (rig.home / name).unlink()
    rig.open()


def recovered(rig: StoreRig) -> RecoveryReport:
    """Recover the rig's store over its own network."""
    return recover(rig.session)


def changed_lines(path: Path, change: Callable[[list[bytes]], list[bytes]]) -> None:
    """Edit a file line by line, newlines included."""
    path.write_bytes(b"".join(change(path.read_bytes().splitlines(keepends=True))))


def flip(path: Path, position: int, bit: int = 0) -> None:
    """One bit of a file."""
    data = bytearray(path.read_bytes())
    data[position] ^= 1 << bit
    path.write_bytes(data)


# -- random damage of a file: each returns what it did


def flip_somewhere(path: Path, chance: random.Random) -> str:
    position, bit = chance.randrange(path.stat().st_size), chance.randrange(8)
    flip(path, position, bit)
    return f"bit {bit} of byte {position}"


def cut_somewhere(path: Path, chance: random.Random) -> str:
    length = chance.randrange(path.stat().st_size)
    path.write_bytes(path.read_bytes()[:length])
    return f"cut to {length}"


def zero_somewhere(path: Path, chance: random.Random) -> str:
    data = bytearray(path.read_bytes())
    start = chance.randrange(len(data)) // 512 * 512
    data[start : start + 512] = bytes(len(data[start : start + 512]))
    path.write_bytes(data)
    return f"512 zeros from {start}"


def swap_lines(path: Path, chance: random.Random) -> str:
    one = other = 0

    def change(lines: list[bytes]) -> list[bytes]:
        nonlocal one, other
        one, other = chance.randrange(len(lines)), chance.randrange(len(lines))
        lines[one], lines[other] = lines[other], lines[one]
        return lines

    changed_lines(path, change)
    return f"lines {one} and {other} swapped"


def double_line(path: Path, chance: random.Random) -> str:
    changed_lines(path, lambda lines: [*lines, lines[chance.randrange(len(lines))]])
    return "a line doubled at the end"


def drop_line(path: Path, chance: random.Random) -> str:
    dropped = 0

    def change(lines: list[bytes]) -> list[bytes]:
        nonlocal dropped
        dropped = chance.randrange(len(lines))
        return [line for number, line in enumerate(lines) if number != dropped]

    changed_lines(path, change)
    return f"line {dropped} dropped"


def remove_file(path: Path, chance: random.Random) -> str:
    path.unlink()
    return "removed"


DAMAGE = (flip_somewhere, flip_somewhere, cut_somewhere, zero_somewhere, swap_lines, double_line, drop_line, remove_file)
