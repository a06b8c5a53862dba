"""Bytes in records and snapshots: base64 without padding, and arrays in the order of the files. Pure."""

from __future__ import annotations

import base64
import binascii
import sys
from array import array

_PADDING = ("", "===", "==", "=")  # by length modulo 4


def encode(data: bytes) -> str:
    """Bytes in a record: base64 without padding."""
    return binascii.b2a_base64(data, newline=False).rstrip(b"=").decode("ascii")


if sys.version_info >= (3, 11):  # what b64decode does, without its looks at the arguments

    def decode(text: str) -> bytes:
        """The reverse of ``encode``."""
        return binascii.a2b_base64(text + _PADDING[len(text) & 3], strict_mode=True)
else:

    def decode(text: str) -> bytes:
        """The reverse of ``encode``."""
        return base64.b64decode(text + _PADDING[len(text) & 3], validate=True)


def little_endian(numbers: array[int]) -> array[int]:
    """``numbers`` in the order of the files, or back: swapped on a big-endian machine, else as they are."""
    if sys.byteorder == "big":
        numbers = numbers[:]
        numbers.byteswap()
    return numbers
