"""``Space``: the extents and table bytes of one shared pad. Pure, no I/O."""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass, field

HEADER_SIZE = 32  # bytes of a pad image's header; the first extent starts here
SEAL_OVERHEAD = 80  # bytes a seal adds: salt, commitment, tag
TABLE_FIXED = SEAL_OVERHEAD + 24  # bytes of a table without entries
ENTRY_SIZE = 32  # table bytes of one block


@dataclass(slots=True)
class Slot:
    """One extent of a shared pad that is not free."""

    offset: int
    length: int
    data_id: bytes
    chunk: int
    live: bool = False  # False: planned, not in any committed image


@dataclass(slots=True, eq=False)
class Space:
    """A shared pad: written, or planned and without a number until its first upload starts."""

    number: int | None = None
    slots: dict[int, Slot] = field(default_factory=dict)  # by offset
    gaps: list[tuple[int, int]] = field(default_factory=list)  # free (offset, length) below ``end``, sorted
    manifests: dict[tuple[str, int], int] = field(default_factory=dict)  # (key, version) -> table bytes
    live_manifests: set[tuple[str, int]] = field(default_factory=set)  # those in the committed image
    end: int = HEADER_SIZE  # end of the highest extent
    table: int = TABLE_FIXED  # table bytes, planned ones included
    resend: int = 0  # live bytes, with their table bytes, that a rewrite sends again
    queued: bool = False  # an upload of it is waiting to start
    busy: bool = False  # an image of it is on its way
    blocked: bool = False  # an attempt to write it was not answered: it takes nothing more

    @property
    def unused(self) -> bool:
        """True when nothing is live or planned in it."""
        return not self.slots and not self.manifests

    def closes(self, pad_size: int, rewrite_limit: int) -> bool:
        """True when it will not take as much again as is planned in it now, once that is live."""
        planned = self.table - TABLE_FIXED + self.end - HEADER_SIZE - sum(size for _, size in self.gaps)
        return planned > rewrite_limit or self.end + self.table + planned - self.resend > pad_size

    def rest(self, pad_size: int, length: int | None, manifest: int) -> int:
        """Bytes left over in the gap that a block (None: none) and ``manifest`` table bytes would use;
        negative when they do not fit into ``pad_size``."""
        limit = pad_size - self.table - manifest - (0 if length is None else ENTRY_SIZE)
        if length is None or self.end > limit:
            return limit - self.end
        inside = min((size for _, size in self.gaps if size >= length), default=None)
        return limit - self.end - length if inside is None else inside - length

    def plan(self, length: int, data_id: bytes, chunk: int) -> Slot:
        """free -> planned: the smallest gap that holds ``length`` bytes, else the end."""
        fitting = self.gaps and [gap for gap in self.gaps if gap[1] >= length]
        if fitting:
            offset, size = min(fitting, key=lambda gap: gap[1])
            self.gaps.remove((offset, size))
            if size > length:
                insort(self.gaps, (offset + length, size - length))
        else:
            offset = self.end
            self.end += length
        slot = Slot(offset, length, data_id, chunk)
        self.slots[offset] = slot
        self.table += ENTRY_SIZE
        return slot

    def drop(self, slot: Slot) -> None:
        """planned or live -> free; the extent joins its free neighbours."""
        del self.slots[slot.offset]
        self.table -= ENTRY_SIZE
        start, stop = slot.offset, slot.offset + slot.length
        for gap in [gap for gap in self.gaps if gap[0] + gap[1] == start or gap[0] == stop]:
            self.gaps.remove(gap)
            start, stop = min(start, gap[0]), max(stop, gap[0] + gap[1])
        if stop == self.end:
            self.end = start
        else:
            insort(self.gaps, (start, stop - start))

    def layout(self) -> tuple[list[tuple[int, int]], int]:
        """Gaps and end, computed anew from the slots; overlapping slots raise ValueError."""
        gaps, end = [], HEADER_SIZE
        for slot in sorted(self.slots.values(), key=lambda slot: slot.offset):
            if slot.offset < end:
                raise ValueError(f"extents overlap at {slot.offset}")
            if slot.offset > end:
                gaps.append((end, slot.offset - end))
            end = slot.offset + slot.length
        return gaps, end

    def sums(self) -> tuple[int, int]:
        """``table`` and ``resend``, computed anew."""
        table = TABLE_FIXED + ENTRY_SIZE * len(self.slots) + sum(self.manifests.values())
        resend = sum(slot.length + ENTRY_SIZE for slot in self.slots.values() if slot.live)
        return table, resend + sum(self.manifests[name] for name in self.live_manifests)
