"""Records of an index, for tests: the fields that matter given, the others fixed."""

from __future__ import annotations

from typing import Any

from anthill_sync.index import MasterIndex, Record
from anthill_sync.packing import encode

A, B, C = (bytes([number]) * 16 for number in (1, 2, 3))  # data ids
PRINT = encode(b"f" * 16)
DIGEST = encode(b"d" * 16)
PAD_SIZE = 1 << 16
FULL = PAD_SIZE - 1024 + 80  # a full chunk, sealed


def block(data_id: bytes, chunk: int, offset: int = 32, length: int = 100) -> list[Any]:
    """A block's fields in a record."""
    return [encode(data_id), chunk, offset, length, PRINT]


def committed(pad: int, counter: int = 1, *, blocks: Any = (), added: Any = (), dropped: Any = None, blank: int = 0) -> Record:
    return ["committed", pad, counter, DIGEST, list(blocks), list(added), dropped, blank]


def publish(key: str, version: int, pad: int, inline: Any, *, carried: Any = (), chunks: int = 1, size: int = 5) -> Record:
    return ["publish", key, size, version, 7, {"mode": 1}, pad, inline, list(carried), chunks]


def index_of(*records: Record, pads: int = 4) -> MasterIndex:
    """An index with ``pads`` reserved pads, after these records."""
    index = MasterIndex()
    for record in (["reserving", 0, pads - 1], *(["reserved", pad] for pad in range(pads)), *records):
        index.apply(record)
    return index


def small(key: str, version: int, pad: int, counter: int, *, data_id: bytes = A, offset: int = 32) -> list[Record]:
    """A put of one image: block and manifest in ``pad``."""
    image = committed(pad, counter, added=[[key, version, 80, 0]], dropped=[])
    return [image, publish(key, version, pad, [block(data_id, 0, offset)])]
