"""From extents to bytes: read and open blocks in the download pool, a bounded window ahead, in order."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import TypeVar

from .networks.base import Call, calling
from .pads import Pads
from .pipeline import Pipeline
from .settings import DOWNLOAD_WINDOW
from .values import Block, Value

T = TypeVar("T")
Part = tuple[int, int, int]  # chunk, first byte within it, stop


def parts_of(value: Value, chunk_size: int, offset: int, length: int) -> list[Part]:
    """The parts of chunks that make up ``length`` bytes from ``offset``."""
    stop = offset + length
    if not length:
        return []
    chunks = range(offset // chunk_size, -(-stop // chunk_size))
    return [(n, max(0, offset - n * chunk_size), min(chunk_size, stop - n * chunk_size)) for n in chunks]


class Downloader:
    """Reads the blocks of one value at a time for one caller. Memory: ``DOWNLOAD_WINDOW`` chunks, sealed and plain."""

    def __init__(self, pads: Pads, pipeline: Pipeline) -> None:
        self._pads = pads
        self._pipeline = pipeline

    def open_block(self, chunk: int, block: Block) -> bytes:
        """One chunk's plaintext; ``BlockDamaged`` or ``PadNotFound`` when it is not what was written."""
        return self._pads.sealer.open_block(block.data_id, chunk, self._pads.read_extent(block.extent))

    def plain(self, value: Value, parts: list[Part]) -> Iterator[memoryview]:
        """The parts in order. One alone is read on the calling thread: a pool would only add its delay."""
        yield from self.each(value, parts, lambda part, plain: plain)

    def each(self, value: Value, parts: list[Part], use: Callable[[Part, memoryview], T]) -> Iterator[T]:
        """``use(part, its bytes)`` for every part, in the download pool; the results in order."""
        if len(parts) == 1:
            yield self._one(value, parts[0], use, None)
            return
        stop = threading.Event()
        call = Call(stop, lambda *_: None)
        running: deque[Future[T]] = deque()
        try:
            for part in parts:
                if len(running) == DOWNLOAD_WINDOW:
                    yield running.popleft().result()
                running.append(self._submit(value, part, use, call))
            while running:
                yield running.popleft().result()
        finally:
            stop.set()
            for future in running:
                future.cancel()
            for future in running:
                if not future.cancelled():
                    future.exception()

    def _submit(self, value: Value, part: Part, use: Callable[[Part, memoryview], T], call: Call) -> Future[T]:
        return self._pipeline.download(lambda: self._one(value, part, use, call))

    def _one(self, value: Value, part: Part, use: Callable[[Part, memoryview], T], call: Call | None) -> T:
        chunk, first, stop = part
        block = next(value.range(chunk, chunk + 1))[1]
        if call is None:
            return use(part, memoryview(self.open_block(chunk, block))[first:stop])
        with calling(call):
            return use(part, memoryview(self.open_block(chunk, block))[first:stop])
