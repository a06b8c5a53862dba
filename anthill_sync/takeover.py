"""Taking over from an earlier run: the memory map from the index, and whose images lie on the pads it was writing."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future

from .errors import AnotherWriter, BlockDamaged, IndexDamaged, PadNotFound
from .image import Header, Table, manifest_size
from .index import MasterIndex, PadStatus, Record
from .lines import REBUILD
from .memory_map import Kind, MemoryMap
from .packing import encode
from .pads import Pads
from .sealing import image_digest
from .space import HEADER_SIZE
from .values import BLOCK, Span, Value, split_ids

RUN_ID_SIZE = 16


def map_of(index: MasterIndex, pad_size: int, rewrite_limit: int) -> MemoryMap:
    """The memory map that the index implies; ``IndexDamaged`` when two blocks claim the same bytes."""
    memory_map = MemoryMap(pad_size, rewrite_limit)
    memory_map.extend(index.pads)
    for pad, status in enumerate(index.status):
        if status == PadStatus.COMMITTED:
            memory_map.add_written(pad)
        elif status == PadStatus.RESERVED_PENDING_UPLOAD:
            memory_map.kinds[pad] = Kind.FRESH
        elif status == PadStatus.DAMAGED:
            memory_map.add_damaged(pad)
    try:
        _add_values(index, memory_map)
        _add_pending(index, memory_map)
        memory_map.finish_loading()
    except (ValueError, IndexError) as error:
        raise IndexDamaged(f"the index contradicts itself: {error}; {REBUILD}") from error
    return memory_map


def _add_values(index: MasterIndex, memory_map: MemoryMap) -> None:
    for key, value in index.values.items():
        ids = split_ids(value.data_ids)
        for chunk, (pad, offset, length, reference, _) in enumerate(BLOCK.iter_unpack(value.packed)):
            memory_map.add_block(pad, offset, length, ids[reference], chunk)
        size = manifest_size(key, value.attributes, span_count(value))
        memory_map.add_manifest(value.manifest_pad, key, value.version, size)


def _add_pending(index: MasterIndex, memory_map: MemoryMap) -> None:
    for key, pending in index.pending_uploads.items():
        for chunk, block in pending.blocks.blocks():
            memory_map.add_block(*block.extent, block.data_id, chunk)
        if pending.manifest is not None:
            pad, version, size = pending.manifest
            memory_map.add_manifest(pad, key, version, size)


def span_count(value: Value) -> int:
    """How many spans the value's manifest names; fast for the usual one."""
    if len(value.data_ids) <= RUN_ID_SIZE:
        return int(bool(value.data_ids))
    return len(value.spans())


def spans(value: Value) -> list[Span]:
    """The value's spans; fast for the usual one."""
    if len(value.data_ids) <= RUN_ID_SIZE:
        return [Span(value.data_ids, 0, value.chunks)] if value.data_ids else []
    return value.spans()


def run_record(index: MasterIndex) -> Record:
    """The next run, with a fresh random id."""
    return ["run", index.run + 1, os.urandom(RUN_ID_SIZE).hex()]


def resolve(
    index: MasterIndex, memory_map: MemoryMap, pads: Pads, submit: Callable[[Callable[[], Record | None]], Future[Record | None]]
) -> list[Record]:
    """Read header and table of exactly the pads an earlier run may have been writing, and tell whose images they
    hold. Records for those that are ours; ``AnotherWriter`` for any other image: then nothing was written."""

    def look(pad: int) -> Callable[[], Record | None]:
        return lambda: _resolve_one(index, memory_map, pads, pad)

    futures = [submit(look(pad)) for pad in sorted(index.writing)]
    return [record for future in futures if (record := future.result()) is not None]


def only_dead(memory_map: MemoryMap, adopted: list[Record]) -> list[int]:
    """Pads whose adopted image holds sealed bytes and none that live: chunks whose put may be given up or removed, after which
    nothing names them any more. They are to be rewritten, unless something else is put there first."""
    return [pad for _, pad, *_, blank in adopted if not blank and pad not in memory_map.spaces]


def _resolve_one(index: MasterIndex, memory_map: MemoryMap, pads: Pads, pad: int) -> Record | None:
    if pad >= index.pads:
        return None  # named ahead of its ``reserving`` record, and nothing is sent before a pad is reserved
    damaged = index.status[pad] == PadStatus.DAMAGED
    try:
        header, packed = pads.read_header(pad)
    except PadNotFound:
        header, packed = None, b""
    except BlockDamaged:
        if damaged:
            return None  # as it was: nothing arrived
        raise
    found = 0 if header is None else header.counter
    if found == index.counters[pad] or (damaged and found < index.counters[pad]):
        return None  # the index's image, or nothing arrived
    if header is not None and header.counter == index.counters[pad] + 1:
        table = pads.read_table(pad, header, packed)
        if table.run_id == index.run_id and holds_all_live(memory_map, pad, table):
            return _adopt(pads, pad, header, table)
    raise AnotherWriter(
        f"{pads.describe(pad)} holds an image that this store did not write; nothing was written. "
        "Is a copy of this home in use elsewhere? If not, 'anthill recover' goes on from what the pads show",
        pad=pad,
    )


def holds_all_live(memory_map: MemoryMap, pad: int, table: Table) -> bool:
    """True when the table has all that is live on the pad, and the pad may be written at all."""
    if memory_map.kinds[pad] == Kind.FULL:
        return False  # a pad with a full chunk is never written while that chunk lives
    space = memory_map.spaces.get(pad)
    if space is None:
        return True
    blocks = {(entry.data_id, entry.chunk, entry.offset, entry.length) for entry in table.entries}
    manifests = {(manifest.key, manifest.version) for manifest in table.manifests}
    slots = {(slot.data_id, slot.chunk, slot.offset, slot.length) for slot in space.slots.values()}
    return slots <= blocks and space.live_manifests <= manifests


def _adopt(pads: Pads, pad: int, header: Header, table: Table) -> Record:
    data, _ = pads.read_image(pad)
    if data[:HEADER_SIZE] != header.pack():
        raise AnotherWriter(f"{pads.describe(pad)} changed while it was read: another writer is at work", pad=pad)
    blank = not (table.entries or table.manifests)
    manifests = [[manifest.key, manifest.version] for manifest in table.manifests]
    return ["adopted", pad, header.counter, encode(image_digest(data)), manifests, int(blank)]
