"""The memory map in numbers. Pure."""

from __future__ import annotations

from .memory_map import Kind, MemoryMap
from .space import HEADER_SIZE, TABLE_FIXED, Space
from .summaries import ByteSummary, PadSummary


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
    return sum(slot.length for slot in space.slots.values()) + space.table


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
