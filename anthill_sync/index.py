"""``MasterIndex``: key -> published value, pads and their status, ``pending_uploads``. Pure state.

The state changes by ``apply(record)`` only, and a record is applied only when it is durable. A record that
contradicts the state raises ``ImpossibleRecord``: the journal then reports damage instead of guessing.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import IntEnum
from functools import lru_cache
from typing import Any

from .packing import decode, little_endian
from .values import BLOCK, Block, BlockList, Extent, Pending, Range, Value, add_to, discard_from, origin_id, replaced

Packed = bytes | bytearray
_decode_id = lru_cache(256)(decode)  # all blocks of an attempt name the same data id
Record = list[Any]  # a JSON array: name of the record, then its fields


class PadStatus(IntEnum):
    """A pad in the index."""

    UNKNOWN = 0  # a number inside a gap of intents; reserved before any higher one is
    RESERVING = 1  # intent: the network may or may not know it
    RESERVED_PENDING_UPLOAD = 2
    COMMITTED = 3
    DAMAGED = 4  # its image is not what the index needs: takes no other one before a repair has emptied it


_RESERVING, _RESERVED, _COMMITTED = map(int, (PadStatus.RESERVING, PadStatus.RESERVED_PENDING_UPLOAD, PadStatus.COMMITTED))


class ImpossibleRecord(ValueError):
    """A record that cannot follow the state it is applied to."""


@dataclass
class Freed:
    """What a durable record made free."""

    extents: list[Extent] = field(default_factory=list)
    manifests: list[tuple[int, str, int]] = field(default_factory=list)  # pad, key, version

    def add(self, other: Freed) -> None:
        self.extents += other.extents
        self.manifests += other.manifests


class MasterIndex:
    """The whole state of one store. ``sequence`` is that of the last line applied."""

    def __init__(self) -> None:
        self.sequence = 0
        self.run = 0
        self.run_id = bytes(16)
        self.values: dict[str, Value] = {}
        self.pending_uploads: dict[str, Pending] = {}
        self.status = bytearray()  # one PadStatus per pad number
        self.counters = array("Q")  # counter of each pad's committed image, 0 before the first
        self.digests = bytearray()  # 16 bytes per pad; zeros: unknown
        self.blank = bytearray()  # 1: the committed image holds no block and no manifest
        self.writing: set[int] = set()  # pads that may hold an image the index does not know
        self.to_rewrite: set[int] = set()  # pads whose image holds manifests or blocks that must go
        self.stale: dict[str, set[tuple[int, int]]] = {}  # (pad, version) of manifests that are not the published one
        self._stale_by_pad: dict[int, set[tuple[str, int]]] = {}  # the same by pad: (key, version)
        self._by_data: dict[bytes, str] = {}  # data id of a pending upload -> key

    # -- questions

    @property
    def pads(self) -> int:
        """Pad numbers in use."""
        return len(self.status)

    def digest(self, pad: int) -> bytes:
        """Digest of the committed image; 16 zero bytes when unknown."""
        return bytes(self.digests[pad * 16 : pad * 16 + 16])

    def manifest_pads(self, key: str) -> set[int]:
        """Pads whose committed image still holds any manifest of ``key``, of whatever version."""
        pads = {pad for pad, _ in self.stale.get(key, ())}
        value = self.values.get(key)
        return pads | {value.manifest_pad} if value else pads

    def unreserved(self) -> list[int]:
        """Pad numbers below the highest that are not reserved for certain, lowest first."""
        return [pad for pad, status in enumerate(self.status) if status < PadStatus.RESERVED_PENDING_UPLOAD]

    # -- changes

    def apply(self, *records: Record) -> Freed:
        """Change the state; tells what became free. ``ImpossibleRecord`` when one cannot follow."""
        freed = Freed()
        self.replay(records, freed)
        return freed

    def replay(self, records: Iterable[Record], freed: Freed | None = None) -> None:
        """``apply`` all of them in order; what became free is added to ``freed``, if anybody asks."""
        record: Record = []
        try:
            for record in records:
                found = _APPLY[record[0]](self, *record[1:])
                if found is not None and freed is not None:
                    freed.add(found)
        except ImpossibleRecord:
            raise
        except (KeyError, TypeError, ValueError, IndexError, OverflowError, struct.error) as error:
            raise ImpossibleRecord(f"record {str(record)[:80]!r}: {error!r}") from error

    def _run(self, number: int, run_id: str) -> None:
        if number <= self.run:
            raise ImpossibleRecord(f"run {number} after run {self.run}")
        self.run, self.run_id = number, bytes.fromhex(run_id)

    def _reserving(self, first: int, last: int) -> None:
        self._extend(last + 1)
        for pad in range(first, last + 1):
            if self.status[pad] == PadStatus.UNKNOWN:
                self.status[pad] = PadStatus.RESERVING

    def _reserved(self, pad: int) -> None:
        if self.status[pad] != _RESERVING:
            raise ImpossibleRecord(f"pad {pad} reserved without an intent")
        self.status[pad] = _RESERVED

    def _writing(self, pads: list[int]) -> None:
        self.writing.update(pads)

    def _idle(self, pads: list[int]) -> None:
        self.writing = set(pads)

    def _begin(self, key: str, data_id: str, total: int | None, source: Any, started: int, attributes: Any) -> None:
        raw = decode(data_id)
        pending = self.pending_uploads.get(key)
        if pending is None:
            pending = self.pending_uploads[key] = Pending([], total, source, started)
        pending.data_ids.append(raw)
        pending.total, pending.source, pending.attributes = total, source, attributes
        self._by_data[raw] = key

    def _committed(self, pad: int, counter: int, digest: str, blocks: list[Any], *rest: Any) -> Freed | None:
        """``rest``: manifests added; those that the image before held and this one does not, None: it held none that lives;
        1 for a blank image. All three are left out where there is nothing to say."""
        added, dropped, blank = rest or ((), None, 0)
        if counter <= self.counters[pad]:
            raise ImpossibleRecord(f"pad {pad}: counter {counter} after {self.counters[pad]}")
        self.status[pad], self.counters[pad], self.blank[pad] = _COMMITTED, counter, blank
        self.digests[pad * 16 : pad * 16 + 16] = decode(digest).ljust(16, b"\0")
        self.writing.discard(pad)
        extents = [old for block in blocks if (old := self._pending_block(pad, *block)) is not None]
        for key, version in tuple(self._stale_by_pad.get(pad, ())) if dropped is None else dropped:
            self._drop_stale(key, pad, version)
        if pad in self.to_rewrite and not self._holds_dead(pad):
            self.to_rewrite.remove(pad)
        manifests: list[tuple[int, str, int]] = []
        for key, version, size, pending in added:
            self.add_stale(key, pad, version)
            if pending:
                manifests += self._pending_manifest(key, pad, version, size)
        return Freed(extents, manifests) if extents or manifests else None

    def _holds_dead(self, pad: int) -> bool:
        """True for an image that was on its way while one of its manifests died: removed values are still in it."""
        return any(not self._waits(key, pad, version) for key, version in self._stale_by_pad.get(pad, ()))

    def _waits(self, key: str, pad: int, version: int) -> bool:
        """True for the committed manifest of a put that is not published yet: it lives."""
        pending = self.pending_uploads.get(key)
        return pending is not None and pending.manifest is not None and pending.manifest[:2] == (pad, version)

    def _adopted(self, pad: int, counter: int, digest: str, manifests: list[Any], blank: int) -> None:
        """An image that a crashed run of ours sent and nobody recorded: its counter counts, its new blocks are dead.
        ``manifests``: all that it holds; when one of them is not live, the pad is to be rewritten."""
        self._committed(pad, counter, digest, [], [], None, blank)
        for key, version in manifests:
            value = self.values.get(key)
            if value is not None and (value.manifest_pad, value.version) == (pad, version):
                continue
            self.add_stale(key, pad, version)
            if not self._waits(key, pad, version):
                self.to_rewrite.add(pad)

    def _pending_block(self, pad: int, data_id: str, chunk: int, offset: int, length: int, fingerprint: str) -> Extent | None:
        """The extent that this block replaces."""
        raw = _decode_id(data_id)
        blocks = self.pending_uploads[self._by_data[raw]].blocks
        return blocks.place(chunk, pad, offset, length, raw, decode(fingerprint))

    def _pending_manifest(self, key: str, pad: int, version: int, size: int) -> list[tuple[int, str, int]]:
        pending = self.pending_uploads[key]
        old, pending.manifest = pending.manifest, (pad, version, size)
        return [(old[0], key, old[1])] if old else []

    def add_stale(self, key: str, pad: int, version: int) -> None:
        """The image of ``pad`` holds a manifest of ``key`` that is not the published one."""
        add_to(self.stale, key, (pad, version))
        add_to(self._stale_by_pad, pad, (key, version))

    def _drop_stale(self, key: str, pad: int, version: int) -> None:
        discard_from(self.stale, key, (pad, version))
        discard_from(self._stale_by_pad, pad, (key, version))

    def _publish(
        self,
        key: str,
        size: int,
        version: int,
        modified: int,
        attributes: Any,
        pad: int,
        inline: list[Any] | None,
        carried: list[Range],
        chunks: int,
    ) -> Freed | None:
        """``inline``: the blocks of a put of one image, all in ``pad``; None: the pending upload's blocks.
        ``carried``: ranges of chunks that stay where the published value has them."""
        old, pending = self.values.get(key), self.pending_uploads.get(key)
        if old is not None and version <= old.version:
            raise ImpossibleRecord(f"version {version} of {key!r} after {old.version}")
        if inline and not carried and chunks == len(inline) == 1 and inline[0][1] == 0 < inline[0][3]:
            data_id, _, offset, length, fingerprint = inline[0]  # nearly every small value is this
            packed, ids = BLOCK.pack(pad, offset, length, 0, decode(fingerprint)), decode(data_id)
        else:
            packed, ids = self._blocks(key, pad, inline, carried, chunks)
        self.values[key] = value = Value(size, version, modified, attributes, pad, ids, packed)
        if old is None and pending is None:
            self._drop_stale(key, pad, version)
            return None
        return self._replaced(key, old, pending, value)

    def _blocks(self, key: str, pad: int, inline: list[Any] | None, carried: list[Range], chunks: int) -> tuple[bytes, bytes]:
        """(blocks, data ids) of a value to be published, both packed."""
        blocks = BlockList() if inline is not None else self.pending_uploads[key].blocks.without(carried, chunks)
        for block in inline or ():
            blocks.set(block[1], Block(pad, block[2], block[3], decode(block[0]), decode(block[4])))
        for first, count in carried:
            for chunk, carried_block in self.values[key].range(first, first + count):
                blocks.set(chunk, carried_block)
        if (len(blocks), done := blocks.done()) != (chunks, chunks):
            raise ImpossibleRecord(f"{key!r} published with {done} of {chunks} chunks")
        return blocks.packed()

    def _replaced(self, key: str, old: Value | None, pending: Pending | None, value: Value | None) -> Freed:
        """Everything that ``old`` and ``pending`` hold and ``value`` does not; the pending entry is gone."""
        keep = value.packed if value else b""
        freed = Freed()
        if old is not None:
            freed.extents += replaced(old.packed, keep)
            freed.manifests.append((old.manifest_pad, key, old.version))
            self.add_stale(key, old.manifest_pad, old.version)
        if pending is not None:
            freed.extents += replaced(pending.blocks.packed()[0], keep)
            freed.manifests += [(pending.manifest[0], key, pending.manifest[1])] if pending.manifest else []
            self._forget_pending(key)
        if value is not None:
            freed.manifests = [m for m in freed.manifests if m[2] != value.version]
            self._drop_stale(key, value.manifest_pad, value.version)
        return freed

    def _forget_pending(self, key: str) -> None:
        for data_id in self.pending_uploads.pop(key).data_ids:
            del self._by_data[data_id]

    def _remove(self, keys: list[str], pads: list[int]) -> Freed:
        freed = Freed()
        for key in keys:
            freed.add(self._replaced(key, self.values.pop(key, None), self.pending_uploads.get(key), None))
        self.to_rewrite.update(pads)
        return freed

    def _abandon(self, keys: list[str], pads: list[int]) -> Freed:
        freed = Freed()
        for key in keys:
            freed.add(self._replaced(key, None, self.pending_uploads[key], None))
        self.to_rewrite.update(pads)
        return freed

    def _rename(self, old: str, new: str, version: int, modified: int, pad: int, pads: list[int]) -> Freed:
        value = self.values.pop(old)
        ids = value.data_ids or origin_id(value.version)
        moved = Value(value.size, version, modified, value.attributes, pad, ids, value.packed)
        freed = Freed(manifests=[(value.manifest_pad, old, value.version)])
        self.add_stale(old, value.manifest_pad, value.version)
        freed.add(self._replaced(new, self.values.get(new), None, moved))
        self.values[new] = moved
        self.to_rewrite.update(pads)
        return freed

    def _extend(self, total: int) -> None:
        more = total - len(self.status)
        if more > 0:
            self.status.extend(bytes(more))
            self.blank.extend(bytes(more))
            self.counters.extend([0] * more)
            self.digests.extend(bytes(16 * more))

    # -- whole entries, for the snapshot

    def put_pads(self, first: int, status: Packed, blank: Packed, counters: bytes, digests: Packed) -> None:
        """While loading: the next range of pads."""
        numbers = little_endian(array("Q", counters))
        if first != len(self.status) or not len(status) == len(blank) == len(numbers) == len(digests) // 16:
            raise ImpossibleRecord(f"pads from {first} do not follow the {len(self.status)} before")
        self.status += status
        self.blank += blank
        self.counters.extend(numbers)
        self.digests += digests

    def put_pending(self, key: str, pending: Pending) -> None:
        """While loading: one interrupted put."""
        self.pending_uploads[key] = pending
        self._by_data.update(dict.fromkeys(pending.data_ids, key))


_APPLY: dict[str, Callable[..., Freed | None]] = {
    "run": MasterIndex._run,
    "reserving": MasterIndex._reserving,
    "reserved": MasterIndex._reserved,
    "writing": MasterIndex._writing,
    "idle": MasterIndex._idle,
    "begin": MasterIndex._begin,
    "committed": MasterIndex._committed,
    "adopted": MasterIndex._adopted,
    "publish": MasterIndex._publish,
    "remove": MasterIndex._remove,
    "abandon": MasterIndex._abandon,
    "rename": MasterIndex._rename,
}
