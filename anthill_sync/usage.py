"""The memory map in numbers. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from .memory_map import Kind, MemoryMap
from .reports import ByteSummary, ExtentRange, PadSummary, Use
from .space import HEADER_SIZE, TABLE_FIXED, Space
from .values import Extent

_EQUAL_KINDS = re.compile(rb"(.)\1*", re.DOTALL)
_UNFINISHED = 255  # no Kind: a full chunk of an interrupted put
_USES = {Kind.FRESH: Use.FREE, Kind.EMPTY: Use.FREE, Kind.FULL: Use.LIVE, Kind.BLOCKED: Use.GAP, _UNFINISHED: Use.PENDING}


def summarise(memory_map: MemoryMap, stored: int) -> tuple[PadSummary, ByteSummary, bytes]:
    """Pads, bytes and fill of a map; ``stored``: plaintext bytes of all values."""
    kinds = memory_map.kinds
    fresh, empty, full = kinds.count(Kind.FRESH), kinds.count(Kind.EMPTY), kinds.count(Kind.FULL)
    used = full + len(memory_map.spaces)
    ours = memory_map.total - kinds.count(Kind.UNRESERVED)
    pads = PadSummary(total=ours, used=used, free=fresh + empty, reserved=fresh)
    live = full * memory_map.full_length + sum(_live(space) for space in memory_map.spaces.values())
    inside = [(memory_map.is_open(space), _unused(memory_map, space)) for space in memory_map.spaces.values()]
    free = (fresh + empty) * memory_map.chunk_size + sum(count for usable, count in inside if usable)
    gaps = sum(count for usable, count in inside if not usable)
    return pads, ByteSummary(stored=stored, live=live, free=free, gaps=gaps), _fill(memory_map)


def _live(space: Space) -> int:
    return space.end - HEADER_SIZE - sum(size for _, size in space.gaps) + space.table


def _unused(memory_map: MemoryMap, space: Space) -> int:
    return max(0, memory_map.pad_size - HEADER_SIZE - _live(space))


def _fill(memory_map: MemoryMap) -> bytes:
    levels = bytearray(len(memory_map.kinds))
    for pad, kind in enumerate(memory_map.kinds):
        if kind == Kind.FULL:
            levels[pad] = 255
    room = memory_map.pad_size - HEADER_SIZE - TABLE_FIXED
    for pad, space in memory_map.spaces.items():
        levels[pad] = max(1, min(255, 255 * (_live(space) - TABLE_FIXED) // room))
    return bytes(levels)


def extent_ranges(memory_map: MemoryMap, pending: Iterable[Extent]) -> tuple[ExtentRange, ...]:
    """Every byte of every pad that is ours, in order of the pads; ``pending``: extents of interrupted puts."""
    kinds, unfinished = bytearray(memory_map.kinds), set()
    for pad, offset, _ in pending:
        unfinished.add((pad, offset))
        if kinds[pad] == Kind.FULL:
            kinds[pad] = _UNFINISHED
    joined: list[ExtentRange] = []
    for each in _each_range(memory_map, bytes(kinds), unfinished):
        if joined and joined[-1].use == each.use:
            joined[-1] = ExtentRange(each.use, joined[-1].length + each.length)
        elif each.length:
            joined.append(each)
    return tuple(joined)


def _each_range(memory_map: MemoryMap, kinds: bytes, unfinished: set[tuple[int, int]]) -> Iterator[ExtentRange]:
    """Pads of the same kind are neighbours more often than not, so a large store takes few steps."""
    for run in _EQUAL_KINDS.finditer(kinds):
        kind = run[1][0]
        if kind == Kind.SHARED:
            for pad in range(*run.span()):
                yield from _ranges_of_shared(memory_map, memory_map.spaces[pad], unfinished)
        elif kind != Kind.UNRESERVED:
            yield ExtentRange(_USES.get(kind, Use.PENDING), len(run[0]) * memory_map.pad_size)


def _ranges_of_shared(memory_map: MemoryMap, space: Space, unfinished: set[tuple[int, int]]) -> Iterator[ExtentRange]:
    unused = Use.FREE if memory_map.is_open(space) else Use.GAP
    yield ExtentRange(Use.LIVE, HEADER_SIZE)
    end = HEADER_SIZE
    for slot in sorted(space.slots.values(), key=lambda slot: slot.offset):
        settled = slot.live and (space.number, slot.offset) not in unfinished
        yield ExtentRange(unused, slot.offset - end)
        yield ExtentRange(Use.LIVE if settled else Use.PENDING, slot.length)
        end = slot.offset + slot.length
    yield ExtentRange(unused, memory_map.pad_size - space.table - end)
    yield ExtentRange(Use.LIVE, space.table)
