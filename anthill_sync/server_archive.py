"""What a pad server keeps: images in a network of this machine, one writer per pad, counters that only rise, a quota.

Counter and digest of a pad are those of its stored image, so the folder of a server is a ``dir:`` network too. An image
without a pad header counts as its first; it never replaces one that has a header, and no empty image replaces another,
or a counter would fall.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from blake3 import blake3

from .errors import BlockDamaged, InvalidArgument, OutOfSpace, PadConflict, PadNotFound, UnknownFormat
from .image import parse_header
from .keylocks import KeyLocks
from .networks.base import Image, Network
from .space import HEADER_SIZE

SMALLEST_CHARGE = 4096  # bytes a pad counts at least: a file, however short, takes a block of the disk
_CACHED = 16 * 1024  # pads whose facts are remembered, about 6 MiB


@dataclass(frozen=True)
class Stored:
    """A pad as it lies there, durably."""

    size: int  # bytes; 0: reserved and empty
    counter: int = 0
    digest: bytes = bytes(16)
    has_header: bool = False


class StoredConflict(PadConflict):
    """The pad holds an image that may not be replaced like this; ``stored`` says which."""

    def __init__(self, message: str, stored: Stored) -> None:
        super().__init__(message)
        self.stored = stored


@dataclass(frozen=True)
class NamedPad:
    """A pad of somebody else: the server has its address only."""

    address: str

    def sign(self, message: bytes) -> NoReturn:
        raise TypeError("a pad server holds no keys")


class Archive:
    """Pads in ``network``. ``used``: bytes its pads count now; ``quota``: bytes they may count, None: no limit."""

    def __init__(self, network: Network, *, used: int = 0, quota: int | None = None) -> None:
        self._network = network
        self._quota = quota
        self._used = used
        self._pads = KeyLocks()  # one address is never looked at or written by two requests at once
        self._lock = threading.Lock()  # guards _used and _cache; no I/O under it
        self._cache: OrderedDict[str, Stored] = OrderedDict()

    @property
    def pad_size(self) -> int:
        """Largest image, bytes."""
        return self._network.properties.pad_size

    @property
    def quota(self) -> int | None:
        return self._quota

    @property
    def used(self) -> int:
        """Bytes all pads count."""
        with self._lock:
            return self._used

    def look(self, address: str) -> Stored | None:
        """Size, counter and digest of what lies there durably; None: no such pad."""
        return self._pads.hold([address], lambda: self._look(address))

    def read(self, address: str, offset: int, length: int | None) -> bytes:
        """The image, or a part of it; ``PadNotFound``."""
        return bytes(self._network.read(NamedPad(address), offset, length))

    def reserve(self, address: str) -> bool:
        """True: the pad is new; False: it was there, empty. ``StoredConflict`` if it holds an image."""
        return self._pads.hold([address], lambda: self._reserve(address))

    def _reserve(self, address: str) -> bool:
        stored = self._look(address)
        if stored is not None and stored.size:
            raise StoredConflict("the pad holds an image", stored)
        if stored is None:
            with self._charged(SMALLEST_CHARGE):
                self._network.reserve(NamedPad(address))
            self._remember(address, Stored(0))
        return stored is None

    def write(self, address: str, image: Image) -> None:
        """Replace the image, durably; the very same image again is no error. ``StoredConflict`` when the counter does
        not rise, ``OutOfSpace`` when a longer image does not fit into the quota."""
        self._pads.hold([address], lambda: self._write(address, image))

    def _write(self, address: str, image: Image) -> None:
        stored = self._look(address)
        if stored is not None and stored.size and stored.digest == image.digest:
            return
        new = Stored(len(image.data), image.counter, image.digest, _header_counter(image.data, address) is not None)
        _check_replaces(stored, new)
        with self._charged(_charge(new) - (_charge(stored) if stored else 0)):
            self._forget(address)  # a failed write leaves the old image or the new one
            self._network.write(NamedPad(address), image)
            self._network.confirm(NamedPad(address), image.digest)
        self._remember(address, new)

    def _look(self, address: str) -> Stored | None:
        with self._lock:
            known = self._cache.get(address)
            if known is not None:
                self._cache.move_to_end(address)
                return known
        return self._look_closely(address)

    def _look_closely(self, address: str) -> Stored | None:
        """Read the image. Whoever wrote it may have been killed before it was durable: ``confirm`` makes it so."""
        try:
            data = self._network.read(NamedPad(address))
        except PadNotFound:
            return None
        if not data:
            stored = Stored(0)
        else:
            counter, digest = _header_counter(data, address), blake3(data).digest(length=16)
            self._network.confirm(NamedPad(address), digest)
            stored = Stored(len(data), counter or 1, digest, counter is not None)
        self._remember(address, stored)
        return stored

    def _remember(self, address: str, stored: Stored) -> None:
        with self._lock:
            self._cache[address] = stored
            self._cache.move_to_end(address)
            if len(self._cache) > _CACHED:
                self._cache.popitem(last=False)

    def _forget(self, address: str) -> None:
        with self._lock:
            self._cache.pop(address, None)

    @contextmanager
    def _charged(self, growth: int) -> Iterator[None]:
        """Count ``growth`` bytes, not when what is inside fails. Shrinking is always allowed: it makes room."""
        with self._lock:
            if growth > 0 and self._quota is not None and self._used + growth > self._quota:
                raise OutOfSpace(f"the quota of {self._quota} bytes is used up ({self._used} bytes)")
            self._used += growth
        try:
            yield
        except BaseException:
            with self._lock:
                self._used -= growth
            raise


def _check_replaces(stored: Stored | None, new: Stored) -> None:
    if stored is None or not stored.size:
        return
    if not new.size or (stored.has_header and not new.has_header):
        raise InvalidArgument("an image with a header is only replaced by another one with a header")
    if new.counter <= stored.counter:
        raise StoredConflict(f"the counter does not rise: {new.counter} after {stored.counter}", stored)


def _header_counter(data: bytes | bytearray | memoryview, address: str) -> int | None:
    """The counter in the image's header; None: it does not begin with one."""
    try:
        header = parse_header(bytes(data[:HEADER_SIZE]), address)
    except (BlockDamaged, UnknownFormat):
        return None
    return None if header is None else header.counter


def counter_agrees(image: Image, address: str) -> bool:
    """Whether the counter that was signed is the one in the image's header, where it has one."""
    return _header_counter(image.data, address) in (None, image.counter)


def measure(root: Path) -> int:
    """Bytes that the pads of a ``dir:`` network under ``root`` count: reads every folder once, no file."""
    return sum(_charge(Stored(entry.stat(follow_symlinks=False).st_size)) for entry in _files(root))


def _files(root: Path) -> Iterator[os.DirEntry[str]]:
    with os.scandir(root) as folders:
        for folder in folders:
            if folder.is_dir(follow_symlinks=False):
                with os.scandir(folder) as files:
                    yield from files


def _charge(stored: Stored) -> int:
    return max(SMALLEST_CHARGE, stored.size)
