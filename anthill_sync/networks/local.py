"""What is known of this machine, and what the networks on it have in common."""

from __future__ import annotations

from ..errors import PermanentNetworkError
from .base import Image, Pad, Properties

_LOOPBACK = ("localhost", "::1")


def is_loopback(host: str) -> bool:
    """Whether ``host`` can only be this machine."""
    return host in _LOOPBACK or (host.startswith("127.") and host.replace(".", "").isdigit())


def local_properties(scheme: str, pad_size: int) -> Properties:
    """Nothing is paid, nothing is limited, and counters are the writer's business. ``pad_size`` in bytes."""
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
