"""Reading extents and images of pads, and replacing images: what stands between blocks and a network."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from .errors import AnotherWriter, BlockDamaged, NetworkError, PadConflict, PadNotFound, RolledBack
from .image import Header, Table, parse_header, parse_table
from .keys import MasterKey, PadKey
from .networks.base import Buffer, Image, Network, any_replica
from .sealing import Sealer, image_digest
from .space import HEADER_SIZE
from .values import Extent

UNKNOWN_DIGEST = bytes(16)
_COPY = "Is a copy of this home in use elsewhere? If not, 'anthill recover' goes on from what the pads show"

T = TypeVar("T")


@dataclass(frozen=True)
class StoredImage:
    """A pad's image as the network has it, parsed."""

    data: bytes
    counter: int
    table: Table


class Pads:
    """The pads of one store on one network. Thread-safe; ``_cache_lock`` guards the cache only.

    Images of open shared pads stay in memory, at most ``pad_size`` bytes of them, so a pad that collects small
    values is read once per run.
    """

    def __init__(self, network: Network, key: MasterKey, slot: int, sealer: Sealer) -> None:
        self.network = network
        self.sealer = sealer
        self._key = key
        self._slot = slot
        self._cache: OrderedDict[int, StoredImage] = OrderedDict()
        self._cache_lock = threading.Lock()

    def name(self, pad: int) -> PadKey:
        """The pad's address and signature."""
        return self._key.pad(self._slot, pad)

    def read_extent(self, extent: Extent) -> Buffer:
        """The sealed bytes of one block, fewer when the image is shorter. ``PadNotFound`` when it is not there."""
        pad, offset, length = extent
        return self.network.read(self.name(pad), offset, length)

    def open_extent(self, extent: Extent, opens: Callable[[Buffer], T]) -> T:
        """What ``opens`` makes of the sealed bytes of one block. Where replicas may differ, any may answer, and only if
        its bytes do not open the newest is asked for: blocks are never overwritten, so those that open are right."""
        if self.network.properties.eventual:
            with suppress(BlockDamaged, PadNotFound), any_replica():
                return opens(self.read_extent(extent))
        return opens(self.read_extent(extent))

    def read_header(self, pad: int) -> tuple[Header | None, bytes]:
        """The stored header and its bytes; None when the pad is reserved and empty."""
        data = bytes(self.network.read(self.name(pad), 0, HEADER_SIZE))
        return parse_header(data, self.describe(pad)), data

    def read_table(self, pad: int, header: Header, packed: bytes) -> Table:
        """The table that belongs to this header; reads only the table."""
        name = self.name(pad)
        sealed = bytes(self.network.read(name, HEADER_SIZE + header.payload, header.table))
        return parse_table(self.sealer, name.address, packed, sealed)

    def read_image(self, pad: int) -> tuple[bytes, Header | None]:
        """The whole image and its header."""
        data = bytes(self.network.read(self.name(pad)))
        return data, parse_header(data[:HEADER_SIZE], self.describe(pad))

    def stored(self, pad: int, counter: int, digest: bytes) -> tuple[StoredImage, bool]:
        """The committed image with this counter and digest, and whether it was read just now rather than remembered.

        Another counter on the network raises ``AnotherWriter`` or ``RolledBack``, other bytes ``BlockDamaged``.
        """
        with self._cache_lock:
            known = self._cache.get(pad)
        if known is not None and known.counter == counter:
            return known, False
        data, header = self.read_image(pad)
        self.compare(pad, header, counter)
        assert header is not None
        if digest not in (UNKNOWN_DIGEST, image_digest(data)):
            raise BlockDamaged(f"{self.describe(pad)} does not have the digest it was written with")
        start = HEADER_SIZE + header.payload
        table = parse_table(self.sealer, self.name(pad).address, data[:HEADER_SIZE], data[start : start + header.table])
        return StoredImage(data, counter, table), True

    def compare(self, pad: int, header: Header | None, counter: int) -> None:
        """Raise unless the stored header is the one this store wrote last."""
        found = 0 if header is None else header.counter
        if found > counter:
            raise AnotherWriter(
                f"{self.describe(pad)} was written by another writer (counter {found}, ours is {counter}); nothing was written. "
                f"{_COPY}",
                pad=pad,
            )
        if found < counter:
            raise RolledBack(
                f"{self.describe(pad)} is older (counter {found}) than this store left it ({counter}); nothing was written. "
                "Put the newer state back; 'anthill recover' goes on with the older one",
                pad=pad,
            )

    def check_unchanged(self, pad: int, counter: int, digest: bytes) -> None:
        """Compare what is stored with ``counter`` before a replacement, unless the network itself does; with ``digest``
        too where it keeps digests: two homes may have written images of one counter there."""
        facts = self.network.properties
        if not counter or facts.compares_counters:
            return
        if digest == UNKNOWN_DIGEST or not facts.keeps_digests:
            self.compare(pad, self.read_header(pad)[0], counter)
        else:
            self._confirm_unchanged(pad, counter, digest)

    def _confirm_unchanged(self, pad: int, counter: int, digest: bytes) -> None:
        try:
            self.network.confirm(self.name(pad), digest)
        except PadConflict:
            self.compare(pad, self.read_header(pad)[0], counter)
            told = f"{self.describe(pad)} holds another writer's image; nothing was written. {_COPY}"
            raise AnotherWriter(told, pad=pad) from None

    def remember(self, pad: int, image: StoredImage | None) -> None:
        """Keep (or forget) the image of a pad that may take more blocks."""
        with self._cache_lock:
            self._cache.pop(pad, None)
            if image is not None:
                self._cache[pad] = image
                while sum(len(each.data) for each in self._cache.values()) > self.network.properties.pad_size:
                    self._cache.popitem(last=False)

    def forget_all(self) -> None:
        """Another run may have written: trust no remembered image."""
        with self._cache_lock:
            self._cache.clear()

    def describe(self, pad: int) -> str:
        """How an error names a pad."""
        return f"pad {pad} ({self.name(pad).address[:16]}...)"

    def send(self, pad: int, image: Image) -> None:
        """Replace the pad's image; returns when the network is known to hold it durably."""
        name = self.name(pad)
        self.network.write(name, image)
        try:
            self.network.confirm(name, image.digest)
        except NetworkError as error:
            error.context = {**error.context, "step": "confirm"}
            raise
