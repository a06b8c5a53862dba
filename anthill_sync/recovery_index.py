"""A new index from what the pads show and what this machine's files still say. Pure.

Manifests are taken from the highest version down. One is taken when every block that it names lies in a pad, its key has
no newer one, and its blocks belong to no newer manifest of another key: that key was renamed, and this is its old name.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field

from .image import Manifest, RawManifest, decode_manifest, encode_manifest
from .index import MasterIndex, PadStatus
from .packing import little_endian
from .recovery_scan import Found, Scan
from .recovery_witness import Witness
from .takeover import RUN_ID_SIZE, spans
from .values import NO_FINGERPRINT, Block, BlockList, Extent, Pending, Value, origin_id, split_ids


@dataclass
class Rebuilt:
    """The new index, and what it could not keep."""

    index: MasterIndex
    same: bool  # it is the index that was there
    lost: list[str] = field(default_factory=list)  # keys of which no version is whole
    older: list[str] = field(default_factory=list)  # keys of which a newer version was not whole
    damaged: list[int] = field(default_factory=list)  # pads that take nothing before a repair
    rolled_back: list[int] = field(default_factory=list)  # pads older than this store left them


def is_missing(witness: Witness, found: Scan, pad: int) -> bool:
    """True for a pad that cannot tell what it holds: its image does not open, or it is gone."""
    if found.found[pad] == Found.UNREADABLE:
        return True
    return found.found[pad] == Found.ABSENT and witness.counter(pad)[0] > 0


def blocks_of_missing(witness: Witness, found: Scan) -> Iterator[tuple[str, int, Block]]:
    """(key, chunk, block) of what this machine knows to lie on pads that cannot tell what they hold."""
    missing = {pad for pad in range(found.pads) if is_missing(witness, found, pad)}
    if not missing:
        return
    for key, value in witness.values():
        yield from ((key, chunk, block) for chunk, block in value.range(0, value.chunks) if block.pad in missing)
    for key, pending in witness.base.pending_uploads.items():
        yield from ((key, chunk, block) for chunk, block in pending.blocks.blocks() if block.pad in missing)


def rebuild(witness: Witness, found: Scan, *, rewrites: bool, give_up: bool) -> Rebuilt:
    """The index that the pads and the witness imply, as a new run. ``rewrites``: dead manifests may be taken off the
    network. ``give_up``: those of versions that are not whole are dead too, and so is what interrupted puts have on
    damaged pads."""
    return _Rebuilder(witness, found, rewrites=rewrites, give_up=give_up).result()


class _Rebuilder:
    """The steps of ``rebuild``, in the order of ``result``."""

    def __init__(self, witness: Witness, found: Scan, *, rewrites: bool, give_up: bool) -> None:
        self._witness, self._found, self._base = witness, found, witness.base
        self._rewrites, self._give_up = rewrites, give_up
        self._index = MasterIndex()
        self._seen = {(raw.key, pad, raw.version) for pad, raw in found.manifests}
        self._owners: dict[bytes, str] = {}  # data id -> key of the newest manifest that names it
        self._renamed: set[str] = set()  # keys whose blocks have a newer name
        self._wanted: dict[str, int] = {}  # key -> newest version that should be there
        self._dead: set[int] = set()  # pads with manifests of keys that are gone
        self._lacking: set[int] = set()  # pads without the manifest that a value needs
        self._outdated = not witness.sound or any(self._is_newer(pad) for pad in range(found.pads))

    def result(self) -> Rebuilt:
        self._want(self._witness.later.published)
        for version, pad, raw, from_base in sorted(self._candidates(), key=lambda each: each[0], reverse=True):
            self._consider(version, pad, raw, from_base)
        lost = [key for key in self._wanted if key not in self._index.values]
        older = [key for key, value in self._index.values.items() if value.version < self._wanted.get(key, 0)]
        self._add_pads()
        self._add_pending()
        self._add_stale({*lost, *older} if self._give_up else set())
        self._become_new_run()
        damaged = [pad for pad, status in enumerate(self._index.status) if status == PadStatus.DAMAGED]
        rolled_back = [pad for pad in range(self._found.pads) if self._is_rolled_back(pad)]
        same = self._witness.sound and _same(self._index, self._base)
        return Rebuilt(self._index, same, sorted(lost), sorted(older), damaged, rolled_back)

    # -- values

    def _candidates(self) -> Iterator[tuple[int, int, RawManifest, bool]]:
        """(version, pad, manifest, is it the base's word alone) of everything that may be a current value."""
        for pad, raw in self._found.manifests:
            if self._may_live(raw.key, pad, raw.version):
                yield raw.version, pad, raw, False
        for key, value in self._witness.values():
            gone = self._is_newer(value.manifest_pad) or self._witness.removed(key, value.version)
            if not gone and (key, value.manifest_pad, value.version) not in self._seen:
                yield value.version, value.manifest_pad, _raw_manifest(key, value), True

    def _may_live(self, key: str, pad: int, version: int) -> bool:
        """False for a manifest whose value was removed, renamed or given up, as far as anybody knows."""
        value = self._base.values.get(key)
        if self._witness.removed(key, version):
            return False
        if value is not None and (value.manifest_pad, value.version) == (pad, version):
            return True
        if self._waits(key, pad, version):
            return self._outdated  # else it goes on waiting
        known_dead = (pad, version) in self._base.stale.get(key, ())
        if not known_dead and (self._is_unknown(pad) or self._is_newer(pad)):
            return True
        if value is not None and version < value.version:
            return pad not in self._base.to_rewrite  # replaced: it serves where the newer one is not whole
        return known_dead and self._was_left_out(key, pad)

    def _waits(self, key: str, pad: int, version: int) -> bool:
        """True for the manifest of an interrupted put of the base."""
        pending = self._base.pending_uploads.get(key)
        return pending is not None and pending.manifest is not None and pending.manifest[:2] == (pad, version)

    def _is_unfinished(self, key: str, version: int) -> bool:
        """True for what an interrupted put of the base has written: nothing is lost when it is not whole."""
        value = self._base.values.get(key)
        return key in self._base.pending_uploads and (value is None or version > value.version)

    def _was_left_out(self, key: str, pad: int) -> bool:
        """True for a manifest newer than the value that is nevertheless not meant to leave the network: an earlier recovery
        found it incomplete. Its blocks may have come back."""
        return self._rewrites and key not in self._base.pending_uploads and pad not in self._base.to_rewrite

    def _is_unknown(self, pad: int) -> bool:
        """True for a pad of whose images the base never knew what they hold."""
        return pad >= self._base.pads or self._base.status[pad] == PadStatus.DAMAGED

    def _is_newer(self, pad: int) -> bool:
        """True for an image that the base never saw: what is in it counts, and what is not in it is gone."""
        written = self._found.found[pad] == Found.WRITTEN
        return written and (pad >= self._base.pads or self._found.counters[pad] > self._base.counters[pad])

    def _consider(self, version: int, pad: int, raw: RawManifest, from_base: bool) -> None:
        key = raw.key
        if key in self._index.values or key in self._renamed:
            return
        manifest = decode_manifest(raw.data)
        ids = [span.data_id for span in manifest.spans] or [origin_id(version)]
        if any(self._owners.get(data_id, key) != key for data_id in ids):
            self._renamed.add(key)
            if version >= self._wanted.get(key, 0):
                self._wanted.pop(key, None)
            return
        if not self._is_unfinished(key, version):
            self._want({key: version})
        value = self._assemble(manifest, pad)
        if value is None:
            return
        self._index.values[key] = value
        self._owners.update(dict.fromkeys(ids, key))
        if from_base and not is_missing(self._witness, self._found, pad):
            self._lacking.add(pad)

    def _want(self, versions: dict[str, int]) -> None:
        for key, version in versions.items():
            self._wanted[key] = max(version, self._wanted.get(key, 0))

    def _assemble(self, manifest: Manifest, pad: int) -> Value | None:
        """The value when all its blocks lie somewhere, else None."""
        blocks = BlockList(ids=dict.fromkeys(span.data_id for span in manifest.spans))
        for span in manifest.spans:
            places = self._found.places.get(span.data_id, {})
            for chunk in range(span.first, span.first + span.chunks):
                if chunk not in places:
                    return None
                blocks.set(chunk, self._block(manifest.key, span.data_id, chunk, places[chunk]))
        packed, ids = blocks.packed()
        value = Value(manifest.size, manifest.version, manifest.modified, manifest.attributes, pad, ids, packed)
        base = self._base.values.get(manifest.key)
        return base if base is not None and _equal(base, value) else value

    def _block(self, key: str, data_id: bytes, chunk: int, extent: Extent) -> Block:
        """With the fingerprint of whoever knows this very block."""
        for known in self._witness.known(key, chunk):
            if (known.data_id, known.extent) == (data_id, extent):
                return known
        return Block(*extent, data_id, NO_FINGERPRINT)

    # -- pads

    def _add_pads(self) -> None:
        status, blank, counters, digests = bytearray(), bytearray(), array("Q"), bytearray()
        for pad in range(self._found.pads):
            kind, counter, digest = self._pad(pad)
            status.append(kind)
            blank.append(self._found.blank[pad] if kind == PadStatus.COMMITTED else 0)
            counters.append(counter)
            digests += digest
        self._index.put_pads(0, status, blank, little_endian(counters).tobytes(), digests)

    def _pad(self, pad: int) -> tuple[int, int, bytes]:
        """(status, counter, digest) of a pad."""
        found, counter = Found(self._found.found[pad]), self._found.counters[pad]
        known, digest = self._witness.counter(pad)
        if is_missing(self._witness, self._found, pad) or pad in self._lacking:
            return PadStatus.DAMAGED, max(known, counter, 1), bytes(16)
        if found == Found.WRITTEN:
            return PadStatus.COMMITTED, counter, digest if known == counter else bytes(16)
        if self._witness.sound and pad < self._base.pads and known == 0:
            return self._base.status[pad], 0, bytes(16)
        return PadStatus.RESERVED_PENDING_UPLOAD if found == Found.EMPTY else PadStatus.UNKNOWN, 0, bytes(16)

    def _is_rolled_back(self, pad: int) -> bool:
        readable = self._found.found[pad] in (Found.EMPTY, Found.WRITTEN)
        expected = 0 if self._is_damaged_in_base(pad) else self._witness.counter(pad)[0]
        return readable and self._found.counters[pad] < expected

    def _is_damaged_in_base(self, pad: int) -> bool:
        return pad < self._base.pads and self._base.status[pad] == PadStatus.DAMAGED

    # -- the rest

    def _add_pending(self) -> None:
        """Interrupted puts of the base, unless the value beside them is another one by now: they may be part of it."""
        for key, pending in self._base.pending_uploads.items():
            gone = key in self._witness.later.removals or key in self._witness.later.published
            gone = gone or any(data_id in self._owners for data_id in pending.data_ids)
            if gone or self._base.values.get(key) != self._index.values.get(key):
                continue
            packed, ids = pending.blocks.packed()
            blocks = BlockList(packed, split_ids(ids))
            for chunk, block in list(blocks.blocks()):
                if not self._keeps(chunk, block):
                    blocks.clear(chunk)
            if self._outdated and not blocks.done():
                continue  # perhaps it was finished or given up since, and there is nothing to go on from
            manifest = pending.manifest if pending.manifest and self._holds(key, *pending.manifest[:2]) else None
            kept = Pending(
                list(pending.data_ids), pending.total, pending.source, pending.started, pending.attributes, blocks, manifest
            )
            self._index.put_pending(key, kept)

    def _keeps(self, chunk: int, block: Block) -> bool:
        there = self._found.places.get(block.data_id, {}).get(chunk) == block.extent
        return there and not (self._give_up and self._index.status[block.pad] == PadStatus.DAMAGED)

    def _holds(self, key: str, pad: int, version: int) -> bool:
        there = (key, pad, version) in self._seen
        return there and not (self._give_up and self._index.status[pad] == PadStatus.DAMAGED)

    def _add_stale(self, given_up: set[str]) -> None:
        """Every manifest that is not the published one; those of keys that are gone must leave the network."""
        for pad, raw in self._found.manifests:
            value = self._index.values.get(raw.key)
            if value is not None and (value.manifest_pad, value.version) == (pad, raw.version):
                continue
            self._index.add_stale(raw.key, pad, raw.version)
            if self._must_leave(raw, pad, given_up):
                self._dead.add(pad)
        for key, places in self._base.stale.items():
            for pad, version in places:
                if is_missing(self._witness, self._found, pad):
                    self._index.add_stale(key, pad, version)
        kept = {pad for pad in self._base.to_rewrite if not self._is_newer(pad)}
        kept -= self._revived(kept)
        self._index.to_rewrite = kept | self._dead if self._rewrites else kept

    def _revived(self, pads: set[int]) -> set[int]:
        """Those that have nothing dead any more: another home gave the value whose blocks they hold another name."""
        named = {pad for places in self._index.stale.values() for pad, _ in places}
        doubtful = pads - named
        if not doubtful:
            return set()
        return {block.pad for value in self._index.values.values() for block in value.blocks() if block.pad in doubtful}

    def _must_leave(self, raw: RawManifest, pad: int, given_up: set[str]) -> bool:
        if raw.key in given_up:
            value = self._index.values.get(raw.key)
            return value is None or raw.version > value.version
        if raw.key in self._index.values:
            return False
        return self._witness.removed(raw.key, raw.version) or raw.key in self._renamed or self._is_rolled_back(pad)

    def _become_new_run(self) -> None:
        newest = max((raw.version >> 32 for _, raw in self._found.manifests), default=0)
        versions = (value.version >> 32 for _, value in self._witness.values())
        self._index.run = max([self._witness.run, newest, self._witness.later.highest >> 32, *versions]) + 1
        self._index.run_id = os.urandom(RUN_ID_SIZE)
        self._index.sequence = self._witness.sequence + 1


def _raw_manifest(key: str, value: Value) -> RawManifest:
    manifest = Manifest(key, value.size, value.version, value.modified, value.attributes, spans(value))
    return RawManifest(key, value.version, encode_manifest(manifest))


def _equal(one: Value, other: Value) -> bool:
    """The same value; the packing may differ in the order of data ids."""
    facts = [(v.size, v.version, v.modified, v.attributes or None, v.manifest_pad, v.chunks) for v in (one, other)]
    return facts[0] == facts[1] and all(a == b for a, b in zip(one.blocks(), other.blocks(), strict=True))


def _same(one: MasterIndex, other: MasterIndex) -> bool:
    """The same state, whatever run wrote it."""
    return _facts(one) == _facts(other) and one.values == other.values


def _facts(index: MasterIndex) -> tuple[object, ...]:
    pending = {key: (each.data_ids, each.manifest, each.blocks.packed()) for key, each in index.pending_uploads.items()}
    pads = bytes(index.status), index.counters.tobytes(), bytes(index.digests), bytes(index.blank)
    return *pads, index.to_rewrite, index.stale, pending
