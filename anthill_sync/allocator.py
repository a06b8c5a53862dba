"""``MemoryAllocator``: owns pads, free blocks and writing. Its state is the memory map, never stale: loaded from the
index whenever another run may have written, and changed only after the record that says so is durable.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from .committer import Committer
from .errors import AnthillError, LocalIOError, PermissionRefused, SourceChanged, SourceNotFound
from .events import OnEvent
from .image import encode_attributes, manifest_size
from .index import Record
from .journal import Journal
from .memory_map import Kind
from .operation import GRACE_SECONDS, Operation, describe_failure
from .pads import Pads
from .pipeline import Pipeline
from .reading import compare
from .sealing import OVERHEAD
from .settings import CHUNK_MARGIN, STREAM_QUEUE, Settings
from .shared_pads import Item, SharedPads
from .sources import Source, StreamSource
from .summaries import ByteSummary, PadSummary
from .supply import WINDOW, PadSupply
from .takeover import map_of, resolve, run_record
from .units import BlankUnit, ChunkUnit, ScanUnit
from .uploads import Origin, Upload
from .usage import summarise
from .values import DATA_ID_SIZE, Span

SCAN_CHUNKS = 8  # chunks compared by one unit
SOURCE_ERRORS = (SourceNotFound, SourceChanged, PermissionRefused, LocalIOError)

log = logging.getLogger("anthill_sync.allocator")


class MemoryAllocator:
    """``lock`` guards the memory map and everything that decides about pads; plans are made under it, I/O is not."""

    def __init__(self, journal: Journal, pads: Pads, pipeline: Pipeline, settings: Settings, pad_size: int) -> None:
        self.lock = threading.RLock()
        self.pad_size = pad_size
        self.chunk_size = pad_size - CHUNK_MARGIN
        self.supply = PadSupply(self.lock, journal, pads, pipeline)
        self.committer = Committer(self.supply, journal, pads, pad_size)
        self.shared = SharedPads(self.committer, pipeline, self.source_failed)
        self._journal, self._pads, self._pipeline = journal, pads, pipeline
        self._rewrite_limit = settings.rewrite_limit
        self._window = WINDOW * settings.upload_threads
        self._uploads: dict[bytes, Upload] = {}  # by data id, from allocate to the end of write
        self._run_id = b""
        self._sequence = -1  # of the index that the map was loaded from or follows
        self._versions = 0
        self._unfinished = False  # calls are still running after a stop; their pads stay in ``writing``
        self._tried_rewrites: set[int] = set()

    # -- runs

    def begin_run(self) -> None:
        """The lock was just taken. Unless nothing happened since this process gave it back: load the map, resolve what
        an earlier run was writing, and become a new run, durably, before anything is sent."""
        index = self._journal.index
        if (index.run_id, index.sequence) == (self._run_id, self._sequence) and not index.writing:
            return
        memory_map = map_of(index, self.pad_size, self._rewrite_limit)
        self._pads.forget_all()
        records = resolve(index, memory_map, self._pads, self._pipeline.download) if index.writing else []
        self._journal.append([*records, ["idle", []], run_record(index)])
        if records:
            memory_map = map_of(index, self.pad_size, self._rewrite_limit)
        self.supply.reset(memory_map, index.unreserved())
        self.committer.reset()
        self._run_id, self._versions = index.run_id, 0
        self._tried_rewrites.clear()

    def end_run(self) -> None:
        """Nothing runs any more, or what runs will not end: give the lock back."""
        if self._unfinished:
            self._journal.give_up()
            return
        self._journal.release(self.committer.in_doubt())
        self._sequence = self._journal.index.sequence

    def load(self) -> None:
        """For questions without the lock: the map as the index has it now."""
        index = self._journal.index
        if index.sequence != self._sequence:
            self.supply.reset(map_of(index, self.pad_size, self._rewrite_limit), index.unreserved())
            self._sequence, self._run_id = index.sequence, b""

    def next_version(self) -> int:
        """A version above every one before, never used again."""
        with self.lock:
            self._versions += 1
            return self._journal.index.run << 32 | self._versions

    # -- planning

    def check_allocation_possible(self, size: int) -> int | None:
        """None when a new value of ``size`` bytes fits into free space, else the pads to reserve for it. Changes
        nothing. A key's length is not known here: one of 64 bytes is assumed."""
        full, rest = divmod(size, self.chunk_size)
        with self.lock:
            manifest = manifest_size("x" * 64, None, 1)
            space = self.supply.map.fits(rest + OVERHEAD if rest else None, manifest)
            return self.supply.shortage(full + (space is None)) or None

    def plan(self, operation: Operation, key: str, size: int | None, attributes: Mapping[str, Any] | None = None) -> Upload:
        """Decide what must be sent for one value, and place its remainder and manifest where that is known already.
        Reserves and sends nothing."""
        encode_attributes(attributes)
        index = self._journal.index
        upload = Upload(
            operation,
            key,
            os.urandom(DATA_ID_SIZE),
            version=self.next_version(),
            size=size,
            chunk_size=self.chunk_size,
            attributes=attributes,
            old=index.values.get(key),
            pending=index.pending_uploads.get(key),
        )
        with self.lock:
            self._uploads[upload.data_id] = upload
        if size is None:
            operation.total_bytes = None
            return upload
        upload.plan(len(upload.origins))
        if operation.total_bytes is not None:
            operation.total_bytes += size
        operation.expect_pads(len(upload.sends))
        if upload.old is None and upload.pending is None:
            self._place(upload, upload.spans())
        return upload

    def needed(self, uploads: list[Upload]) -> int:
        """Pads that ``start`` would reserve for these plans, those of an update or stream not counted."""
        return self.supply.shortage(self._count(uploads))

    def at_most(self, uploads: list[Upload]) -> int:
        """The same if every chunk had changed."""
        changed = sum(len(upload.scans) + (upload.placement is None) for upload in uploads)
        return self.supply.shortage(self._count(uploads) + changed)

    def _count(self, uploads: list[Upload]) -> int:
        planned = {id(u.placement.space) for u in uploads if u.placement is not None and u.placement.space.number is None}
        return sum(len(upload.sends) for upload in uploads) + len(planned)

    def start(self, operation: Operation, uploads: list[Upload]) -> None:
        """Begin to reserve what the plans need. ``PadLimitExceeded`` before anything is reserved."""
        claimed = 0
        for upload in uploads:
            if upload.placement is not None and self.shared.claim(upload.placement.space, operation):
                claimed += 1
        count = sum(len(upload.sends) for upload in uploads) + claimed
        if count:
            self.supply.want(operation, count)

    def allocate(
        self, size: int | None, on_event: OnEvent | None = None, *, key: str, attributes: Mapping[str, Any] | None = None
    ) -> bytes:
        """Plan a value of ``size`` bytes (None: a stream), start the reservation pool and return the data id that
        ``write`` takes. The caller holds the store's lock."""
        operation = Operation(on_event)
        upload = self.plan(operation, key, size, attributes)
        self.start(operation, [upload])
        return upload.data_id

    def _place(self, upload: Upload, spans: list[Span]) -> None:
        assert upload.size is not None
        chunk = len(upload.origins) - 1
        rest = upload.size % self.chunk_size
        sent = bool(rest) and upload.origins[chunk] == Origin.SENT
        size = manifest_size(upload.key, upload.attributes, len(spans))
        with self.lock:
            upload.placement = self.supply.map.place(
                rest + OVERHEAD if sent else None, (upload.data_id, chunk), (upload.key, upload.version), size
            )
        upload.tail_chunk = chunk if sent else None

    # -- writing

    def write(self, data_id: bytes, source: Source, on_event: OnEvent | None = None) -> None:
        """Seal and upload what ``allocate`` planned; starts at once, and ends when reservation and upload have.
        Events go to the callback that ``allocate`` was given, or to this one."""
        upload = self._uploads[data_id]
        if on_event is not None:
            upload.operation.listen(on_event)
        self.write_all(upload.operation, [(upload, source)])

    def write_all(self, operation: Operation, work: list[tuple[Upload, Source]]) -> None:
        """Write many values as one operation; raises its first failure when everything that was running has ended."""
        for upload, source in work:
            upload.source = source
        try:
            self.run(operation, lambda: self._begin(operation, work))
        finally:
            self.forget([upload for upload, _ in work])
            for _, source in work:
                source.close()

    def run(self, operation: Operation, begin: Any) -> None:
        """Run ``begin`` on the calling thread, then deliver events until all work of the operation is over."""
        operation.enter()
        try:
            try:
                begin()
            finally:
                operation.leave()
            operation.wait(lambda: self._withdraw(operation))
        except BaseException as error:  # noqa: BLE001 - raised again below, once running work has ended
            operation.fail(error)
            self._stop(operation, patient=isinstance(error, Exception))
        finally:
            self.supply.withdraw(operation)
        if operation.failure is not None:
            raise operation.failure

    def _stop(self, operation: Operation, *, patient: bool) -> None:
        """Nothing new starts; running calls end by themselves, or after the grace period by losing their sockets."""
        self._withdraw(operation)
        if operation.drain(float("inf") if patient else GRACE_SECONDS):
            return
        self._pads.network.close()
        self._unfinished = not operation.drain(GRACE_SECONDS)

    def _withdraw(self, operation: Operation) -> None:
        with self.lock:
            operation.backlog.clear()
        waiting = self.supply.withdraw(operation)
        operation.leave(sum(isinstance(unit, ChunkUnit) for unit in waiting))
        self.shared.withdraw(operation, list(waiting))

    def _begin(self, operation: Operation, work: list[tuple[Upload, Source]]) -> None:
        with self.lock:
            operation.backlog.extend(upload for upload, source in work if source.size is not None)
        items = [self._tail(upload) for upload, source in work if source.size is not None and upload.read_over()]
        self.shared.submit([item for item in items if item is not None])
        self._feed(operation)
        for upload, source in work:
            if isinstance(source, StreamSource):
                self._read_stream(upload, source)

    def _read_stream(self, upload: Upload, source: StreamSource) -> None:
        """Read on the calling thread, at most ``STREAM_QUEUE`` chunks ahead; allocation grows with what comes."""
        operation, size = upload.operation, 0
        for chunk, plain in enumerate(source.chunks(self.chunk_size)):
            operation.wait_for(lambda: len(upload.held) < STREAM_QUEUE, upload.space_free)
            if operation.stop.is_set():
                return
            size += len(plain)
            self._add_chunk(upload, chunk, plain)
        upload.size = size
        operation.deliver()
        if upload.read_over():
            self.reads_done(upload)

    def _add_chunk(self, upload: Upload, chunk: int, plain: bytes) -> None:
        with upload.lock:
            upload.origins.append(Origin.SENT)
            upload.held[chunk] = plain
        fingerprint = self._pads.sealer.fingerprint(plain) if upload.known(chunk) else b""
        changed = compare(upload, chunk, fingerprint, len(plain)) if fingerprint else len(plain) == self.chunk_size
        if changed:
            self.found_changed(upload, [chunk])
        elif len(plain) == self.chunk_size:
            del upload.held[chunk]

    def _feed(self, operation: Operation) -> None:
        """Queue the operation's next units, few enough that other operations get their turn."""
        units = []
        with self.lock:
            while operation.queued < self._window and operation.backlog and not operation.stop.is_set():
                unit = self._next_unit(operation.backlog[0])
                if unit is None:
                    operation.backlog.popleft()
                else:
                    operation.queued += 1
                    operation.enter()
                    units.append(unit)
        for unit in units:
            if isinstance(unit, ChunkUnit):
                self.supply.queue(unit)
            else:
                self._pipeline.upload.put(unit)

    def _next_unit(self, upload: Upload) -> ChunkUnit | ScanUnit | None:
        """Comparing and sending take turns, so the network is busy while a large source is compared."""
        if upload.scans and (upload.operation.queued % 2 == 0 or not upload.sends):
            chunks = [upload.scans.popleft() for _ in range(min(SCAN_CHUNKS, len(upload.scans)))]
            return ScanUnit(self, self.committer, upload, chunks)
        if upload.sends:
            return ChunkUnit(self, self.committer, upload, upload.sends.popleft())
        return None

    # -- what units say

    def reads_done(self, upload: Upload) -> None:
        """Every chunk before the tail was read: remainder and manifest may go."""
        item = self._tail(upload)
        if item is not None:
            self.shared.submit([item])

    def _tail(self, upload: Upload) -> Item | None:
        if upload.same_as_old():
            assert upload.source is not None
            upload.source.check_unchanged()
            upload.finish(unchanged=True)
            return None
        if upload.placement is None:
            spans = upload.spans()
            again = upload.too_many_spans(spans, self.pad_size // 2)
            if again and self._send_again(upload, again):
                return None
            self._place(upload, upload.spans())
            upload.operation.expect_pads(1)
        assert upload.placement is not None
        return Item(upload, upload.placement)

    def _send_again(self, upload: Upload, chunks: list[int]) -> bool:
        """True when full chunks have to be read and sent before the tail can be planned."""
        full = upload.reseal(chunks)
        self._send_more(upload, full)
        return bool(full)

    def found_changed(self, upload: Upload, chunks: list[int]) -> None:
        """These full chunks must be sent."""
        with upload.lock:
            for chunk in chunks:
                upload.add_send(chunk, read=True)
        self._send_more(upload, len(chunks))

    def _send_more(self, upload: Upload, count: int) -> None:
        if not count:
            return
        upload.operation.expect_pads(count)
        self.supply.want(upload.operation, count)
        with self.lock:
            upload.operation.backlog.append(upload)
        self._feed(upload.operation)

    def source_failed(self, upload: Upload, error: BaseException) -> None:
        """The source of one upload failed: that upload is skipped when its operation goes on without, else all stop."""
        operation = upload.operation
        if operation.skip_source is not None and isinstance(error, SOURCE_ERRORS) and self._journal.failure is None:
            with self.lock:
                upload.dropped = True
                self.supply.unwant(operation, len(upload.sends))
                upload.sends.clear()
                upload.scans.clear()
            operation.skip_source(upload.key, error)
        else:
            operation.fail(describe_failure(error, step="read the source", key=upload.key))

    def unit_over(self, operation: Operation) -> None:
        """The next windowed unit may be queued."""
        with self.lock:
            operation.queued -= 1
        self._feed(operation)

    def forget(self, uploads: list[Upload]) -> None:
        """The uploads are over: what was planned for those that are not done is free again. Safe to repeat."""
        with self.lock:
            for upload in uploads:
                self._uploads.pop(upload.data_id, None)
                if upload.placement is not None and not upload.done:
                    self.supply.map.release(upload.placement)

    # -- freeing

    def free(self, records: list[Record]) -> None:
        """Make records durable that free blocks and manifests; only then are they free."""
        self.committer.record(records)

    def dead_pads(self, extents: list[tuple[int, int, int]], manifests: list[int]) -> list[int]:
        """Pads to rewrite once these extents and manifest pads are dead: all that hold a manifest, and those that hold
        nothing else."""
        dead: dict[int, int] = {}
        for pad, _, _ in extents:
            dead[pad] = dead.get(pad, 0) + 1
        with self.lock:
            spaces = self.supply.map.spaces
            empty = [pad for pad, count in dead.items() if pad not in spaces or len(spaces[pad].slots) == count]
        return sorted({*empty, *manifests})

    def write_manifest(self, upload: Upload, spans: int) -> None:
        """Write the manifest of a value whose blocks stay where they are, and publish it: a rename."""
        operation = upload.operation
        size = manifest_size(upload.key, upload.attributes, spans)
        with self.lock:
            upload.placement = self.supply.map.place(None, (b"", 0), (upload.key, upload.version), size)
        operation.expect_pads(1)
        item = Item(upload, upload.placement)
        try:
            self.run(operation, lambda: self.shared.submit([item]))
        finally:
            self.forget([upload])

    def rewrite(self, pads: list[int], on_event: OnEvent | None = None) -> BaseException | None:
        """Send every pad anew without what is dead in it; the first failure, after which the rest is left for later."""
        operation = Operation(on_event)
        self._tried_rewrites.update(pads)
        try:
            self.run(operation, lambda: self._rewrite_all(operation, pads))
        except AnthillError as error:
            return error
        return None

    def _rewrite_all(self, operation: Operation, pads: list[int]) -> None:
        operation.expect_pads(len(pads))
        for pad in pads:
            with self.lock:
                space = self.supply.map.spaces.get(pad)
                empty = self.supply.map.kinds[pad] == Kind.EMPTY
            if space is not None and not space.blocked:
                self.shared.rewrite(space, operation)
            elif empty:
                operation.enter()
                self._pipeline.upload.put(BlankUnit(self.committer, pad, operation))

    def rewrite_left_over(self) -> None:
        """What an earlier run could not rewrite is tried once by this one; a failure is only logged."""
        pads = sorted(self._journal.index.to_rewrite - self._tried_rewrites)
        error = self.rewrite(pads) if pads else None
        if error is not None:
            log.warning("old manifests are left on %d pads: %s", len(self._journal.index.to_rewrite), error)

    def mark_for_rewrite(self, pads: list[int]) -> None:
        """Remember durably that these pads are to be rewritten."""
        if pads:
            self.free([["remove", [], pads]])

    def not_blank(self) -> list[int]:
        """Free pads whose image still holds sealed bytes of removed values."""
        with self.lock:
            blank = self._journal.index.blank
            return [pad for pad, kind in enumerate(self.supply.map.kinds) if kind == Kind.EMPTY and not blank[pad]]

    # -- questions

    def get_storage_and_pad_summary(self) -> tuple[PadSummary, ByteSummary, bytes]:
        """Pads and bytes, used and free, and one byte per pad: 0 empty to 255 full."""
        with self.lock:
            stored = sum(value.size for value in self._journal.index.values.values())
            return summarise(self.supply.map, stored)

    def check(self) -> Iterator[tuple[int | None, str]]:
        """Prove that every byte of every pad is free or owned exactly once, and that the map is what the index says;
        yields (pad, what is wrong)."""
        with self.lock:
            yield from self.supply.map.check()
            expected = map_of(self._journal.index, self.pad_size, self._rewrite_limit)
            yield from self.supply.map.differences(expected)
