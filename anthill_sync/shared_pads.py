"""Shared pads: blocks and manifests that wait for one, and the upload that takes everything queued so far.

Small puts from many threads share images this way: while an image of a pad is on its way, what comes for the pad
collects, and the next image takes it all. It waits a moment for those who were just answered, when they come again at once:
without, half of the threads would always wait while the other half is served. And the pad that comes after this one is
reserved while this one's last image is on its way: without, all of them would wait for that every few images.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from .committer import Committer
from .composing import Batch, Composer, SourceFailed, operation_of
from .image import Table
from .networks.base import calling
from .operation import Operation, describe_failure, joint_call
from .pads import StoredImage
from .pipeline import Pipeline
from .space import Space
from .uploads import Upload, finish

PATIENCE = 0.2  # of the time that a pad's image took, at most, is waited for more to come for the next one
_SLOW = 0.02  # seconds; an image that takes less is sent at once
_STEP = 0.003  # seconds in which something has to come, or nothing more is waited for


class SpaceUnit:
    """The next image of one shared pad."""

    def __init__(self, shared: SharedPads, space: Space, operation: Operation) -> None:
        self._shared, self.space, self.operation = shared, space, operation

    def run(self) -> None:
        self._shared.upload(self)


class _Served(NamedTuple):
    """An image that took its time."""

    space: Space | None = None
    operations: int = 0  # how many it served, and how many waited when it was there: all of them belong into the next one
    ends: float = 0.0  # until when its next one waits for them, on the monotonic clock


def pause(seconds: float) -> None:
    """Let others run."""
    time.sleep(seconds)


class SharedPads:
    """Queues of all shared pads, guarded by the memory map's lock."""

    def __init__(self, committer: Committer, pipeline: Pipeline, source_failed: SourceFailed, planned: Callable[[], int]) -> None:
        self._committer, self._planned = committer, planned
        self._supply = committer.supply
        self._pipeline = pipeline
        self._composer = Composer(committer, source_failed)
        self._uploads: dict[Space, list[Upload]] = {}  # what waits for each pad's next image
        self._rewriters: dict[Space, list[Operation]] = {}
        self._served = _Served()  # the last image that served several operations on a slow network
        self._wanted: dict[Space, Operation] = {}  # planned spaces whose pad is part of an operation's demand

    def reset(self) -> None:
        """Forget every queue: nothing is running."""
        with self._supply.lock:
            self._uploads.clear()
            self._rewriters.clear()
            self._wanted.clear()

    # -- queueing

    def claim(self, space: Space, operation: Operation) -> bool:
        """True when ``operation`` must demand a pad for this planned space: nobody else has."""
        with self._supply.lock:
            if space.number is not None or space in self._wanted:
                return False
            self._wanted[space] = operation
            return True

    def submit(self, uploads: list[Upload]) -> None:
        """Put the remainder and manifest of each into the next image of its pad; all are queued before the first begins."""
        spaces: dict[Space, Operation] = {}
        with self._supply.lock:
            for operation, count in Counter(map(operation_of, uploads)).items():
                operation.enter(count)
            for upload in uploads:
                space = upload.placed.space
                spaces[space] = upload.operation
                self._uploads.setdefault(space, []).append(upload)
        for space, operation in spaces.items():
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
        if wants and not self._demand(space, operation):
            return
        unit = SpaceUnit(self, space, self._wanted.get(space, operation))
        if space.number is None:
            self._supply.queue(unit)
        else:
            operation.upload_starting()
            self._pipeline.upload.put(unit)

    def _demand(self, space: Space, operation: Operation) -> bool:
        """Demand the pad of a planned space; False: ``operation`` may not, and fails. It may have inherited the space from
        another put that failed, on whose thread this runs; the next that waits for the space tries then."""
        try:
            self._supply.want(operation, 1)
            return True
        except BaseException as error:  # noqa: BLE001 - the operation carries it to its caller
            operation.fail(error)
        with self._supply.lock:
            space.queued = False
            self._wanted.pop(space, None)
            others = [each.operation for each in self._uploads.get(space, []) if not each.operation.stop.is_set()]
        if others:
            self._queue(space, others[0])
        return False

    def withdraw(self, operation: Operation, waiting: list[object]) -> None:
        """The operation has failed: take its uploads out; ``waiting`` are its units that had no pad yet."""
        left: list[Upload] = []
        with self._supply.lock:
            for space, uploads in list(self._uploads.items()):
                mine = [upload for upload in uploads if upload.operation is operation]
                self._uploads[space] = [upload for upload in uploads if upload.operation is not operation]
                for upload in mine:
                    self._supply.map.release(upload.placed)
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
            others = self._uploads.get(space)
            self._supply.map.rest(space)
            if not others:
                self._uploads.pop(space, None)
        if others:
            self._queue(space, others[0].operation)

    # -- one image

    def upload(self, unit: SpaceUnit) -> None:
        """Compose, send and commit an image with everything that is queued for the pad now."""
        if unit.space.blocked:
            self._refuse(unit.space)
            return
        self._gather(unit)
        batch = self._start(unit)
        if batch is None:
            return
        began = time.monotonic()
        try:
            with calling(joint_call(batch.operations())):
                self._send(batch)
        except BaseException as error:  # noqa: BLE001 - the operations carry it to their callers
            self._fail(batch, error)
        finally:
            self._end(batch, time.monotonic() - began)
            for operation, count in batch.pieces.items():
                operation.work_ends()
                operation.leave(count)

    def _gather(self, unit: SpaceUnit) -> None:
        """Wait while more comes for this image, where several were served a moment ago by the one before, of this pad or of
        one that takes no more; not once as many are there as were served or waited then."""
        served, before = self._served, -1
        follows = unit.space is served.space or unit.space.number is None
        while follows and time.monotonic() < served.ends and not unit.operation.stop.is_set():
            with self._supply.lock:
                count = len({upload.operation for upload in self._uploads.get(unit.space, [])})
            if count == before or count >= served.operations:
                return
            before = count
            pause(_STEP)

    def _start(self, unit: SpaceUnit) -> Batch | None:
        space, supply = unit.space, self._supply
        with supply.lock:
            if not self._uploads.get(space) and not self._rewriters.get(space):
                self._uploads.pop(space, None)
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
            uploads, rewriters = self._uploads.pop(space, []), self._rewriters.pop(space, [])
            batch = Batch(space, uploads, rewriters, live, set(space.live_manifests), space.end)
            for operation in batch.operations():
                operation.work_begins()
        batch.counter = self._committer.counter(batch.pad)
        return batch

    def _end(self, batch: Batch, took: float) -> None:
        """Let go of the pad, whose image ``took`` so many seconds; what came for it meanwhile goes into its next image."""
        sealed = set(batch.sealed)
        with self._supply.lock:
            for upload in batch.uploads:
                if upload not in sealed:
                    self._supply.map.release(upload.placed)
            waiting = [each.operation for each in self._uploads.get(batch.space, [])] + self._rewriters.get(batch.space, [])
            if took > _SLOW and len(batch.operations()) > 1:
                expected = len({*batch.operations(), *waiting})
                self._served = _Served(batch.space, expected, time.monotonic() + took * PATIENCE)
            if waiting and not batch.space.blocked:
                batch.space.busy = False
                self._queue(batch.space, waiting[0])  # under the lock: once it rests it may retire, and its pad be taken
            else:
                self._supply.map.rest(batch.space)
        if waiting and batch.space.blocked:
            self._refuse(batch.space)
        self._supply.changed()

    def _refuse(self, space: Space) -> None:
        """The pad is in doubt: what waits for it cannot be written in this run."""
        assert space.number is not None
        with self._supply.lock:
            uploads, rewriters = self._uploads.pop(space, []), self._rewriters.pop(space, [])
            for upload in uploads:
                self._supply.map.release(upload.placed)
            self._supply.map.rest(space)
        pad = self._committer.pads.name(space.number).address
        error = describe_failure(self._supply.doubts[space.number], step="write", pad=pad)
        for operation in [*map(operation_of, uploads), *rewriters]:
            operation.fail(error)
            operation.leave()

    def _fail(self, batch: Batch, error: BaseException) -> None:
        batch.sealed.clear()
        for operation in batch.operations():
            operation.fail(self._described(batch, error))

    def _described(self, batch: Batch, error: BaseException) -> BaseException:
        keys = {upload.key for upload in batch.uploads}
        key = keys.pop() if len(keys) == 1 else None
        return describe_failure(error, step="write", key=key, pad=self._committer.pads.name(batch.pad).address)

    def _send(self, batch: Batch) -> None:
        buffer = self._composer.compose(batch)
        if not batch.sealed and all(operation.stop.is_set() for operation in batch.rewriters):
            return
        self._look_ahead(batch)
        self._look_back(batch)
        self._committer.announce(batch.pad)
        data = self._composer.finish(batch, buffer)
        digest = self._committer.send(batch.pad, data, batch.counter + 1, compared=batch.compared)
        self._transferred(batch, len(data))
        self._commit(batch, data, digest)

    def _look_ahead(self, batch: Batch) -> None:
        """Reserve the pad that those who share this one will need next, meanwhile. In the name of one whose caller counts no
        pads; that put waits for it, so the lock is not given back before."""
        willing = [operation for operation in batch.operations() if operation.reserves_ahead and not operation.stop.is_set()]
        if willing and self._served.space is not None and len(batch.operations()) > 1:
            with self._supply.lock:
                closes = batch.space.closes(self._supply.map.pad_size, self._supply.map.rewrite_limit)
            if closes:
                self._supply.want_spare(willing[0])

    def _look_back(self, batch: Batch) -> None:
        """Before values are replaced whose blocks lie elsewhere than the manifest that names them. A copy of this home that
        gave such a value another name has rewritten only the manifest's pad: ``AnotherWriter``, and no block is freed."""
        replaced = [upload.replaces for upload in batch.sealed if upload.replaces is not None]
        for pad in sorted({value.manifest_pad for value in replaced if value.is_spread()} - {batch.pad}):
            self._committer.look(pad)

    def _transferred(self, batch: Batch, length: int) -> None:
        plain: Counter[Operation] = Counter()
        for upload in batch.sealed:
            if upload.tail_chunk is not None:
                plain[upload.operation] += upload.chunk_length(upload.tail_chunk)
        for operation in batch.operations():
            operation.transferred(plain[operation], length)

    # -- committing

    def _commit(self, batch: Batch, data: memoryview, digest: bytes) -> None:
        published = dict.fromkeys(upload for upload in batch.sealed if upload.remaining == 1)
        records = self._composer.records(batch, digest, published)
        self._committer.commit(batch.pad, records, lambda: self._placed(batch, data), again=self._comes_again(batch))
        for operation in batch.operations():
            operation.pad_committed()
        finish([upload for upload in batch.sealed if self._committed(upload, upload in published)])

    def _comes_again(self, batch: Batch) -> bool:
        """True for a pad with room for small values, while others hold the store's lock too: theirs come to it next."""
        return self._planned() > len(batch.uploads) and batch.end <= self._supply.map.rewrite_limit

    def _placed(self, batch: Batch, data: memoryview) -> None:
        placements = [upload.placed for upload in batch.sealed]
        slots = [placement.slot for placement in placements if placement.slot is not None]
        manifests = [placement.manifest for placement in placements if placement.manifest is not None]
        self._supply.map.commit(batch.space, slots, manifests)
        table = Table(self._committer.journal.index.run_id, batch.entries, batch.manifests)
        keep = self._supply.map.is_open(batch.space)
        self._committer.pads.remember(batch.pad, StoredImage(bytes(data), batch.counter + 1, table) if keep else None)

    def _committed(self, upload: Upload, published: bool) -> bool:
        """True for a value that is published now."""
        with upload.lock:
            upload.remaining -= 1
            last = upload.remaining == 0
        if last and not published:
            self._committer.record([upload.publish_record(upload.manifest_pad)])
        return last
