"""What is known of this machine, and what the networks on it have in common."""

from __future__ import annotations

import struct
from collections.abc import Callable

from ..errors import PadConflict, PermanentNetworkError
from .base import Image, Pad, Properties

_START = struct.Struct("<4s4xQ")  # of a pad's header: magic, counter
START_SIZE = _START.size  # bytes
_MAGIC = b"APAD"
_LOOPBACK = ("localhost", "::1")


def is_loopback(host: str) -> bool:
    """Whether ``host`` can only be this machine."""
    return host in _LOOPBACK or (host.startswith("127.") and host.replace(".", "").isdigit())


def local_properties(scheme: str, pad_size: int) -> Properties:
    """Nothing is paid, nothing is limited. Counters are the writer's to compare: ``is_repeat`` only keeps two writers that
    have both done so from replacing each other's images. ``pad_size`` in bytes."""
    return Properties(
        scheme=scheme,
        pad_size=pad_size,
        rewritable=True,
        compares_counters=False,
        reservation_is_paid=False,
        write_is_paid=False,
        connections=1000,
    )


def check_fits(pad: Pad, image: Image, pad_size: int) -> None:
    """``PermanentNetworkError`` if the image is larger than ``pad_size`` bytes."""
    size = len(image.data)
    if size > pad_size:
        raise PermanentNetworkError(f"an image of {size} bytes is larger than a pad ({pad_size} bytes)", pad=pad.address)


def is_repeat(pad: Pad, image: Image, start: bytes, digest: Callable[[], bytes]) -> bool:
    """Whether the pad holds this very image already. ``PadConflict`` when it holds another one whose counter is not below
    this one's: somebody else has written it since the writer looked, or this is no pad's first image.

    ``start``: the first ``START_SIZE`` bytes of what the pad holds; ``digest`` tells that of the whole. The caller lets
    nobody replace the image between this and its own replacement.
    """
    if not start or image.counter > _counter(start):
        return False
    if digest() == image.digest:
        return True
    raise PadConflict(f"pad {pad.address} holds another image, with counter {_counter(start)}", pad=pad.address)


def _counter(start: bytes) -> int:
    """As the image's header has it; an image without one counts as a pad's first."""
    magic, counter = _START.unpack(start) if len(start) == START_SIZE else (b"", 0)
    return counter if magic == _MAGIC else 1
