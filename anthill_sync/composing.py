"""The next image of a shared pad: what is live in the one before, and what is queued for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from .committer import Committer, committed_record
from .errors import BlockDamaged
from .image import RawManifest, TableEntry, encode_manifest, finish_image
from .index import Record, encode
from .memory_map import Placement
from .operation import Operation
from .reading import read_chunk
from .space import HEADER_SIZE, Slot, Space
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
class Batch:
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

    def pieces(self) -> Counter[Operation]:
        """How many items and rewrites of each operation are in the image."""
        return Counter([*(item.operation for item in self.items), *self.rewriters])

    def end(self) -> int:
        """Where the image's last extent ends at most."""
        slots = [*self.live, *(item.placement.slot for item in self.items if item.placement.slot is not None)]
        return max((slot.offset + slot.length for slot in slots), default=HEADER_SIZE)

    def operations(self) -> list[Operation]:
        return list(self.pieces())


class Composer:
    """Composes images and the records that commit them."""

    def __init__(self, committer: Committer, source_failed: SourceFailed) -> None:
        self._committer, self._source_failed = committer, source_failed

    def compose(self, batch: Batch) -> memoryview:
        """Live extents and manifests from the image before, then the items; a failed source is left out. In this thread's
        image buffer: nothing of what was sent from it before is left between them."""
        buffer, end = self._committer.buffers.image, batch.end()
        buffer[:end] = bytes(end)
        if batch.live or batch.live_manifests:
            self._keep(batch, buffer)
        for item in batch.items:
            try:
                if not item.upload.stopped:
                    self._seal(batch, item, buffer)
            except BaseException as error:  # noqa: BLE001 - one source's failure is that put's alone
                self._source_failed(item.upload, error)
        return buffer

    def _keep(self, batch: Batch, buffer: memoryview) -> None:
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

    def _seal(self, batch: Batch, item: Item, buffer: memoryview) -> None:
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
        """The source was read to its end; only an unchanged one gets its manifest sealed. It is closed at once: an image takes
        the blocks of more small files than a process may have open."""
        if upload.source is not None:
            upload.source.check_unchanged()
            upload.source.close()

    def finish(self, batch: Batch, buffer: memoryview) -> memoryview:
        """The whole image: header and table around what ``compose`` put into ``buffer``."""
        length = finish_image(
            self._committer.pads.sealer,
            self._committer.pads.name(batch.pad).address,
            buffer,
            counter=batch.counter + 1,
            end=max((entry.offset + entry.length for entry in batch.entries), default=HEADER_SIZE),
            run_id=self._committer.journal.index.run_id,
            entries=batch.entries,
            manifests=batch.manifests,
        )
        return buffer[:length]

    # -- records

    def records(self, batch: Batch, digest: bytes, published: Iterable[Upload]) -> list[Record]:
        """One batch for the journal: late begins, COMMITTED, and the publications that this image completes."""
        pending: list[object] = []
        for item in batch.sealed:
            fields = self._block_fields(batch, item)
            item.upload.inline = fields
            pending += fields if item.upload.uses_pending() else []
        committed = committed_record(
            batch.pad,
            batch.counter + 1,
            digest,
            blocks=pending,
            added=[self._manifest_fields(item) for item in batch.sealed],
            dropped=batch.dropped,
            blank=not (batch.entries or batch.manifests),
        )
        return [*self._begins(batch), committed, *(upload.publish_record(batch.pad) for upload in published)]

    def _block_fields(self, batch: Batch, item: Item) -> list[object]:
        slot = item.placement.slot
        if slot is None:
            return []
        return [[encode(slot.data_id), slot.chunk, slot.offset, slot.length, encode(batch.fingerprints[item.upload])]]

    def _manifest_fields(self, item: Item) -> object:
        upload = item.upload
        size = item.placement.space.manifests[upload.key, upload.version]
        return [upload.key, upload.version, size, int(upload.uses_pending())]

    def _begins(self, batch: Batch) -> list[Record]:
        late = [item.upload for item in batch.sealed if item.upload.uses_pending() and not item.upload.begun]
        records = [upload.begin_record() for upload in late]
        for upload in late:
            upload.begun = True
        return records
