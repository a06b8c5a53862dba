"""``Upload``: one value on its way to its pads. State and decisions; no I/O but the journal record of its begin."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections import deque
from collections.abc import Container, Iterable, Mapping, Sequence
from enum import IntEnum
from typing import Any

from .image import SPAN_SIZE, Manifest, RawManifest, encode_attributes, pack_manifest, sized_manifest
from .index import Record
from .memory_map import Placement
from .operation import Completed, Operation
from .packing import encode
from .sources import Source
from .values import NO_FINGERPRINT, Block, Pending, Range, Span, Value

Known = tuple["Origin", bytes]  # where an equal chunk may lie already, and its fingerprint


LATEST = 2**63 - 1  # nanoseconds since 1970 that a manifest can hold: the year 2262


def wall_time() -> int:
    """Nanoseconds since 1970, for people to look at: nothing is decided by it. A clock beyond all calendars is cut."""
    return max(-LATEST, min(LATEST, time.time_ns()))


_NONE: deque[int] = deque()  # stays empty: most values of a large put are small, and two queues each take a kilobyte


class Origin(IntEnum):
    """Where a chunk of the new value comes from."""

    SENT = 0  # sealed by this attempt
    CARRIED = 1  # stays where the published value has it
    KEPT = 2  # committed by an earlier attempt of the same put


class Upload:
    """One value of one operation. ``lock`` guards everything that changes here; it is taken before the journal's
    and never together with the memory map's. Of a small value there may be tens of thousands at once: what it does not
    need is made when something does."""

    space_free: threading.Condition | None = None  # a chunk of the stream was sealed
    source: Source | None = None
    modified = 0
    sends = scans = _NONE  # full chunks to send, and chunks to compare, not queued yet
    begun = False  # the pending entry names this attempt
    dropped = False  # skipped: its source failed and the others go on
    placement: Placement | None = None  # of remainder and manifest
    rest_alone = False  # the remainder is too large to share a pad with the manifest, and goes like a full chunk
    tail_chunk: int | None = None  # the remainder, when it is sent
    fingerprint = b""  # of the remainder, once it is sealed
    inline: Sequence[Any] = ()  # the remainder's block, for a put of one image
    done = False
    unchanged = False  # identical to the published value: nothing was sent

    def __init__(
        self,
        operation: Operation,
        key: str,
        data_id: bytes,
        *,
        version: int,
        size: int | None,
        chunk_size: int,
        attributes: Mapping[str, Any] | None,
        old: Value | None,
        pending: Pending | None,
    ) -> None:
        self.operation, self.key, self.data_id, self.version = operation, key, data_id, version
        self.size, self.chunk_size, self.attributes = size, chunk_size, attributes or None
        self.old, self.pending = old, pending
        self.replaces = old  # the value whose blocks its publication frees, but for those carried over
        self.name, self.packed_attributes = key.encode("utf-8"), encode_attributes(attributes)  # as the manifest has them
        self.lock = threading.Lock()
        self.origins = bytearray(-(-(size or 0) // chunk_size))  # one Origin per chunk
        self.held: dict[int, bytes] = {}  # chunks of a stream, read ahead
        self.unread = 1  # chunks still to be read before the tail, +1 until all are known
        self.remaining = 1  # images still to be committed, the tail's last
        self.resealed: dict[int, Block] = {}  # carried-over full chunks that are sealed anew for a shorter manifest
        self.streamed = size is None
        if self.streamed:
            self.space_free = threading.Condition(self.lock)

    @property
    def stopped(self) -> bool:
        return self.dropped or self.operation.stop.is_set()

    def known(self, chunk: int) -> list[Known]:
        """Where this chunk might lie already, an earlier attempt's block first."""
        pending = self.pending.blocks.get(chunk) if self.pending else None
        found = [(Origin.KEPT, pending.fingerprint)] if pending else []
        if self.old is not None and chunk < self.old.chunks:
            found += [(Origin.CARRIED, block.fingerprint) for _, block in self.old.range(chunk, chunk + 1)]
        return [(origin, fingerprint) for origin, fingerprint in found if fingerprint != NO_FINGERPRINT]

    def plan(self, total: int) -> None:
        """Sort the chunks of a source of known size into those to compare and those to send."""
        full = total if self.size is None else self.size // self.chunk_size
        if self.old is None and self.pending is None:
            self._take(deque(range(full)) if full else _NONE, _NONE)
        else:
            known = [bool(self.known(chunk)) for chunk in range(total)]
            scans = deque(chunk for chunk in range(total) if known[chunk])
            self._take(deque(chunk for chunk in range(full) if not known[chunk]), scans)

    def _take(self, sends: deque[int], scans: deque[int]) -> None:
        """Plan to send and to compare these chunks."""
        self.sends, self.scans = sends, scans
        self.unread += len(sends) + len(scans)
        self.remaining += len(sends)

    def add_send(self, chunk: int, *, read: bool = False) -> None:
        """One more chunk must be sent to an empty pad; ``read``: it still has to be read for that. Under ``lock``."""
        self.origins[chunk] = Origin.SENT
        if self.sends is _NONE:
            self.sends = deque()
        self.sends.append(chunk)
        self.unread += int(read)
        self.remaining += 1

    def send_rest_alone(self) -> None:
        """The remainder takes an empty pad of its own."""
        with self.lock:
            self.rest_alone = True
            self.add_send(len(self.origins) - 1, read=True)

    def chunk_length(self, chunk: int) -> int:
        """Plaintext bytes of a chunk."""
        if self.size is None:
            return self.chunk_size  # of a stream's chunks only full ones are asked for before its end
        return min(self.chunk_size, self.size - chunk * self.chunk_size)

    @property
    def placed(self) -> Placement:
        """Where remainder and manifest go, once that is decided."""
        assert self.placement is not None
        return self.placement

    @property
    def manifest_pad(self) -> int:
        """The pad of its committed manifest."""
        number = self.placed.space.number
        assert number is not None
        return number

    def finish(self, *, unchanged: bool = False) -> None:
        """The value is published, or was already the same."""
        finish([self], unchanged=unchanged)

    def reseal(self, chunks: Iterable[int]) -> int:
        """Send these carried-over chunks too; how many of them are full ones, which need a pad each."""
        full = 0
        with self.lock:
            for chunk in chunks:
                block = self._block(chunk, self.origins[chunk])
                self.origins[chunk] = Origin.SENT
                self.operation.resent(self.chunk_length(chunk))
                if self.chunk_length(chunk) == self.chunk_size:
                    self.resealed[chunk] = block
                    self.add_send(chunk, read=True)
                    full += 1
        return full

    def let_go(self, chunk: int) -> None:
        """The chunk is sealed: a stream may be read on."""
        if self.space_free is not None:
            with self.space_free:
                self.held.pop(chunk, None)
                self.space_free.notify_all()

    def read_over(self, count: int = 1) -> bool:
        """``count`` chunks were read; True when that was the last one before the tail."""
        with self.lock:
            self.unread -= count
            return self.unread == 0

    def spans(self) -> list[Span]:
        """The spans of the new value's manifest."""
        if not any(self.origins):
            return [Span(self.data_id, 0, len(self.origins))] if self.origins else []
        spans: list[Span] = []
        for chunk, origin in enumerate(self.origins):
            data_id = self._data_id(chunk, origin)
            if spans and spans[-1].data_id == data_id:
                spans[-1] = spans[-1]._replace(chunks=spans[-1].chunks + 1)
            else:
                spans.append(Span(data_id, chunk, 1))
        return spans

    def _data_id(self, chunk: int, origin: int) -> bytes:
        return self.data_id if origin == Origin.SENT else self._block(chunk, origin).data_id

    def _block(self, chunk: int, origin: int) -> Block:
        """The stored block of a chunk that is carried over."""
        if origin == Origin.KEPT and self.pending is not None:
            block = self.pending.blocks.get(chunk)
        else:
            assert self.old is not None
            block = next(self.old.range(chunk, chunk + 1))[1]
        assert block is not None
        return block

    def same_as_old(self) -> bool:
        """True when the published value has exactly these bytes and attributes."""
        old = self.old
        if old is None or self.pending is not None or (old.size, old.attributes or None) != (self.size, self.attributes):
            return False
        return len(self.origins) == old.chunks and self.origins.count(Origin.CARRIED) == old.chunks

    def too_many_spans(self, spans: list[Span], limit: int) -> list[int]:
        """Carried-over chunks to seal anew so that the manifest stays below ``limit`` bytes: those of the shortest
        spans first, down to three quarters of the limit, so that not every update pays for it."""
        allowed = (limit - self.manifest_size(0)) // SPAN_SIZE
        if len(spans) <= allowed:
            return []
        short = heapq.nsmallest(max(1, len(spans) - allowed * 3 // 4), self._carried(spans), key=lambda span: span.chunks)
        return [chunk for span in short for chunk in range(span.first, span.first + span.chunks)]

    def _carried(self, spans: Iterable[Span]) -> Iterable[Span]:
        return (span for span in spans if span.data_id != self.data_id)

    def carried(self) -> list[Range]:
        """Ranges of chunks that stay where the published value has them."""
        found: list[Range] = []
        if self.old is None or Origin.CARRIED not in self.origins:
            return found
        for origin, run in itertools.groupby(enumerate(self.origins), key=lambda pair: pair[1]):
            if origin == Origin.CARRIED:
                chunks = [chunk for chunk, _ in run]
                found.append((chunks[0], len(chunks)))
        return found

    def uses_pending(self) -> bool:
        """True when the pending entry holds blocks of the new value."""
        return self.begun or (self.pending is not None and Origin.KEPT in self.origins)

    def manifest_size(self, spans: int) -> int:
        """Table bytes of the manifest with this many spans."""
        return sized_manifest(self.name, self.packed_attributes, spans)

    def manifest(self) -> RawManifest:
        """The manifest of the new value, which is ``modified`` now."""
        self.modified = wall_time()
        manifest = Manifest(self.key, self.stored_size, self.version, self.modified, self.attributes, self.spans())
        return RawManifest(self.key, self.version, pack_manifest(manifest, self.name, self.packed_attributes))

    @property
    def stored_size(self) -> int:
        """Plaintext bytes of the new value."""
        assert self.size is not None
        return self.size

    # -- records

    def begin_record(self) -> Record:
        """The pending entry, or one more attempt of it."""
        total = None if self.size is None else len(self.origins)
        origin = self.source.origin if self.source else None
        return ["begin", self.key, encode(self.data_id), total, origin, wall_time(), self.attributes]

    def publish_record(self, pad: int) -> Record:
        """The one record that makes the new value the current one; ``pad`` holds its manifest."""
        inline = None if self.uses_pending() else self.inline
        head = ["publish", self.key, self.size, self.version, self.modified, self.attributes, pad]
        return [*head, inline, self.carried(), len(self.origins)]


def finish(uploads: Iterable[Upload], *, unchanged: bool = False) -> None:
    """These values are published, or were already the same; each operation hears of all of its own at once."""
    values: dict[Operation, list[Completed]] = {}
    for upload in uploads:
        upload.done, upload.unchanged = True, unchanged
        if upload.source is not None:
            upload.source.close()
        assert upload.size is not None
        values.setdefault(upload.operation, []).append((upload.key, upload.size, len(upload.origins)))
    for operation, completed in values.items():
        operation.completed(completed)


class Move(Upload):
    """A published value whose chunks on the pads ``away`` are sealed anew and go elsewhere; all others stay."""

    def __init__(
        self, operation: Operation, key: str, data_id: bytes, value: Value, *, version: int, chunk_size: int, away: Container[int]
    ) -> None:
        super().__init__(
            operation,
            key,
            data_id,
            version=version,
            size=value.size,
            chunk_size=chunk_size,
            attributes=value.attributes,
            old=value,
            pending=None,
        )
        self._value, self._away = value, away

    def plan(self, total: int) -> None:
        moving = [chunk for chunk, block in self._value.range(0, total) if block.pad in self._away]
        self.origins[:] = bytes([Origin.CARRIED]) * len(self.origins)
        for chunk in moving:
            self.origins[chunk] = Origin.SENT
        self._take(deque(chunk for chunk in moving if self.chunk_length(chunk) == self.chunk_size), _NONE)

    def same_as_old(self) -> bool:
        """At least its manifest has to be written anew."""
        return False


class Rename(Upload):
    """A value that gets another name: a manifest without any block. ``rewrite`` are the pads of the old manifests."""

    def __init__(
        self, operation: Operation, old_key: str, key: str, value: Value, *, version: int, spans: list[Span], rewrite: list[int]
    ) -> None:
        super().__init__(
            operation,
            key,
            b"",
            version=version,
            size=0,
            chunk_size=1,
            attributes=value.attributes,
            old=None,
            pending=None,
        )
        self.old_key, self._value, self._spans, self._rewrite = old_key, value, spans, rewrite

    def spans(self) -> list[Span]:
        """Those of the value."""
        return self._spans

    @property
    def stored_size(self) -> int:
        """That of the value; nothing of it is sent."""
        return self._value.size

    def publish_record(self, pad: int) -> Record:
        return ["rename", self.old_key, self.key, self.version, self.modified, pad, self._rewrite]
