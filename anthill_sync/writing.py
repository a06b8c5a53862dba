"""Running operations: feeding the stages, reading streams, and what units report back."""

from __future__ import annotations

from collections.abc import Callable

from .committer import Committer
from .errors import AnthillError, LocalIOError, PermissionRefused, SourceChanged, SourceNotFound
from .operation import CLOSED_SECONDS, GRACE_SECONDS, Operation, SkipSource, describe_failure
from .pipeline import Pipeline
from .planning import Planner
from .reading import compare
from .settings import STREAM_QUEUE
from .shared_pads import SharedPads
from .sources import StreamSource
from .supply import WINDOW
from .units import ChunkUnit, ScanUnit
from .uploads import Origin, Upload

SCAN_CHUNKS = 8  # chunks compared by one unit
SOURCE_ERRORS = (SourceNotFound, SourceChanged, PermissionRefused, LocalIOError)


class Writer:
    """Writes planned uploads. The memory map's lock guards each operation's ``backlog`` and ``queued``."""

    def __init__(self, planner: Planner, committer: Committer, pipeline: Pipeline, chunk_size: int) -> None:
        self.shared = SharedPads(committer, pipeline, self.source_failed, planner.planned)
        self.interrupted = False  # the calling thread was interrupted, perhaps in the middle of queueing something
        self.unfinished = False  # calls are still running after a stop; their pads stay in ``writing``
        self._planner, self._committer, self._pipeline = planner, committer, pipeline
        self._supply, self._lock = committer.supply, committer.supply.lock
        self._chunk_size = chunk_size
        self._window = WINDOW * pipeline.upload.threads

    def new_run(self) -> None:
        """Nothing is queued or running."""
        self.interrupted = False
        self.shared.reset()

    def start(self, operation: Operation, uploads: list[Upload]) -> None:
        """Begin to reserve what the plans need. ``PadLimitExceeded`` before anything is reserved."""
        placed = [upload.placement.space for upload in uploads if upload.placement is not None]
        try:
            claimed = sum(self.shared.claim(space, operation) for space in placed)
            count = sum(len(upload.sends) for upload in uploads) + claimed
            if count:
                self._supply.want(operation, count)
        except BaseException as error:
            operation.fail(error)
            self._withdraw(operation)
            raise

    def write_all(self, operation: Operation, uploads: list[Upload], *, start: bool = False) -> None:
        """Write many values, whose sources the uploads have, as one operation, ``start`` it first if asked to; raises its
        first failure when everything that was running has ended."""

        def begin() -> None:
            if start:  # in here, so that an interrupt finds nothing running that nobody waits for
                self.start(operation, uploads)
            self._begin(operation, uploads)

        try:
            self.run(operation, begin)
        finally:
            self._planner.forget(uploads)
            for upload in uploads:
                if upload.source is not None:
                    upload.source.close()

    def run(self, operation: Operation, begin: Callable[[], None]) -> None:
        """Run ``begin`` on the calling thread, then deliver events until all work of the operation is over."""
        operation.help = self._pipeline.help
        operation.enter()
        try:
            try:
                if not operation.is_over():
                    begin()
            finally:
                operation.leave()
            operation.wait(lambda: self._withdraw(operation))
        except BaseException as error:  # noqa: BLE001 - raised again below, once running work has ended
            operation.fail(error)
            self.interrupted |= not isinstance(error, Exception)
            self._stop(operation, patient=isinstance(error, Exception))
        finally:
            self._withdraw(operation)  # what others may be waiting for in its name: claims of pads, demand
        if operation.failure is not None:
            self.interrupted |= not isinstance(operation.failure, Exception)  # in a unit that ran on this thread
            raise operation.failure

    def _stop(self, operation: Operation, *, patient: bool) -> None:
        """Nothing new starts; running calls end by themselves, or after the grace period by losing their sockets."""
        self._withdraw(operation)
        if operation.drain(float("inf") if patient else GRACE_SECONDS):
            return
        self._committer.pads.network.close()
        self.unfinished = not operation.drain(CLOSED_SECONDS)

    def _withdraw(self, operation: Operation) -> None:
        with self._lock:
            operation.backlog.clear()
        waiting = self._supply.withdraw(operation)
        operation.leave(sum(isinstance(unit, ChunkUnit) for unit in waiting))
        self.shared.withdraw(operation, list(waiting))

    def _begin(self, operation: Operation, uploads: list[Upload]) -> None:
        known = [upload for upload in uploads if not upload.streamed]
        with self._lock:
            operation.backlog.extend(upload for upload in known if upload.sends or upload.scans)
        self.shared.submit([upload for upload in known if upload.read_over() and self._first_tail(upload)])
        self._feed(operation)
        for upload in uploads:
            if isinstance(upload.source, StreamSource):
                self._read_stream(upload, upload.source)

    # -- streams

    def _read_stream(self, upload: Upload, source: StreamSource) -> None:
        """Read on the calling thread, at most ``STREAM_QUEUE`` chunks ahead; allocation grows with what comes."""
        operation, size = upload.operation, 0
        assert upload.space_free is not None
        for chunk, plain in enumerate(source.chunks(self._chunk_size, operation.is_over)):
            operation.wait_for(lambda: len(upload.held) < STREAM_QUEUE, upload.space_free)
            if operation.stop.is_set():
                return
            size += len(plain)
            self._add_chunk(upload, chunk, plain)
        if operation.stop.is_set():  # then this is not the stream's end
            return
        upload.size = size
        operation.deliver()
        if upload.read_over():
            self.reads_done(upload)

    def _add_chunk(self, upload: Upload, chunk: int, plain: bytes) -> None:
        with upload.lock:
            upload.origins.append(Origin.SENT)
            upload.held[chunk] = plain
        fingerprint = self._committer.pads.sealer.fingerprint(plain) if upload.known(chunk) else b""
        full = len(plain) == self._chunk_size
        changed = compare(upload, chunk, fingerprint, len(plain)) if fingerprint else full
        if changed:
            self.found_changed(upload, [chunk])
        elif full:
            with upload.lock:
                del upload.held[chunk]

    # -- feeding

    def _feed(self, operation: Operation) -> None:
        """Queue the operation's next units, few enough that other operations get their turn."""
        units = []
        with self._lock:
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
                self._supply.queue(unit)
            else:
                self._pipeline.upload.put(unit)

    def _next_unit(self, upload: Upload) -> ChunkUnit | ScanUnit | None:
        """Comparing and sending take turns, so the network is busy while a large source is compared."""
        if upload.scans and (upload.operation.queued % 2 == 0 or not upload.sends):
            chunks = [upload.scans.popleft() for _ in range(min(SCAN_CHUNKS, len(upload.scans)))]
            return ScanUnit(self, self._committer, upload, chunks)
        if upload.sends:
            return ChunkUnit(self, self._committer, upload, upload.sends.popleft())
        return None

    # -- what units say

    def unit_over(self, operation: Operation) -> None:
        """The next windowed unit may be queued."""
        with self._lock:
            operation.queued -= 1
        self._feed(operation)

    def reads_done(self, upload: Upload) -> None:
        """Every chunk before the tail was read: remainder and manifest may go. Their turn comes later, and the source is not
        kept open until then: there may be thousands."""
        if upload.source is not None:
            upload.source.close()
        if self._tail(upload):
            self.shared.submit([upload])

    def _first_tail(self, upload: Upload) -> bool:
        """As ``_tail``, for an upload that has nothing to read before; a source that fails already then may be skipped too."""
        try:
            return self._tail(upload)
        except AnthillError as error:
            self.source_failed(upload, error)
            return False

    def _tail(self, upload: Upload) -> bool:
        """Whether remainder and manifest may go, to where they are placed; False when nothing has to be sent, or more has to
        be read before."""
        if upload.same_as_old():
            assert upload.source is not None
            upload.source.check_unchanged()
            upload.finish(unchanged=True)
            return False
        if upload.placement is None:
            again = self._planner.to_seal_anew(upload)
            full = sum(upload.chunk_length(chunk) == self._chunk_size for chunk in again)
            if full:
                self._send_more(upload, full, lambda: upload.reseal(again))
                return False
            upload.reseal(again)
            if self._planner.rest_goes_alone(upload):
                self._send_more(upload, 1, upload.send_rest_alone)
                return False
            self._planner.place(upload, upload.spans())
        return True

    def found_changed(self, upload: Upload, chunks: list[int]) -> None:
        """These full chunks must be sent."""

        def add() -> None:
            with upload.lock:
                for chunk in chunks:
                    upload.add_send(chunk, read=True)

        if chunks:
            self._send_more(upload, len(chunks), add)

    def _send_more(self, upload: Upload, count: int, add: Callable[[], object]) -> None:
        """Ask for pads, and only then ``add`` what takes them: another thread may queue that at once, and a pad that is
        taken before it is asked for makes the next reservation one too many."""
        upload.operation.expect_pads(count)
        self._supply.want(upload.operation, count)
        add()
        with self._lock:
            upload.operation.backlog.append(upload)
        self._feed(upload.operation)

    def source_failed(self, upload: Upload, error: BaseException) -> None:
        """The source of one upload failed: that upload is skipped when its operation goes on without, else all stop."""
        operation = upload.operation
        if operation.skip_source is None or not isinstance(error, SOURCE_ERRORS) or self._committer.journal.failure is not None:
            operation.fail(describe_failure(error, step="read the source", key=upload.key))
            return
        with self._lock:
            told, upload.dropped = upload.dropped, True
            self._supply.unwant(operation, len(upload.sends))
            upload.sends.clear()
            upload.scans.clear()
        if not told:
            self._tell(operation.skip_source, upload, error)

    def _tell(self, skip_source: SkipSource, upload: Upload, error: AnthillError) -> None:
        """What the caller's callback raises stops the operation, and goes no further: a worker has no caller."""
        try:
            skip_source(upload.key, error)
        except BaseException as raised:  # noqa: BLE001 - the operation carries it to its caller
            upload.operation.fail(raised)
