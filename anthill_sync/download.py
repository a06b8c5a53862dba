"""From extents to bytes: read and open blocks in the download pool, a bounded window ahead, in order."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import TypeVar

from .errors import BlockDamaged
from .networks.base import Buffer, Call, calling
from .pads import Pads
from .pipeline import Pipeline
from .sealing import OVERHEAD
from .settings import DOWNLOAD_WINDOW, READ_AHEAD
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


class Buffers:
    """Plaintext buffers used again and again: fresh ones for every chunk would leave the heap twice as large."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._free: queue.SimpleQueue[memoryview] = queue.SimpleQueue()

    def take(self) -> memoryview:
        """A buffer of one chunk."""
        try:
            return self._free.get_nowait()
        except queue.Empty:
            return memoryview(bytearray(self._size))

    def give_back(self, buffer: memoryview) -> None:
        """Nobody looks at it any more; more than a window of them are not kept."""
        if self._free.qsize() < DOWNLOAD_WINDOW:
            self._free.put(buffer)


class Downloader:
    """Reads the blocks of one value at a time for one caller. Memory: ``DOWNLOAD_WINDOW`` chunks, sealed and plain."""

    def __init__(self, pads: Pads, pipeline: Pipeline, chunk_size: int) -> None:
        self._pads = pads
        self._pipeline = pipeline
        self._chunk_size = chunk_size
        self._buffers = Buffers(chunk_size)

    def open_block(self, chunk: int, block: Block) -> bytes:
        """One chunk's plaintext; ``BlockDamaged`` or ``PadNotFound`` when it is not what was written."""
        sealer = self._pads.sealer
        return self._pads.open_extent(block.extent, lambda sealed: sealer.open_block(block.data_id, chunk, sealed))

    def plain(self, value: Value, parts: list[Part]) -> Iterator[memoryview]:
        """The parts in order, each valid until the next is asked for. One alone is read on the calling thread: a pool
        would only add its delay."""
        if len(parts) == 1:
            chunk, first, stop = parts[0]
            yield memoryview(self.open_block(chunk, self._block(value, chunk)))[first:stop]
            return
        for buffer, view in self._pipeline.ahead(parts, lambda part: self._open(value, part)):
            yield view
            self._buffers.give_back(buffer)

    def each(self, value: Value, parts: list[Part], use: Callable[[Part, memoryview], T]) -> Iterator[T]:
        """``use(part, its bytes)`` for every part, in the download pool; the results in order."""

        def run(part: Part) -> T:
            buffer, view = self._open(value, part)
            try:
                return use(part, view)
            finally:
                self._buffers.give_back(buffer)

        return self._pipeline.ahead(parts, run)

    def begin(self, value: Value, chunk: int, call: Call) -> Future[bytes]:
        """Begin to read one chunk in the download pool, on behalf of ``call``."""

        def run() -> bytes:
            with calling(call):
                return self.open_block(chunk, self._block(value, chunk))

        return self._pipeline.download(run)

    def _open(self, value: Value, part: Part) -> tuple[memoryview, memoryview]:
        chunk, first, stop = part
        block = self._block(value, chunk)
        sealer = self._pads.sealer

        def opens(sealed: Buffer) -> memoryview:
            buffer = self._buffers.take()  # once there is something to open
            sealer.open_block_into(block.data_id, chunk, sealed, buffer)
            return buffer

        buffer = self._pads.open_extent(block.extent, opens)
        return buffer, buffer[first:stop]

    def _block(self, value: Value, chunk: int) -> Block:
        """The block of a chunk, of just the length that size and place in the value give: an index or a chunk size that
        does not fit must not shift bytes."""
        length = min(self._chunk_size, value.size - chunk * self._chunk_size) + OVERHEAD
        block = next(value.range(chunk, chunk + 1))[1] if chunk < value.chunks else None
        if block is None or block.length != length:
            raise BlockDamaged(f"chunk {chunk} of a value of {value.size} bytes is not where chunks of this store lie")
        return block


class ReadAhead:
    """Chunks of one value for one reader: the one it is in, and ``READ_AHEAD`` more while it reads in order."""

    def __init__(self, downloader: Downloader, value: Value) -> None:
        self._downloader, self._value = downloader, value
        self._call = Call(threading.Event(), lambda *_: None)
        self._chunks: dict[int, Future[bytes]] = {}
        self._last: int | None = None

    def chunk(self, number: int) -> bytes:
        """Its plaintext. A failure is not remembered: asking again reads again."""
        if number != self._last:
            in_order = self._last is not None and number == self._last + 1
            self._want(range(number, min(number + 1 + in_order * READ_AHEAD, self._value.chunks)))
            self._last = number
        try:
            return self._chunks[number].result()
        except BaseException:
            self._forget()
            raise

    def close(self) -> None:
        """Begin nothing more; what is running ends by itself, and its retries end at once."""
        self._call.stop.set()
        self._forget()

    def _want(self, wanted: range) -> None:
        for number in [number for number in self._chunks if number not in wanted]:
            self._chunks.pop(number).cancel()
        for number in wanted:
            if number not in self._chunks:
                self._chunks[number] = self._downloader.begin(self._value, number, self._call)

    def _forget(self) -> None:
        self._want(range(0))
        self._last = None
