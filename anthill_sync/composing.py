"""The next image of a shared pad: what is live in the one before, and what is queued for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from operator import attrgetter

from .committer import Committer, committed_record
from .errors import BlockDamaged
from .image import RawManifest, TableEntry, finish_image
from .index import Record
from .operation import Operation
from .packing import encode
from .reading import read_chunk
from .space import HEADER_SIZE, Slot, Space
from .uploads import Upload

SourceFailed = Callable[[Upload, BaseException], None]
operation_of: Callable[[Upload], Operation] = attrgetter("operation")


@dataclass(eq=False)
class Batch:
    """One image of one shared pad, while it is composed, sent and committed. Each of ``uploads`` puts its remainder, or
    nothing, and its manifest into it, where its placement says."""

    space: Space
    uploads: list[Upload]
    rewriters: list[Operation]
    live: list[Slot]
    live_manifests: set[tuple[str, int]]
    end: int  # where the last extent ends, of those in the image and of those that are freed or planned meanwhile
    counter: int = 0
    compared: bool = False
    entries: list[TableEntry] = field(default_factory=list)
    manifests: list[RawManifest] = field(default_factory=list)
    dropped: list[object] | None = None
    sealed: list[Upload] = field(default_factory=list)  # those that made it into the image
    pieces: Counter[Operation] = field(init=False)  # how many uploads and rewrites of each operation are in the image

    def __post_init__(self) -> None:
        self.pieces = Counter(map(operation_of, self.uploads))
        self.pieces.update(self.rewriters)

    @property
    def pad(self) -> int:
        assert self.space.number is not None
        return self.space.number

    def operations(self) -> list[Operation]:
        return list(self.pieces)


def _joined(slots: Iterable[Slot]) -> list[tuple[int, int]]:
    """(first byte, first byte behind) of the stretches that the extents form, in order: those of small values are many."""
    found: list[tuple[int, int]] = []
    start = stop = 0
    for offset, length in sorted((slot.offset, slot.length) for slot in slots):
        if offset != stop:
            found.append((start, stop))
            start = offset
        stop = offset + length
    return [*found, (start, stop)]


class Composer:
    """Composes images and the records that commit them."""

    def __init__(self, committer: Committer, source_failed: SourceFailed) -> None:
        self._committer, self._source_failed = committer, source_failed

    def compose(self, batch: Batch) -> memoryview:
        """Live extents and manifests from the image before, then the uploads; a failed source is left out. In this thread's
        image buffer: nothing of what was sent from it before is left between them."""
        buffer = self._committer.buffers.image
        buffer[: batch.end] = bytes(batch.end)
        if batch.live or batch.live_manifests:
            self._keep(batch, buffer)
        for upload in batch.uploads:
            try:
                if not upload.stopped:
                    self._seal(batch, upload, buffer)
            except BaseException as error:  # noqa: BLE001 - one source's failure is that put's alone
                self._source_failed(upload, error)
        return buffer

    def _keep(self, batch: Batch, buffer: memoryview) -> None:
        index = self._committer.journal.index
        old, batch.compared = self._committer.pads.stored(batch.pad, batch.counter, index.digest(batch.pad))
        data = memoryview(old.data)
        for start, stop in _joined(batch.live):
            buffer[start:stop] = data[start:stop]
        batch.entries = [TableEntry(slot.data_id, slot.chunk, slot.offset, slot.length) for slot in batch.live]
        batch.dropped = dropped = []
        for each in old.table.manifests:
            if (each.key, each.version) in batch.live_manifests:
                batch.manifests.append(each)
            else:
                dropped.append([each.key, each.version])
        if len(batch.manifests) != len(batch.live_manifests):
            raise BlockDamaged(f"{self._committer.pads.describe(batch.pad)} lacks a manifest that was written to it")

    def _seal(self, batch: Batch, upload: Upload, buffer: memoryview) -> None:
        """The source was read to its end then; only an unchanged one gets its manifest sealed."""
        slot = upload.placed.slot
        plain = b"" if slot is None else read_chunk(self._committer, upload, slot.chunk)
        if upload.source is not None:
            upload.source.check_unchanged()
            upload.source.close()  # not when it is published: of small files there are thousands in one image
        if slot is not None:
            sealer, (offset, length) = self._committer.pads.sealer, (slot.offset, slot.length)
            upload.fingerprint = sealer.fingerprint(plain)
            sealer.seal_block(upload.data_id, slot.chunk, plain, upload.fingerprint, buffer[offset : offset + length])
            batch.entries.append(TableEntry(upload.data_id, slot.chunk, offset, length))
        batch.manifests.append(upload.manifest())
        batch.sealed.append(upload)

    def finish(self, batch: Batch, buffer: memoryview) -> memoryview:
        """The whole image: header and table around what ``compose`` put into ``buffer``."""
        length = finish_image(
            self._committer.pads.sealer,
            self._committer.pads.name(batch.pad).address,
            buffer,
            counter=batch.counter + 1,
            end=max([offset + length for _, _, offset, length in batch.entries], default=HEADER_SIZE),
            run_id=self._committer.journal.index.run_id,
            entries=batch.entries,
            manifests=batch.manifests,
        )
        return buffer[:length]

    # -- records

    def records(self, batch: Batch, digest: bytes, published: Iterable[Upload]) -> list[Record]:
        """One batch for the journal: late begins, COMMITTED, and the publications that this image completes."""
        pending: list[object] = []
        added: list[object] = []
        sizes = batch.space.manifests
        for upload in batch.sealed:
            waits = upload.uses_pending()
            upload.inline = self._block_fields(upload)
            pending += upload.inline if waits else ()
            added.append([upload.key, upload.version, sizes[upload.key, upload.version], int(waits)])
        blank = not (batch.entries or batch.manifests)
        committed = committed_record(
            batch.pad, batch.counter + 1, digest, blocks=pending, added=added, dropped=batch.dropped, blank=blank
        )
        return [*self._begins(batch), committed, *(upload.publish_record(batch.pad) for upload in published)]

    def _block_fields(self, upload: Upload) -> list[object]:
        slot = upload.placed.slot
        if slot is None:
            return []
        return [[encode(slot.data_id), slot.chunk, slot.offset, slot.length, encode(upload.fingerprint)]]

    def _begins(self, batch: Batch) -> list[Record]:
        late = [upload for upload in batch.sealed if upload.uses_pending() and not upload.begun]
        records = [upload.begin_record() for upload in late]
        for upload in late:
            upload.begun = True
        return records
