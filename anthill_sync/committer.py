"""From a sealed image to a committed pad: announce, compare, send, record, release."""

from __future__ import annotations

import mmap
import threading
from collections.abc import Callable

from .errors import AnotherWriter, BlockDamaged, PadNotFound, RolledBack
from .index import Freed, Record
from .journal import Journal
from .memory_map import Kind
from .networks.base import Buffer, Image
from .packing import encode
from .pads import Pads
from .sealing import image_digest
from .settings import FRESH_WINDOW
from .supply import PadSupply
from .uploads import Upload


class Buffers(threading.local):
    """Two reused buffers per upload thread, mapped: a bytearray would touch all its pages when it is made."""

    def __init__(self, pad_size: int) -> None:
        self.plain = memoryview(mmap.mmap(-1, pad_size))
        self.image = memoryview(mmap.mmap(-1, pad_size))


class Committer:
    """The steps every image takes. ``_announce_lock`` guards ``_announced``: it is held while the ``writing`` record
    becomes durable, so nobody sends to a pad that the index does not name; the journal's locks come after it."""

    def __init__(self, supply: PadSupply, journal: Journal, pads: Pads, pad_size: int) -> None:
        self.supply = supply
        self.journal = journal
        self.pads = pads
        self.buffers = Buffers(pad_size)
        self._announce_lock = threading.Lock()
        self._announced: set[int] = set()
        self._sending: set[int] = set()  # pads whose image is about to be sent, on its way, or not recorded yet

    def reset(self) -> None:
        """The lock was just taken: nothing is announced."""
        self._announced, self._sending = set(), set()

    def in_doubt(self) -> list[int]:
        """Pads with an unanswered attempt, or with one that a second interrupt left running; they stay in ``writing``
        when the lock is given back. The others leave it: from now on nobody sends to them without a new record."""
        with self._announce_lock:
            self._announced.clear()
            return sorted({*self.supply.doubts, *self._sending})

    def begin(self, upload: Upload) -> None:
        """The pending entry names this attempt before its first image is sent."""
        with upload.lock:
            if not upload.begun:
                self.journal.append([upload.begin_record()])
                upload.begun = True

    def announce(self, pad: int) -> None:
        """Name ``pad`` in ``writing``, and with it the empty pads that come next, so that one record serves many. From now
        on its image may be sent, whatever becomes of the caller that it is for."""
        with self._announce_lock:
            self._sending.add(pad)
            if pad not in self._announced:
                pads = [pad, *self._ahead(pad)]
                self.journal.append([["writing", pads]])
                self._announced.update(pads)

    def _ahead(self, pad: int) -> list[int]:
        with self.supply.lock:
            count = min(FRESH_WINDOW - 1, self.supply.expected())
            kinds, low = self.supply.map.kinds, self.supply.map.lowest_unwritten()
            free = (Kind.EMPTY, Kind.FRESH, Kind.UNRESERVED)
            window = [n for n in range(low, min(low + FRESH_WINDOW + 1, len(kinds))) if kinds[n] in free]
        return [n for n in window if n != pad and n not in self._announced][:count]

    def send(self, pad: int, data: Buffer, counter: int, *, compared: bool = False) -> bytes:
        """Replace the pad's image by ``data`` with this counter; its digest. ``compared``: the stored header was read
        just now. After a failed attempt the pad is in doubt, unless nothing was sent."""
        if not compared:
            self._compare(pad, counter - 1)
        digest = image_digest(data)
        try:
            self.pads.send(pad, Image(data, counter, digest))
        except BaseException as error:
            self.supply.block(pad, error)
            raise
        return digest

    def _compare(self, pad: int, counter: int) -> None:
        try:
            self.pads.check_unchanged(pad, counter, self.journal.index.digest(pad))
        except BaseException:
            self._sending.discard(pad)  # nothing was sent
            raise

    def look(self, pad: int) -> None:
        """``AnotherWriter`` when the pad's image is newer than the committed one, and not on its way from here. What else is
        wrong with it is told when it is written."""
        counter = self.counter(pad)
        try:
            self.pads.compare(pad, self.pads.read_header(pad)[0], counter)
        except AnotherWriter:
            if pad not in self._sending and self.counter(pad) == counter:  # in this order: a commit ends the sending
                raise
        except (BlockDamaged, PadNotFound, RolledBack):
            return

    def commit(self, pad: int, records: list[Record], placed: Callable[[], None], *, again: bool = False) -> None:
        """Make the records of a confirmed image durable, then change the memory map: ``placed`` first, then what the
        records freed. ``again``: another image of the pad will come soon, and is announced with this one's record."""
        freed = self.journal.append([*records, ["writing", [pad]]] if again else records)
        self._sending.discard(pad)
        if not again:
            with self._announce_lock:
                self._announced.discard(pad)
        with self.supply.lock:
            placed()
            self.release(freed)
        self.supply.changed()

    def record(self, records: list[Record]) -> None:
        """Make records durable that commit no image, and free what they free."""
        freed = self.journal.append(records)
        with self.supply.lock:
            self.release(freed)
        self.supply.changed()

    def release(self, freed: Freed) -> None:
        """Free in the map what a durable record freed. Under the map's lock."""
        for extent in freed.extents:
            self.supply.map.free(*extent)
        for manifest in freed.manifests:
            self.supply.map.free_manifest(*manifest)

    def counter(self, pad: int) -> int:
        """Counter of the committed image; 0 before the first."""
        return self.journal.index.counters[pad]


def committed_record(
    pad: int, counter: int, digest: bytes, *, blocks: list[object], added: list[object], dropped: list[object] | None, blank: bool
) -> Record:
    """The COMMITTED record of one image; see ``MasterIndex``. That of a full chunk, of which there may be millions, is
    without the fields that say nothing."""
    head: Record = ["committed", pad, counter, encode(digest), blocks]
    if not added and dropped is None and not blank:
        return head
    return [*head, added, dropped, int(blank)]
