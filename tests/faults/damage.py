"""What damage does to files."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations

SECTORS = (512, 4096)  # bytes that a disk writes or loses at once


@dataclass(frozen=True)
class Damage:
    """``files``: what is in these files (relative to the home) afterwards, None: it is gone."""

    kind: str
    files: dict[str, bytes | None]
    where: object = ""

    def __str__(self) -> str:
        return f"in {', '.join(self.files)}: {self.where}"


def flipped(name: str, data: bytes, bits: Iterable[int]) -> Iterator[Damage]:
    """One bit after the other, counted from the file's first."""
    for bit in bits:
        at, value = bit // 8, data[bit // 8] ^ 1 << bit % 8
        yield Damage("flipped bit", {name: b"%b%c%b" % (data[:at], value, data[at + 1 :])}, f"byte {at}, bit {bit % 8}")


def a_bit_of_each_byte(data: bytes, chance: random.Random) -> list[int]:
    return [8 * at + chance.randrange(8) for at in range(len(data))]


def some_bits(data: bytes, per_kib: int, chance: random.Random) -> list[int]:
    """``per_kib`` different bits of every KiB."""
    return [
        bit
        for start in range(0, 8 * len(data), 8192)
        for bit in chance.sample(range(start, min(start + 8192, 8 * len(data))), min(per_kib, 8 * len(data) - start))
    ]


def cut(name: str, data: bytes, lengths: Iterable[int]) -> Iterator[Damage]:
    for length in lengths:
        yield Damage("truncated", {name: data[:length]}, f"{length} of {len(data)} bytes")


def zeroed(name: str, data: bytes) -> Iterator[Damage]:
    """Every sector of each size."""
    for size in SECTORS:
        for start in range(0, len(data), size):
            lost = min(size, len(data) - start)
            yield Damage(f"zeroed {size}", {name: data[:start] + bytes(lost) + data[start + lost :]}, f"byte {start}")


def misplaced(name: str, data: bytes) -> Iterator[Damage]:
    """Lines that change places, come twice, or are lost."""
    lines = data.splitlines(keepends=True)
    for one, two in combinations(range(len(lines)), 2):
        changed = [*lines]
        changed[one], changed[two] = lines[two], lines[one]
        yield Damage("swapped lines", {name: b"".join(changed)}, f"lines {one} and {two}")
    for at, line in enumerate(lines):
        yield Damage("doubled line", {name: b"".join([*lines[:at], line, *lines[at:]])}, f"line {at}")
        yield Damage("doubled line", {name: data + line}, f"line {at}, at the end")
        yield Damage("lost line", {name: b"".join(lines[:at] + lines[at + 1 :])}, f"line {at}")


def other(name: str, data: bytes, chance: random.Random) -> Iterator[Damage]:
    yield Damage("gone", {name: None})
    yield Damage("grown", {name: data + b"\n"}, "a line's end")
    yield Damage("grown", {name: data + chance.randbytes(40)}, "noise")
    yield Damage("grown", {name: data + bytes(4096)}, "zeros")
    yield Damage("doubled file", {name: data + data})
