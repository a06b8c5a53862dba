"""What the index keeps of a value: packed, immutable when published, growing while pending. Pure.

One block is 32 packed bytes in memory and in the snapshot (``BLOCK``), so a value of a million chunks costs
32 MB and no Python object per block.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

BLOCK = struct.Struct("<IIII16s")  # pad, offset, length (0: no block), index into data_ids, fingerprint
DATA_ID_SIZE = 16
_EXTENT = struct.Struct("<III")  # the first fields of a block
_REFERENCE = struct.Struct("<I")
_REFERENCE_OFFSET = 12
NO_FINGERPRINT = bytes(16)  # after a recovery: unknown, never equal to a chunk's

Extent = tuple[int, int, int]  # pad number, offset, length
Range = tuple[int, int]  # first, count


class Block(NamedTuple):
    """One sealed chunk: where it lies, which attempt sealed it, and its plaintext's fingerprint."""

    pad: int
    offset: int
    length: int
    data_id: bytes
    fingerprint: bytes

    @property
    def extent(self) -> Extent:
        return self.pad, self.offset, self.length


class Span(NamedTuple):
    """Consecutive chunks sealed under one data id."""

    data_id: bytes
    first: int
    chunks: int


class BlockList:
    """Blocks by chunk number; absent ones have length 0."""

    __slots__ = ("_ids", "_packed", "_references")

    def __init__(self, packed: bytes | bytearray = b"", ids: Iterable[bytes] = ()) -> None:
        self._packed = bytearray(packed)
        self._ids = list(ids)
        self._references = {data_id: reference for reference, data_id in enumerate(self._ids)}

    def __len__(self) -> int:
        return len(self._packed) // BLOCK.size

    def get(self, chunk: int) -> Block | None:
        """The block of ``chunk``, or None."""
        if chunk >= len(self):
            return None
        return unpack_block(self._packed[chunk * BLOCK.size : (chunk + 1) * BLOCK.size], 0, self._ids)  # a copy, as in _each

    def set(self, chunk: int, block: Block) -> Extent | None:
        """Put ``block`` at ``chunk``, growing as needed; the extent of the one that was there."""
        return self.place(chunk, *block)

    def place(self, chunk: int, pad: int, offset: int, length: int, data_id: bytes, fingerprint: bytes) -> Extent | None:
        """The same from a block's fields: a journal has a million of them, and each object costs."""
        start, before = chunk * BLOCK.size, None
        missing = start + BLOCK.size - len(self._packed)
        if missing > 0:
            self._packed.extend(bytes(missing))
        else:
            before = _EXTENT.unpack_from(self._packed, start)
        reference = self._references.get(data_id)
        if reference is None:
            reference = self._references[data_id] = len(self._ids)
            self._ids.append(data_id)
        BLOCK.pack_into(self._packed, start, pad, offset, length, reference, fingerprint)
        return before if before and before[2] else None

    def clear(self, chunk: int) -> None:
        """Take the block of ``chunk`` out."""
        self._packed[chunk * BLOCK.size : (chunk + 1) * BLOCK.size] = bytes(BLOCK.size)

    def done(self) -> int:
        """How many blocks are present."""
        lengths = array("I", self._packed)[2::8]
        return len(lengths) - lengths.count(0)

    def blocks(self) -> Iterator[tuple[int, Block]]:
        """Every present (chunk, block)."""
        for chunk, (pad, offset, length, reference, fingerprint) in enumerate(self._each()):
            if length:
                yield chunk, Block(pad, offset, length, self._ids[reference], fingerprint)

    def packed(self) -> tuple[bytes, bytes]:
        """(blocks, data ids), both packed."""
        return bytes(self._packed), b"".join(self._ids)

    def _each(self) -> Iterator[tuple[int, int, int, int, bytes]]:
        """The fields of every chunk's block, from a copy: bytes that are being looked at cannot grow, and a question about
        a pending put would make the put of another thread fail. Even one look is long enough: before Python 3.12 it may
        collect garbage, whose finalizers let other threads run."""
        return BLOCK.iter_unpack(bytes(self._packed))

    def without(self, ranges: Iterable[Range], chunks: int) -> BlockList:
        """A copy of the first ``chunks`` of them, those in ``ranges`` absent; only data ids that it uses."""
        packed = self._packed[: chunks * BLOCK.size]
        for first, count in ranges:
            packed[first * BLOCK.size : (first + count) * BLOCK.size] = bytes(count * BLOCK.size)
        if len(self._ids) == 1:
            copy = BlockList(packed, self._ids)
            return copy if copy.done() else BlockList(packed)
        used = dict.fromkeys(reference for _, _, length, reference, _ in BLOCK.iter_unpack(packed) if length)
        return BlockList(_renumbered(packed, list(used)), [self._ids[reference] for reference in used])


