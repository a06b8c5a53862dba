"""``MemoryMap``: which extents and how many table bytes of which pads are used and free. Pure, no I/O.

A pad is in one ``Kind`` at a time, and an extent of a shared pad moves along these arrows only::

    UNRESERVED -> FRESH -> TAKEN -> FULL | SHARED -> EMPTY -> TAKEN ...      (BLOCKED: nobody knows yet)
    free -> planned -> live -> free                                         (planned -> free: the put failed)

An extent becomes free only when the record that frees it is durable: nobody calls ``free`` before, and
until then it counts as live. The caller holds the memory map's lock around every call.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple

from .settings import CHUNK_MARGIN, FRESH_WINDOW
from .space import ENTRY_SIZE, HEADER_SIZE, SEAL_OVERHEAD, TABLE_FIXED, Slot, Space

WHOLE_PAD = 1 << 62  # a rewrite limit that closes no pad


class Kind(IntEnum):
    """What a pad is to the allocator."""

    UNRESERVED = 0  # not ours yet, or a reservation that has not been confirmed
    FRESH = 1  # reserved, never written, free
    TAKEN = 2  # handed out: an image is on its way
    FULL = 3  # one full chunk
    SHARED = 4  # blocks and manifests of any number of values: a ``Space``
    EMPTY = 5  # written before, nothing live in it, free
    BLOCKED = 6  # damaged, or an attempt was not answered: takes no other image while this run holds the lock


class Placement(NamedTuple):
    """Where a block (``slot`` None: no block) and a manifest go together."""

    space: Space
    slot: Slot | None
    manifest: tuple[str, int] | None


class MemoryMap:
    """All pads of one store; ``pad_size``, ``chunk_size`` and ``rewrite_limit`` in bytes."""

    def __init__(self, pad_size: int, rewrite_limit: int) -> None:
        self.pad_size = pad_size
        self.chunk_size = pad_size - CHUNK_MARGIN
        self.rewrite_limit = rewrite_limit
        self.full_length = self.chunk_size + SEAL_OVERHEAD
        self.kinds = bytearray()  # one Kind per pad number
        self.written = bytearray()  # 1: the pad has had a committed image
        self.spaces: dict[int, Space] = {}  # by pad number
        self._open: dict[int, Space] = {}  # by id(): spaces that may take more
        self._low = 0  # every pad below has been written

    # -- pads

    @property
    def total(self) -> int:
        """Pad numbers in use, reserved or being reserved."""
        return len(self.kinds)

    def extend(self, total: int) -> None:
        """Know pad numbers below ``total``; new ones are UNRESERVED."""
        more = total - len(self.kinds)
        if more > 0:
            self.kinds.extend(bytes(more))
            self.written.extend(bytes(more))

    def reserved(self, pad: int) -> None:
        """UNRESERVED -> FRESH."""
        self._move(pad, Kind.UNRESERVED, Kind.FRESH)

    def lowest_unwritten(self) -> int:
        """The lowest pad number that never had a committed image; ``total`` when there is none."""
        while self._low < len(self.written) and self.written[self._low]:
            self._low += 1
        return self._low

    def available(self) -> int:
        """Pads ``take`` could hand out now, one after another."""
        low = self.lowest_unwritten()
        return self.kinds.count(Kind.EMPTY) + self.kinds.count(Kind.FRESH, low, low + FRESH_WINDOW + 1)

    def free_pads(self) -> int:
        """Empty pads that are ours, those beyond the window too."""
        return self.kinds.count(Kind.EMPTY) + self.kinds.count(Kind.FRESH)

    def take(self) -> int | None:
        """Hand out an empty pad: a written one first, else the lowest never-written one within the window.

        Recovery finds every written pad because none starts more than ``FRESH_WINDOW`` above the lowest
        never-written one.
        """
        low = self.lowest_unwritten()
        pad = self.kinds.find(Kind.EMPTY)
        if pad < 0:
            pad = self.kinds.find(Kind.FRESH, low, low + FRESH_WINDOW + 1)
        if pad < 0:
            return None
        self.kinds[pad] = Kind.TAKEN
        return pad

    def take_empty(self, pad: int) -> bool:
        """EMPTY -> TAKEN for this very pad; False when it is something else by now."""
        if self.kinds[pad] != Kind.EMPTY:
            return False
        self.kinds[pad] = Kind.TAKEN
        return True

    def take_blocked(self, pad: int) -> bool:
        """BLOCKED -> TAKEN for this very pad, which holds nothing live; False when it is something else by now."""
        if self.kinds[pad] != Kind.BLOCKED:
            return False
        self.kinds[pad] = Kind.TAKEN
        return True

    def give_back(self, pad: int) -> None:
        """TAKEN -> FRESH or EMPTY: no image was sent, or an image without anything live is committed."""
        self._move(pad, Kind.TAKEN, Kind.EMPTY if self.written[pad] else Kind.FRESH)

    def fill(self, pad: int) -> None:
        """TAKEN -> FULL: its full chunk is committed."""
        self.written[pad] = 1
        self._move(pad, Kind.TAKEN, Kind.FULL)

    def fill_part(self, pad: int, slot: Slot) -> None:
        """TAKEN -> SHARED: a remainder that needed an empty pad is committed; more may come beside it."""
        self.written[pad] = 1
        space = Space(slots={slot.offset: slot})
        self.bind(space, pad)
        space.gaps, space.end = space.layout()
        space.table, space.resend = space.sums()
        self._settle(space)

    def blank(self, pad: int) -> None:
        """TAKEN -> EMPTY: an image without anything live is committed."""
        self.written[pad] = 1
        self._move(pad, Kind.TAKEN, Kind.EMPTY)

    def block(self, pad: int) -> None:
        """TAKEN or SHARED -> BLOCKED: an attempt to write it was not answered."""
        space = self.spaces.get(pad)
        if space is not None:
            space.blocked = True
            self._open.pop(id(space), None)
        elif self.kinds[pad] != Kind.TAKEN:
            raise AssertionError(f"pad {pad} is {Kind(self.kinds[pad]).name}, not handed out")
        else:
            self.kinds[pad] = Kind.BLOCKED

    def free_full(self, pad: int) -> None:
        """FULL -> EMPTY, once the record that frees its chunk is durable."""
        self._move(pad, Kind.FULL, Kind.EMPTY)

    def _move(self, pad: int, old: Kind, new: Kind) -> None:
        if self.kinds[pad] != old:
            raise AssertionError(f"pad {pad} is {Kind(self.kinds[pad]).name}, not {old.name}")
        self.kinds[pad] = new

    # -- shared pads

    def fits(self, length: int | None, manifest: int) -> Space | None:
        """The open space that a block of ``length`` and ``manifest`` table bytes fit best, or None."""
        best: Space | None = None
        least = self.pad_size + 1
        most = self.pad_size - manifest - (0 if length is None else ENTRY_SIZE)
        for space in self._open.values():
            room = most - space.end - space.table
            if room < 0:
                continue  # most of them, in a put of very many values: they are full
            rest = space.rest(self.pad_size, length, manifest) if space.gaps else room - (length or 0)
            if 0 <= rest < least:
                best, least = space, rest
        return best

    def place(self, length: int | None, owner: tuple[bytes, int], manifest: tuple[str, int] | None, size: int) -> Placement:
        """Plan a block of ``length`` sealed bytes (None: no block) of ``owner`` (data id, chunk), and a manifest
        of ``size`` table bytes, into one shared pad: where they fit best, else into a new one without a number."""
        space = self.fits(length, size if manifest else 0)
        if space is None:
            space = Space()
            self._open[id(space)] = space
        slot = None if length is None else space.plan(length, *owner)
        if manifest is not None:
            space.manifests[manifest] = size
            space.table += size
        return Placement(space, slot, manifest)

    def bind(self, space: Space, pad: int) -> None:
        """Give a planned space the pad it is written to: TAKEN -> SHARED."""
        self._move(pad, Kind.TAKEN, Kind.SHARED)
        space.number = pad
        self.spaces[pad] = space

    def commit(self, space: Space, slots: list[Slot], manifests: list[tuple[str, int]]) -> None:
        """planned -> live: an image with these blocks and manifests is committed."""
        assert space.number is not None
        self.written[space.number] = 1
        for slot in slots:
            assert not slot.live
            slot.live = True
            space.resend += slot.length + ENTRY_SIZE
        for manifest in manifests:
            space.live_manifests.add(manifest)
            space.resend += space.manifests[manifest]
        self._settle(space)

    def release(self, placement: Placement) -> None:
        """planned -> free: this block and manifest will not be written."""
        space = placement.space
        if placement.slot is not None and not placement.slot.live and space.slots.get(placement.slot.offset) is placement.slot:
            space.drop(placement.slot)
        if placement.manifest in space.manifests and placement.manifest not in space.live_manifests:
            space.table -= space.manifests.pop(placement.manifest)
        self._settle(space)

    def free(self, pad: int, offset: int, length: int) -> None:
        """live -> free, once the record that frees this extent is durable."""
        space = self.spaces.get(pad)
        if space is None:
            assert (offset, length) == (HEADER_SIZE, self.full_length), f"pad {pad} has no extent {offset}+{length}"
            self.free_full(pad)
            return
        slot = space.slots[offset]
        assert (slot.live, slot.length) == (True, length), f"pad {pad} has no live extent {offset}+{length}"
        space.resend -= length + ENTRY_SIZE
        space.drop(slot)
        self._settle(space)

    def free_manifest(self, pad: int, key: str, version: int) -> None:
        """live -> free for a manifest's table bytes; one that the map does not know is no error."""
        space = self.spaces.get(pad)
        if space is None or (key, version) not in space.live_manifests:
            return
        space.live_manifests.remove((key, version))
        size = space.manifests.pop((key, version))
        space.table -= size
        space.resend -= size
        self._settle(space)

    def rest(self, space: Space) -> None:
        """No image of the space is on its way or queued any more."""
        space.queued = space.busy = False
        self._settle(space)

    def _settle(self, space: Space) -> None:
        """Open or close a space for more blocks by what a rewrite of it would send again; SHARED -> EMPTY or FRESH
        when nothing is live or planned in it and no image is on its way."""
        if space.number is not None and self.spaces.get(space.number) is not space:
            self._open.pop(id(space), None)  # of a map before this one, let go of by a unit of a stopped put
            return
        if space.unused and not (space.queued or space.busy):
            self._retire(space)
        elif space.resend <= self.rewrite_limit and not space.blocked:
            self._open[id(space)] = space
        else:
            self._open.pop(id(space), None)

    def _retire(self, space: Space) -> None:
        self._open.pop(id(space), None)
        if space.number is not None and self.spaces.get(space.number) is space:
            del self.spaces[space.number]
            empty = Kind.EMPTY if self.written[space.number] else Kind.FRESH
            self.kinds[space.number] = Kind.BLOCKED if space.blocked else empty

    def is_open(self, space: Space) -> bool:
        """True when the space may take more."""
        return id(space) in self._open

    # -- building and proving

    def add_written(self, pad: int) -> None:
        """While loading: a pad with a committed image, nothing live in it so far."""
        self.written[pad] = 1
        self.kinds[pad] = Kind.EMPTY

    def add_damaged(self, pad: int) -> None:
        """While loading: a pad that takes nothing, whatever live blocks can still be read from it."""
        self.written[pad] = 1
        self.kinds[pad] = Kind.BLOCKED

    def add_block(self, pad: int, offset: int, length: int, data_id: bytes, chunk: int) -> None:
        """While loading: one live block of a pad that ``add_written`` named. Overlaps raise ValueError."""
        if not (offset >= HEADER_SIZE and length > SEAL_OVERHEAD and offset + length <= self.pad_size - TABLE_FIXED):
            raise ValueError(f"extent {offset}+{length} does not lie inside pad {pad}")
        if self.kinds[pad] == Kind.EMPTY and length == self.full_length and offset == HEADER_SIZE:
            self.kinds[pad] = Kind.FULL
            return
        space = self._loading(pad)
        if offset in space.slots:
            raise ValueError(f"extent {offset} of pad {pad} has two owners")
        space.slots[offset] = Slot(offset, length, data_id, chunk, live=True)

    def add_manifest(self, pad: int, key: str, version: int, size: int) -> None:
        """While loading: one live manifest."""
        space = self._loading(pad)
        space.manifests[key, version] = size
        space.live_manifests.add((key, version))

    def finish_loading(self) -> None:
        """Derive gaps, ends and sums of every loaded space; overlaps raise ValueError."""
        for space in self.spaces.values():
            space.gaps, space.end = space.layout()
            space.table, space.resend = space.sums()
            self._settle(space)

    def _loading(self, pad: int) -> Space:
        if self.kinds[pad] in (Kind.EMPTY, Kind.BLOCKED):
            self.spaces[pad] = Space(number=pad, blocked=self.kinds[pad] == Kind.BLOCKED)
            self.kinds[pad] = Kind.SHARED
        if pad not in self.spaces:
            raise ValueError(f"pad {pad} is {Kind(self.kinds[pad]).name} and cannot hold this")
        return self.spaces[pad]

    def check(self) -> Iterator[tuple[int | None, str]]:
        """Prove that every byte of every pad is free or owned exactly once; yields (pad, what is wrong)."""
        for pad, space in self.spaces.items():
            try:
                gaps, end = space.layout()
            except ValueError as error:
                yield pad, str(error)
                continue
            if (gaps, end) != (space.gaps, space.end):
                yield pad, f"free extents {space.gaps} up to {space.end} should be {gaps} up to {end}"
            if (space.table, space.resend) != space.sums():
                yield pad, f"table and live bytes {space.table}, {space.resend} should be {space.sums()}"
            if space.end + space.table > self.pad_size:
                yield pad, f"extents up to {space.end} and a table of {space.table} bytes exceed {self.pad_size}"
            if self.kinds[pad] != Kind.SHARED or space.number != pad:
                yield pad, f"is {Kind(self.kinds[pad]).name} and holds blocks"
        for pad, kind in enumerate(self.kinds):
            if kind == Kind.SHARED and pad not in self.spaces:
                yield pad, "is SHARED and holds nothing"

    def differences(self, expected: MemoryMap) -> Iterator[tuple[int | None, str]]:
        """Where this map is not ``expected``; for a map with nothing on its way. Yields (pad, what differs)."""
        for pad, (mine, other) in enumerate(zip(self.kinds, expected.kinds, strict=False)):
            if mine != other and mine not in (Kind.TAKEN, Kind.BLOCKED):
                yield pad, f"is {Kind(mine).name} in the map and {Kind(other).name} in the index"
        for pad in self.spaces.keys() & expected.spaces.keys():
            mine_slots = {offset: slot.length for offset, slot in self.spaces[pad].slots.items() if slot.live}
            other_slots = {offset: slot.length for offset, slot in expected.spaces[pad].slots.items()}
            if mine_slots != other_slots or self.spaces[pad].live_manifests != expected.spaces[pad].live_manifests:
                yield pad, f"holds {mine_slots} in the map and {other_slots} in the index"
