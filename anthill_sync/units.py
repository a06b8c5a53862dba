"""Units of the upload stage that have a pad, or a stretch of source, to themselves."""

from __future__ import annotations

from typing import Protocol

from .committer import Committer, committed_record
from .image import TableEntry, finish_image
from .networks.base import calling
from .operation import Operation, describe_failure
from .packing import encode
from .reading import compare, read_chunk
from .space import HEADER_SIZE, SEAL_OVERHEAD, Slot
from .uploads import Upload


class Flow(Protocol):
    """What a unit tells the allocator."""

    def reads_done(self, upload: Upload) -> None:
        """Every chunk before the tail was read."""

    def source_failed(self, upload: Upload, error: BaseException) -> None:
        """The source of one upload cannot be read."""

    def found_changed(self, upload: Upload, chunks: list[int]) -> None:
        """These full chunks differ from what is stored and must be sent."""

    def unit_over(self, operation: Operation) -> None:
        """One of its windowed units has ended; the next may be queued."""


class ChunkUnit:
    """One chunk into one empty pad: a full one, or a remainder that is too large to share its pad with the manifest."""

    def __init__(self, flow: Flow, committer: Committer, upload: Upload, chunk: int) -> None:
        self._flow, self._committer, self._upload, self._chunk = flow, committer, upload, chunk

    @property
    def operation(self) -> Operation:
        return self._upload.operation

    def run(self) -> None:
        with self.operation.working():
            ended = self._run()
            if ended:
                self._flow.unit_over(self.operation)
        if ended:
            self.operation.leave()

    def _run(self) -> bool:
        """False: it has been queued again."""
        supply = self._committer.supply
        if self._upload.stopped:
            supply.forgo(self)
        elif (pad := supply.take(self)) is None:
            return False
        else:
            with calling(self.operation.call):
                self._try(pad)
        return True

    def _try(self, pad: int) -> None:
        upload, supply = self._upload, self._committer.supply
        try:
            try:
                length, fingerprint, counter = self._seal(pad)
            except BaseException as error:  # noqa: BLE001 - the operation carries it to its caller
                supply.give_back(pad)
                self._flow.source_failed(upload, error)
                return
            if upload.stopped:
                supply.give_back(pad)
            else:
                self._send(pad, length, fingerprint, counter)
        except BaseException as error:  # noqa: BLE001 - as above
            address = self._committer.pads.name(pad).address
            upload.operation.fail(describe_failure(error, step="write", key=upload.key, pad=address))

    def _seal(self, pad: int) -> tuple[int, bytes, int]:
        """Read, fingerprint and seal into the thread's image buffer; (image length, fingerprint, counter)."""
        upload, committer = self._upload, self._committer
        committer.begin(upload)
        plain = read_chunk(committer, upload, self._chunk)
        fingerprint = committer.pads.sealer.fingerprint(plain)
        image, counter = committer.buffers.image, committer.counter(pad) + 1
        sealed = committer.pads.sealer.seal_block(upload.data_id, self._chunk, plain, fingerprint, image[HEADER_SIZE:])
        length = finish_image(
            committer.pads.sealer,
            committer.pads.name(pad).address,
            image,
            counter=counter,
            end=HEADER_SIZE + sealed,
            run_id=committer.journal.index.run_id,
            entries=[TableEntry(upload.data_id, self._chunk, HEADER_SIZE, sealed)],
            manifests=[],
        )
        return length, fingerprint, counter

    def _send(self, pad: int, length: int, fingerprint: bytes, counter: int) -> None:
        upload, committer = self._upload, self._committer
        try:
            committer.announce(pad)
            self._release_held()
            digest = committer.send(pad, committer.buffers.image[:length], counter)
        except BaseException:
            if pad not in committer.supply.doubts:
                committer.supply.give_back(pad)
            raise
        plain = upload.chunk_length(self._chunk)
        upload.operation.transferred(plain, length)
        block = [encode(upload.data_id), self._chunk, HEADER_SIZE, plain + SEAL_OVERHEAD, encode(fingerprint)]
        record = committed_record(pad, counter, digest, blocks=[block], added=[], dropped=None, blank=False)
        self._commit(pad, record)

    def _release_held(self) -> None:
        """Sealed: a stream's chunk is not needed any more, and the tail may be once all are read."""
        upload = self._upload
        upload.let_go(self._chunk)
        if upload.read_over():
            self._flow.reads_done(upload)

    def _commit(self, pad: int, record: list[object]) -> None:
        upload, committer = self._upload, self._committer
        last = upload.remaining == 1
        records = [record, upload.publish_record(upload.manifest_pad)] if last else [record]
        committer.commit(pad, records, lambda: self._placed(pad))
        upload.operation.pad_committed()
        with upload.lock:
            upload.remaining -= 1
            over = upload.remaining == 0
        if over and not last:
            committer.record([upload.publish_record(upload.manifest_pad)])
        if over:
            upload.finish()

    def _placed(self, pad: int) -> None:
        memory_map, length = self._committer.supply.map, self._upload.chunk_length(self._chunk) + SEAL_OVERHEAD
        if length == memory_map.full_length:
            memory_map.fill(pad)
        else:
            memory_map.fill_part(pad, Slot(HEADER_SIZE, length, self._upload.data_id, self._chunk, live=True))