def _renumbered(packed: bytearray, used: list[int]) -> bytearray:
    """``packed`` with each present block's reference replaced by its place in ``used``."""
    places = {reference: place for place, reference in enumerate(used)}
    if any(reference != place for reference, place in places.items()):
        for start, (_, _, length, reference, _) in enumerate(BLOCK.iter_unpack(bytes(packed))):
            if length:
                _REFERENCE.pack_into(packed, start * BLOCK.size + _REFERENCE_OFFSET, places[reference])
    return packed


def replaced(before: bytes | bytearray, after: bytes) -> list[Extent]:
    """Extents of packed blocks that are not those of ``after``. A block is sealed for its chunk number, so one that stays
    is found at its old place, and nowhere else."""
    if before == after:
        return []
    found = []
    for chunk, (pad, offset, length, _, _) in enumerate(BLOCK.iter_unpack(before)):
        start = chunk * BLOCK.size
        if length and before[start : start + _EXTENT.size] != after[start : start + _EXTENT.size]:
            found.append((pad, offset, length))
    return found


def split_ids(packed: bytes) -> list[bytes]:
    """Data ids from their concatenation."""
    return [packed[i : i + DATA_ID_SIZE] for i in range(0, len(packed), DATA_ID_SIZE)]


def origin_id(version: int) -> bytes:
    """What stands for the data ids of a value without blocks, once it is renamed: the version it first had. Without it
    nothing on the pads would tell its new name from another empty value's."""
    return bytes(8) + version.to_bytes(8, "little")


def unpack_block(packed: bytes | bytearray, chunk: int, ids: list[bytes]) -> Block | None:
    """Block number ``chunk`` of packed blocks, None when absent."""
    pad, offset, length, reference, fingerprint = BLOCK.unpack_from(packed, chunk * BLOCK.size)
    return Block(pad, offset, length, ids[reference], fingerprint) if length else None


class Value(NamedTuple):
    """A published value. A tuple, because a snapshot has a million of them: made in a third of a frozen dataclass's time."""

    size: int  # plaintext bytes
    version: int
    modified: int  # nanoseconds since 1970, UTC
    attributes: Mapping[str, Any] | None
    manifest_pad: int  # pad whose image holds its manifest
    data_ids: bytes  # packed
    packed: bytes  # packed blocks, one per chunk, none absent

    @property
    def chunks(self) -> int:
        return len(self.packed) // BLOCK.size

    def range(self, first: int, stop: int) -> Iterator[tuple[int, Block]]:
        """(chunk, block) of the chunks from ``first`` up to ``stop``."""
        for chunk in range(first, stop):
            pad, offset, length, reference, fingerprint = BLOCK.unpack_from(self.packed, chunk * BLOCK.size)
            start = reference * DATA_ID_SIZE  # all ids are never split for one chunk: a value may have thousands
            yield chunk, Block(pad, offset, length, self.data_ids[start : start + DATA_ID_SIZE], fingerprint)

    def blocks(self) -> Iterator[Block]:
        """Every block in order."""
        return (block for _, block in self.range(0, self.chunks))

    def spans(self) -> list[Span]:
        """The spans its manifest names."""
        return spans_of(block.data_id for block in self.blocks())

    def is_spread(self) -> bool:
        """True when a block lies on another pad than its manifest."""
        return any(pad != self.manifest_pad for pad, _, _, _, _ in BLOCK.iter_unpack(self.packed))

    def pads(self) -> int:
        """How many pads its blocks lie on."""
        if self.chunks <= 1:
            return self.chunks
        return len({pad for pad, _, _, _, _ in BLOCK.iter_unpack(self.packed)})


@dataclass(slots=True)
class Pending:
    """An interrupted or running put that needs more than one image."""

    data_ids: list[bytes]  # one per attempt
    total: int | None  # chunks; None for a stream
    source: Mapping[str, Any] | None  # {"path": ...} of a source file that resume can open
    started: int  # nanoseconds since 1970, UTC
    attributes: Mapping[str, Any] | None = None
    blocks: BlockList = field(default_factory=BlockList)
    manifest: tuple[int, int, int] | None = None  # (pad, version, table bytes) of its committed manifest


def spans_of(data_ids: Iterable[bytes]) -> list[Span]:
    """Spans from the data id of every chunk in order."""
    spans: list[Span] = []
    for chunk, data_id in enumerate(data_ids):
        if spans and spans[-1].data_id == data_id:
            spans[-1] = spans[-1]._replace(chunks=spans[-1].chunks + 1)
        else:
            spans.append(Span(data_id, chunk, 1))
    return spans


def add_to(sets: dict[Any, set[Any]], name: Any, member: Any) -> None:
    """One more member of the set ``name``, which may be its first."""
    members = sets.get(name)
    if members is None:
        sets[name] = {member}
    else:
        members.add(member)


def discard_from(sets: dict[Any, set[Any]], name: Any, member: Any) -> None:
    """One fewer; empty sets are not kept."""
    members = sets.get(name)
    if members is not None:
        members.discard(member)
        if not members:
            del sets[name]
