"""``MemoryAllocator``: owns pads, free blocks and writing. Its state is the memory map, never stale: loaded from the
index whenever another run may have written, and changed only after the record that says so is durable.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from .committer import Committer
from .events import OnEvent
from .index import MasterIndex, Record
from .journal import Journal
from .memory_map import MemoryMap
from .operation import Operation
from .pads import Pads
from .pipeline import Pipeline
from .planning import Planner
from .rewriting import Rewriter
from .settings import CHUNK_MARGIN, Settings
from .sources import Source
from .supply import PadSupply
from .takeover import map_of, only_dead, resolve, run_record
from .uploads import Upload
from .writing import Writer

if TYPE_CHECKING:
    from .reports import ByteSummary, ExtentRange, PadSummary


class MemoryAllocator:
    """``lock`` guards the memory map and everything that decides about pads; plans are made under it, I/O is not.

    ``planner`` decides, ``writer`` reserves and uploads, ``rewriter`` takes dead things off the network.
    """

    def __init__(self, journal: Journal, pads: Pads, pipeline: Pipeline, settings: Settings, pad_size: int) -> None:
        self.lock = threading.RLock()
        self.pad_size = pad_size
        self.chunk_size = pad_size - CHUNK_MARGIN
        self.supply = PadSupply(self.lock, journal, pads, pipeline)
        self.committer = Committer(self.supply, journal, pads, pad_size)
        self.planner = Planner(self.supply, journal, pad_size, self.chunk_size)
        self.writer = Writer(self.planner, self.committer, pipeline, self.chunk_size)
        self.rewriter = Rewriter(self.committer, self.writer, pipeline)
        self._journal, self._pads, self._pipeline = journal, pads, pipeline
        self._rewrite_limit = settings.rewrite_limit
        self._run_id = b""
        self._sequence = -1  # of the index that the map was loaded from or follows

    # -- runs

    def begin_run(self) -> None:
        """The lock was just taken. Unless nothing happened since this process gave it back: load the map, resolve what
        an earlier run was writing, and become a new run, durably, before anything is sent."""
        index = self._journal.index
        self.committer.reset()  # also when nothing changed: giving the lock back took all pads out of ``writing``
        if (index.run_id, index.sequence) == (self._run_id, self._sequence) and not index.writing:
            return
        self._pads.forget_all()
        records: list[Record] = []
        if index.writing:
            records = self._resolve(index)
        self._journal.append([*records, ["idle", []], run_record(index)])
        self.supply.reset(self._map(), index.unreserved())
        self.planner.new_run()
        self.writer.new_run()
        self.rewriter.new_run()
        self._run_id = index.run_id

    def _resolve(self, index: MasterIndex) -> list[Record]:
        """What became of the images that an earlier run was sending."""
        memory_map = self._map()
        adopted = resolve(index, memory_map, self._pads, self._pipeline.download)
        dead = [] if self._pads.network.properties.write_is_paid else only_dead(memory_map, adopted)
        return [*adopted, ["remove", [], dead]] if dead else adopted

    def end_run(self) -> None:
        """Nothing runs any more, or what runs will not end: give the lock back."""
        if self.writer.unfinished:
            self._journal.give_up()
            return
        self._journal.release(self.committer.in_doubt())
        self._sequence = self._journal.index.sequence
        if self.writer.interrupted:
            self._run_id = b""  # what was half queued is forgotten: the next mutation begins a new run

    def load(self) -> None:
        """For questions without the lock: the map as the index has it now."""
        index = self._journal.index
        if index.sequence != self._sequence:
            self.supply.reset(self._map(), index.unreserved())
            self._sequence, self._run_id = index.sequence, b""

    def _map(self) -> MemoryMap:
        return map_of(self._journal.index, self.pad_size, self._rewrite_limit)

    # -- allocating and writing

    def check_allocation_possible(self, size: int) -> int | None:
        """None when a new value of ``size`` bytes fits into free space, else the pads to reserve for it. Changes
        nothing. A key's length is not known here: one of 64 bytes is assumed."""
        return self.planner.check_allocation_possible(size)

    def allocate(
        self, size: int | None, on_event: OnEvent | None = None, *, key: str, attributes: Mapping[str, Any] | None = None
    ) -> bytes:
        """Plan a value of ``size`` bytes (None: a stream), start the reservation pool and return the data id that
        ``write`` takes. The caller holds the store's lock."""
        operation = Operation(on_event)
        upload = self.planner.plan(operation, key, size, attributes)
        self.writer.start(operation, [upload])
        return upload.data_id

    def write(self, data_id: bytes, source: Source, on_event: OnEvent | None = None) -> None:
        """Seal and upload what ``allocate`` planned; starts at once, and ends when reservation and upload have.
        Events go to the callback that ``allocate`` was given, or to this one."""
        upload = self.planner.upload(data_id)
        if on_event is not None:
            upload.operation.listen(on_event)
        upload.source = source
        self.writer.write_all(upload.operation, [upload])

    def write_manifest(self, upload: Upload, spans: int) -> None:
        """Write the manifest of a value whose blocks stay where they are, and publish it: a rename."""
        self.planner.place_manifest(upload, spans)
        try:
            self.writer.run(upload.operation, lambda: self.writer.shared.submit([upload]))
        finally:
            self.planner.forget([upload])

    def free(self, records: list[Record]) -> None:
        """Make records durable that free blocks and manifests; only then are they free."""
        self.committer.record(records)

    # -- questions

    def get_storage_and_pad_summary(self) -> tuple[PadSummary, ByteSummary, bytes]:
        """Pads and bytes, used and free, and one byte per pad: 0 empty to 255 full."""
        from .usage import summarise  # here and below: most programs never ask

        with self.lock:
            stored = sum(value.size for value in list(self._journal.index.values.values()))
            return summarise(self.supply.map, stored)

    def free_space(self) -> tuple[int, int, int]:
        """Free pads, pads in all, and free bytes: what a put asks with, without a look at every value."""
        from .usage import summarise

        with self.lock:
            pads, size, _ = summarise(self.supply.map, 0)
        return pads.free, pads.total, size.free

    def extent_ranges(self) -> tuple[ExtentRange, ...]:
        """What every byte of every pad is used for, in order."""
        from .usage import extent_ranges

        with self.lock:
            pending = list(self._journal.index.pending_uploads.values())
            extents = [block.extent for each in pending for _, block in each.blocks.blocks()]
            return extent_ranges(self.supply.map, extents)

    def check(self, *, compare: bool = True) -> Iterator[tuple[int | None, str]]:
        """Prove that every byte of every pad is free or owned exactly once, and (``compare``, when nothing is on its
        way) that the map is what the index says; yields (pad, what is wrong)."""
        with self.lock:
            yield from self.supply.map.check()
            if compare:
                yield from self.supply.map.differences(self._map())