class ScanUnit:
    """Some chunks compared with what is stored already."""

    def __init__(self, flow: Flow, committer: Committer, upload: Upload, chunks: list[int]) -> None:
        self._flow, self._committer, self._upload, self._chunks = flow, committer, upload, chunks

    @property
    def operation(self) -> Operation:
        return self._upload.operation

    def run(self) -> None:
        with self.operation.working():
            try:
                self._compare()
            except BaseException as error:  # noqa: BLE001 - the operation carries it to its caller
                self._flow.source_failed(self._upload, error)
            self._flow.unit_over(self.operation)
        self.operation.leave()

    def _compare(self) -> None:
        upload = self._upload
        if not upload.stopped:
            changed = [chunk for chunk in self._chunks if self._changed(chunk)]
            if upload.source is not None and len(self._chunks) == len(upload.origins):
                upload.source.close()  # nobody else reads it now; who needs it again opens it, and compares it then
            self._flow.found_changed(upload, changed)
            if upload.read_over(len(self._chunks)):
                self._flow.reads_done(upload)

    def _changed(self, chunk: int) -> bool:
        """True for a full chunk that must be sent; a changed remainder is left to the tail."""
        upload = self._upload
        plain = read_chunk(self._committer, upload, chunk)
        return compare(upload, chunk, self._committer.pads.sealer.fingerprint(plain), len(plain))


class BlankUnit:
    """An empty image in place of a dead one, so that nothing of a removed value stays on the network; or of a ``damaged``
    one, whatever it is, so that the pad serves again."""

    def __init__(self, committer: Committer, pad: int, operation: Operation, *, damaged: bool = False) -> None:
        self._committer, self._pad, self.operation, self._damaged = committer, pad, operation, damaged

    def run(self) -> None:
        supply = self._committer.supply
        take = supply.map.take_blocked if self._damaged else supply.map.take_empty
        with self.operation.working():
            with supply.lock:
                mine = not self.operation.stop.is_set() and take(self._pad)
            if mine:
                self._try()
        self.operation.leave()

    def _try(self) -> None:
        supply = self._committer.supply
        try:
            with calling(self.operation.call):
                self._send()
        except BaseException as error:  # noqa: BLE001 - the operation carries it to its caller
            if self._pad not in supply.doubts:
                supply.give_back(self._pad)
            address = self._committer.pads.name(self._pad).address
            self.operation.fail(describe_failure(error, step="write", pad=address))

    def _send(self) -> None:
        committer, pad = self._committer, self._pad
        committer.announce(pad)
        image, counter = committer.buffers.image, committer.counter(pad) + 1
        length = finish_image(
            committer.pads.sealer,
            committer.pads.name(pad).address,
            image,
            counter=counter,
            end=HEADER_SIZE,
            run_id=committer.journal.index.run_id,
            entries=[],
            manifests=[],
        )
        digest = committer.send(pad, image[:length], counter, compared=self._damaged)  # a damaged image has no counter
        self.operation.transferred(0, length)
        record = committed_record(pad, counter, digest, blocks=[], added=[], dropped=None, blank=True)
        committer.commit(pad, [record], lambda: committer.supply.map.blank(pad))
        self.operation.pad_committed()
