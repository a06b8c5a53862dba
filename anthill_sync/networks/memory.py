"""Pads in this process's memory: for tests and for trying things out. Nothing survives the process."""

from __future__ import annotations

import threading

from blake3 import blake3

from ..errors import ConfigurationError, PadConflict, PadNotFound
from .base import Image, Pad, Properties
from .local import START_SIZE, check_fits, is_repeat, local_properties

_NAMED: dict[str, MemoryNetwork] = {}
_NAMED_LOCK = threading.Lock()  # guards _NAMED


class MemoryNetwork:
    """Pads in the dict ``pads`` (address -> image); a reserved, empty pad holds ``b""``."""

    def __init__(self, pad_size: int) -> None:
        self.pads: dict[str, bytes] = {}
        self._lock = threading.Lock()  # makes look-then-change on ``pads`` one step
        self._properties = local_properties("memory", pad_size)

    @classmethod
    def named(cls, name: str, pad_size: int) -> MemoryNetwork:
        """The network of this name, made when first asked for and kept until the process ends.

        ``ConfigurationError`` if it was made with another ``pad_size`` (bytes).
        """
        with _NAMED_LOCK:
            network = _NAMED.setdefault(name, cls(pad_size))
        if network.properties.pad_size != pad_size:
            raise ConfigurationError(f"memory://{name} has pads of {network.properties.pad_size} bytes, not {pad_size}")
        return network

    @property
    def properties(self) -> Properties:
        """Facts that do not change while the network is open."""
        return self._properties

    def reserve(self, pad: Pad) -> None:
        """Make ``pad`` ours; ``PadConflict`` if it holds an image."""
        with self._lock:
            if self.pads.setdefault(pad.address, b""):
                raise PadConflict(f"pad {pad.address} holds an image", pad=pad.address)

    def write(self, pad: Pad, image: Image) -> None:
        """Replace the pad's image, unless its counter is not below; a first image only where there is none."""
        check_fits(pad, image, self._properties.pad_size)
        data = bytes(image.data)
        with self._lock:
            stored = self.pads.get(pad.address, b"")
            if not is_repeat(pad, image, stored[:START_SIZE], lambda: _digest(stored)):
                self.pads[pad.address] = data

    def confirm(self, pad: Pad, digest: bytes) -> None:
        """Compare the image's digest with ``digest``."""
        if _digest(self._stored(pad)) != digest:
            raise PadConflict(f"pad {pad.address} holds another image than the one written", pad=pad.address)

    def read(self, pad: Pad, offset: int = 0, length: int | None = None) -> bytes:
        """The image's bytes from ``offset``, cut at the image's end."""
        end = None if length is None else offset + length
        return self._stored(pad)[offset:end]

    def close(self) -> None:
        """Keep the pads: whoever opens the same name again finds them."""

    def _stored(self, pad: Pad) -> bytes:
        try:
            return self.pads[pad.address]
        except KeyError:
            raise PadNotFound(f"pad {pad.address} was never reserved or written", pad=pad.address) from None


def _digest(data: bytes) -> bytes:
    return blake3(data).digest(length=16)
