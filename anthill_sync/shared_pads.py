"""Shared pads: blocks and manifests that wait for one, and the upload that takes everything queued so far.

Small puts from many threads share images this way: while an image of a pad is on its way, what comes for the pad
collects, and the next image takes it all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from .committer import Committer, committed_record
from .errors import BlockDamaged
from .image import RawManifest, Table, TableEntry, encode_manifest, finish_image
from .index import Record, encode
from .memory_map import Placement
from .networks.base import calling
from .operation import Operation, describe_failure
from .pads import StoredImage
from .pipeline import Pipeline
from .reading import read_chunk
from .space import Slot, Space
from .uploads import Upload

SourceFailed = Callable[[Upload, BaseException], None]


@dataclass(eq=False)
class Item:
    """What one upload puts into a shared pad: its remainder, or nothing, and its manifest."""

    upload: Upload
    placement: Placement

    @property
    def operation(self) -> Operation:
        return self.upload.operation


@dataclass(eq=False)
class _Batch:
    """One image of one shared pad, while it is composed, sent and committed."""

    space: Space
    items: list[Item]
    rewriters: list[Operation]
    live: list[Slot] = field(default_factory=list)
    live_manifests: set[tuple[str, int]] = field(default_factory=set)
    counter: int = 0
    compared: bool = False
    entries: list[TableEntry] = field(default_factory=list)
    manifests: list[RawManifest] = field(default_factory=list)
    dropped: list[object] | None = None
    sealed: list[Item] = field(default_factory=list)  # items that made it into the image
    fingerprints: dict[Upload, bytes] = field(default_factory=dict)

    @property
    def pad(self) -> int:
        assert self.space.number is not None
        return self.space.number

    def operations(self) -> list[Operation]:
        return list(dict.fromkeys([*(item.operation for item in self.items), *self.rewriters]))


class SpaceUnit:
    """The next image of one shared pad."""

    def __init__(self, shared: SharedPads, space: Space, operation: Operation) -> None:
        self._shared, self.space, self.operation = shared, space, operation

    def run(self) -> None:
        self._shared.upload(self)


class SharedPads:
    """Queues of all shared pads, guarded by the memory map's lock."""

    def __init__(self, committer: Committer, pipeline: Pipeline, source_failed: SourceFailed) -> None:
        self._committer = committer
        self._supply = committer.supply
        self._pipeline = pipeline
        self._source_failed = source_failed
        self._items: dict[Space, list[Item]] = {}
        self._rewriters: dict[Space, list[Operation]] = {}
        self._wanted: dict[Space, Operation] = {}  # planned spaces whose pad is part of an operation's demand

    # -- queueing

    def claim(self, space: Space, operation: Operation) -> bool:
        """True when ``operation`` must demand a pad for this planned space: nobody else has."""
        with self._supply.lock:
            if space.number is not None or space in self._wanted:
                return False
            self._wanted[space] = operation
            return True

    def submit(self, items: list[Item]) -> None:
        """Put every item into the next image of its pad; all are queued before the first image begins."""
        with self._supply.lock:
            for item in items:
                item.operation.enter()
                self._items.setdefault(item.placement.space, []).append(item)
        for space, operation in {item.placement.space: item.operation for item in items}.items():
            self._queue(space, operation)

    def rewrite(self, space: Space, operation: Operation) -> None:
        """Send an image of the pad without what is dead in it."""
        operation.enter()
        with self._supply.lock:
            self._rewriters.setdefault(space, []).append(operation)
        self._queue(space, operation)

    def _queue(self, space: Space, operation: Operation) -> None:
        with self._supply.lock:
            if space.queued or space.busy:
                return
            space.queued = True
            wants = self.claim(space, operation)
        if wants:
            self._supply.want(operation, 1)
        unit = SpaceUnit(self, space, self._wanted.get(space, operation))
        if space.number is None:
            self._supply.queue(unit)
        else:
            operation.upload_starting()
            self._pipeline.upload.put(unit)

    def withdraw(self, operation: Operation, waiting: list[object]) -> None:
        """The operation has failed: take its items out; ``waiting`` are its units that had no pad yet."""
        left: list[Item] = []
        with self._supply.lock:
            for space, items in list(self._items.items()):
                mine = [item for item in items if item.operation is operation]
                self._items[space] = [item for item in items if item.operation is not operation]
                for item in mine:
                    self._supply.map.release(item.placement)
                left += mine
            abandoned = [space for space, owner in self._wanted.items() if owner is operation and space.number is None]
            for space in abandoned:
                del self._wanted[space]
        operation.leave(len(left)) if left else None
        for unit in waiting:
            if isinstance(unit, SpaceUnit):
                self._queue_again(unit.space)

    def _queue_again(self, space: Space) -> None:
        with self._supply.lock:
            others = self._items.get(space)
            self._supply.map.rest(space)
            if not others:
                self._items.pop(space, None)
        if others:
            self._queue(space, others[0].operation)

    # -- one image

    def upload(self, unit: SpaceUnit) -> None:
        """Compose, send and commit an image with everything that is queued for the pad now."""
        batch = self._start(unit)
        if batch is None:
            return
        operations = batch.operations()
        try:
            with calling((batch.items[0].operation if batch.items else batch.rewriters[0]).call):
                self._send(batch)
        except BaseException as error:  # noqa: BLE001 - the operations carry it to their callers
            self._fail(batch, error)
        finally:
            self._end(batch)
            for operation in operations:
                count = sum(item.operation is operation for item in batch.items) + batch.rewriters.count(operation)
                operation.leave(count)

    def _start(self, unit: SpaceUnit) -> _Batch | None:
        space, supply = unit.space, self._supply
        with supply.lock:
            if not self._items.get(space) and not self._rewriters.get(space):
                self._items.pop(space, None)
                self._wanted.pop(space, None)
                if space.number is None:
                    supply.forgo(unit)
                supply.map.rest(space)
                return None
            if space.number is None:
                pad = supply.take(unit)
                if pad is None:
                    return None
                supply.map.bind(space, pad)
                self._wanted.pop(space, None)
            space.queued, space.busy = False, True
            live = [slot for slot in space.slots.values() if slot.live]
            batch = _Batch(space, self._items.pop(space, []), self._rewriters.pop(space, []), live, set(space.live_manifests))
        batch.counter = self._committer.counter(batch.pad)
        return batch

    def _end(self, batch: _Batch) -> None:
        """Let go of the pad; what came for it meanwhile goes into its next image."""
        with self._supply.lock:
            for item in batch.items:
                if item not in batch.sealed:
                    self._supply.map.release(item.placement)
            self._supply.map.rest(batch.space)
            waiting = [item.operation for item in self._items.get(batch.space, [])] + self._rewriters.get(batch.space, [])
        if waiting and batch.space.blocked:
            self._refuse(batch)
        elif waiting:
            self._queue(batch.space, waiting[0])
        self._supply.changed()

    def _refuse(self, batch: _Batch) -> None:
        """The pad is in doubt: what waits for it cannot be written in this run."""
        with self._supply.lock:
            items, rewriters = self._items.pop(batch.space, []), self._rewriters.pop(batch.space, [])
            for item in items:
                self._supply.map.release(item.placement)
        error = self._supply.doubts[batch.pad]
        for operation in [*(item.operation for item in items), *rewriters]:
            operation.fail(self._described(batch, error))
            operation.leave()

    def _fail(self, batch: _Batch, error: BaseException) -> None:
        batch.sealed.clear()
        for operation in batch.operations():
            operation.fail(self._described(batch, error))

    def _described(self, batch: _Batch, error: BaseException) -> BaseException:
        keys = {item.upload.key for item in batch.items}
        key = keys.pop() if len(keys) == 1 else None
        return describe_failure(error, step="write", key=key, pad=self._committer.pads.name(batch.pad).address)

    def _send(self, batch: _Batch) -> None:
        buffer = self._compose(batch)
        operations = batch.operations()
        if not batch.sealed and (batch.items or all(operation.stop.is_set() for operation in operations)) and not batch.rewriters:
            return
        self._committer.announce(batch.pad)
        length = finish_image(
            self._committer.pads.sealer,
            self._committer.pads.name(batch.pad).address,
            buffer,
            counter=batch.counter + 1,
            end=max((entry.offset + entry.length for entry in batch.entries), default=32),
            run_id=self._committer.journal.index.run_id,
            entries=batch.entries,
            manifests=batch.manifests,
        )
        data = buffer[:length]
        digest = self._committer.send(batch.pad, data, batch.counter + 1, compared=batch.compared)
        self._transferred(batch, length)
        self._commit(batch, data, digest)

    def _transferred(self, batch: _Batch, length: int) -> None:
        for operation in batch.operations():
            uploads = [item.upload for item in batch.sealed if item.operation is operation]
            plain = sum(upload.chunk_length(upload.tail_chunk) for upload in uploads if upload.tail_chunk is not None)
            operation.transferred(plain, length)

    # -- composing

    def _compose(self, batch: _Batch) -> memoryview:
        """Live extents and manifests from the image before, then the items; a failed source is left out."""
        buffer = memoryview(bytearray(self._supply.map.pad_size))
        if batch.live or batch.live_manifests:
            self._keep(batch, buffer)
        for item in batch.items:
            try:
                if not item.upload.stopped:
                    self._seal(batch, item, buffer)
            except BaseException as error:  # noqa: BLE001 - one source's failure is that put's alone
                self._source_failed(item.upload, error)
        return buffer

    def _keep(self, batch: _Batch, buffer: memoryview) -> None:
        index = self._committer.journal.index
        old, batch.compared = self._committer.pads.stored(batch.pad, batch.counter, index.digest(batch.pad))
        for slot in batch.live:
            buffer[slot.offset : slot.offset + slot.length] = old.data[slot.offset : slot.offset + slot.length]
            batch.entries.append(TableEntry(slot.data_id, slot.chunk, slot.offset, slot.length))
        batch.manifests = [each for each in old.table.manifests if (each.key, each.version) in batch.live_manifests]
        if len(batch.manifests) != len(batch.live_manifests):
            raise BlockDamaged(f"{self._committer.pads.describe(batch.pad)} lacks a manifest that was written to it")
        gone = [each for each in old.table.manifests if (each.key, each.version) not in batch.live_manifests]
        batch.dropped = [[each.key, each.version] for each in gone]

    def _seal(self, batch: _Batch, item: Item, buffer: memoryview) -> None:
        upload, slot = item.upload, item.placement.slot
        if slot is not None:
            plain = read_chunk(self._committer, upload, slot.chunk)
            fingerprint = self._committer.pads.sealer.fingerprint(plain)
            self._check(upload)
            area = buffer[slot.offset : slot.offset + slot.length]
            self._committer.pads.sealer.seal_block(upload.data_id, slot.chunk, plain, fingerprint, area)
            batch.entries.append(TableEntry(upload.data_id, slot.chunk, slot.offset, slot.length))
            batch.fingerprints[upload] = fingerprint
        else:
            self._check(upload)
        manifest = upload.manifest()
        batch.manifests.append(RawManifest(upload.key, upload.version, encode_manifest(manifest)))
        batch.sealed.append(item)

    def _check(self, upload: Upload) -> None:
        """The source was read to its end; only an unchanged one gets its manifest sealed."""
        if upload.source is not None:
            upload.source.check_unchanged()

    # -- committing

    def _commit(self, batch: _Batch, data: memoryview, digest: bytes) -> None:
        published = [item.upload for item in batch.sealed if item.upload.remaining == 1]
        blocks = [self._block_fields(batch, item) for item in batch.sealed if item.placement.slot is not None]
        pending = [fields for item, fields in zip(self._with_slot(batch), blocks, strict=True) if item.upload.uses_pending()]
        added = [self._manifest_fields(item) for item in batch.sealed]
        for item, fields in zip(self._with_slot(batch), blocks, strict=True):
            item.upload.inline = [fields]
        committed = committed_record(
            batch.pad,
            batch.counter + 1,
            digest,
            blocks=list(pending),
            added=list(added),
            dropped=batch.dropped,
            blank=not (batch.entries or batch.manifests),
        )
        records: list[Record] = [*self._begins(batch), committed, *(upload.publish_record(batch.pad) for upload in published)]
        self._committer.commit(batch.pad, records, lambda: self._placed(batch, bytes(data)))
        for operation in batch.operations():
            operation.pad_committed()
        for item in batch.sealed:
            self._committed(item.upload, item.upload in published)

    def _with_slot(self, batch: _Batch) -> list[Item]:
        return [item for item in batch.sealed if item.placement.slot is not None]

    def _block_fields(self, batch: _Batch, item: Item) -> list[object]:
        slot = item.placement.slot
        assert slot is not None
        return [encode(slot.data_id), slot.chunk, slot.offset, slot.length, encode(batch.fingerprints[item.upload])]

    def _manifest_fields(self, item: Item) -> list[object]:
        upload = item.upload
        size = item.placement.space.manifests[upload.key, upload.version]
        return [upload.key, upload.version, size, int(upload.uses_pending())]

    def _begins(self, batch: _Batch) -> list[Record]:
        late = [item.upload for item in batch.sealed if item.upload.uses_pending() and not item.upload.begun]
        records = [upload.begin_record() for upload in late]
        for upload in late:
            upload.begun = True
        return records

    def _placed(self, batch: _Batch, data: bytes) -> None:
        slots = [item.placement.slot for item in batch.sealed if item.placement.slot is not None]
        manifests = [item.placement.manifest for item in batch.sealed if item.placement.manifest is not None]
        self._supply.map.commit(batch.space, slots, manifests)
        table = Table(self._committer.journal.index.run_id, batch.entries, batch.manifests)
        keep = self._supply.map.is_open(batch.space)
        self._committer.pads.remember(batch.pad, StoredImage(data, batch.counter + 1, table) if keep else None)

    def _committed(self, upload: Upload, published: bool) -> None:
        with upload.lock:
            upload.remaining -= 1
            last = upload.remaining == 0
        if last and not published:
            assert upload.placement is not None
            assert upload.placement.space.number is not None
            self._committer.record([upload.publish_record(upload.placement.space.number)])
        if last:
            upload.finish()
