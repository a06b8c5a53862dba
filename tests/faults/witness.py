"""A witness between stores and their network: it keeps what every image was sealed with, and whom an image replaced."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from typing import TypeVar

from anthill_sync import creating
from anthill_sync.errors import BlockDamaged, PadNotFound, UnknownFormat
from anthill_sync.image import parse_header, parse_table
from anthill_sync.keys import MasterKey
from anthill_sync.networks.base import Image, Network, Pad
from anthill_sync.sealing import Sealer
from anthill_sync.space import HEADER_SIZE
from tests.support.networks import Wrapper

T = TypeVar("T")
SALT = 32


class Witness:
    """``problems``: an image that replaced another one than the last its writer knew, or a salt that came twice. All
    stores of one key and slot may share it; thread-safe."""

    def __init__(self, key: MasterKey, slot: int = 0) -> None:
        self.problems: list[str] = []
        self.sealed: dict[bytes, bytes] = {}  # salt -> hash of the whole sealed thing
        self._sealer = Sealer(key, slot)
        self._lock = threading.Lock()  # guards all of the above

    def sees(self, pad: Pad, image: Image) -> None:
        """``image`` is on its way."""
        with self._lock:
            self._keep(pad.address, bytes(image.data))

    def replaced(self, pad: Pad, image: Image, before: bytes) -> None:
        """``image`` has replaced ``before``: the image of the counter before, none for the first one, or itself."""
        with self._lock:
            self._check_replaced(pad.address, before, bytes(image.data), image.counter)

    def _check_replaced(self, address: str, before: bytes, data: bytes, counter: int) -> None:
        try:
            header = parse_header(before[:HEADER_SIZE], address)
        except (BlockDamaged, UnknownFormat) as error:
            self.problems.append(f"an image that cannot be read was replaced: {error}")
            return
        found = 0 if header is None else header.counter
        if found != counter - 1 and before != data:
            self.problems.append(f"pad {address}: counter {counter} replaced counter {found}")

    def _keep(self, address: str, data: bytes) -> None:
        header = parse_header(data[:HEADER_SIZE], address)
        assert header is not None
        start = HEADER_SIZE + header.payload
        table = data[start : start + header.table]
        entries = parse_table(self._sealer, address, data[:HEADER_SIZE], table).entries
        for sealed in (table, *(data[entry.offset : entry.offset + entry.length] for entry in entries)):
            digest = sha256(sealed).digest()
            if self.sealed.setdefault(sealed[:SALT], digest) != digest:
                self.problems.append(f"pad {address}: a salt came twice")

    @contextmanager
    def watching(self) -> Iterator[None]:
        """All stores opened inside the ``with`` are watched."""
        open_network: Callable[..., Network] = vars(creating)["open_network"]
        vars(creating)["open_network"] = lambda *args, **more: WatchedNetwork(open_network(*args, **more), self)
        try:
            yield
        finally:
            vars(creating)["open_network"] = open_network


class WatchedNetwork(Wrapper):
    """Shows the witness each image and what it replaces, then passes it on."""

    def __init__(self, inner: Network, witness: Witness) -> None:
        super().__init__(inner)
        self._witness = witness

    def _around(self, operation: str, pad: Pad, action: Callable[[], T], image: Image | None = None) -> T:
        if image is None:
            return action()
        before = stored(self.inner, pad)
        self._witness.sees(pad, image)
        result = action()
        self._witness.replaced(pad, image, before)
        return result


def stored(network: Network, pad: Pad) -> bytes:
    """The pad's bytes; none where there is no such pad."""
    try:
        return bytes(network.read(pad))
    except PadNotFound:
        return b""
