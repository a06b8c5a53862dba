"""What the pads say about themselves: the authenticated truth that an index is rebuilt from.

Addresses are derived in order and looked at in parallel, header first, then table. Pads are written in the order of
their numbers, at most ``FRESH_WINDOW`` ahead, so the search ends after ``ABSENT_IN_A_ROW`` absent ones.
"""

from __future__ import annotations

import itertools
from array import array
from dataclasses import dataclass, field
from enum import IntEnum

from .errors import BlockDamaged, Damaged, PadNotFound, UnknownFormat
from .image import Header, RawManifest, Table, decode_manifest
from .pads import Pads
from .pipeline import Pipeline
from .sealing import OVERHEAD
from .settings import CHUNK_MARGIN, DEFAULT_PAD_SIZE, FRESH_WINDOW
from .space import HEADER_SIZE
from .values import Extent

ABSENT_IN_A_ROW = 100  # more than a writer ever leaves out
assert ABSENT_IN_A_ROW > FRESH_WINDOW + 1

_HIGHEST_COUNTER = 1 << 63  # of a header that nothing vouches for: there must be room above it


class Found(IntEnum):
    """What the network shows of a pad."""

    ABSENT = 0
    EMPTY = 1  # reserved, no bytes
    WRITTEN = 2  # header and table open
    UNREADABLE = 3


@dataclass(frozen=True)
class Sight:
    """One pad as it was seen. ``counter`` of an unreadable one is what its header claims, if there is one."""

    found: Found
    counter: int = 0
    size: int = 0  # bytes of the image, as its header has them
    table: Table | None = None
    why: str = ""
    strange: bool = False  # unreadable because it names another format


@dataclass
class Scan:
    """All pads up to the highest that was found or is known. Memory: the entries and manifests of all tables."""

    found: bytearray = field(default_factory=bytearray)  # one ``Found`` per pad number
    counters: array[int] = field(default_factory=lambda: array("Q"))
    blank: bytearray = field(default_factory=bytearray)  # 1: a written image without block and manifest
    why: dict[int, str] = field(default_factory=dict)  # of the unreadable ones
    places: dict[bytes, dict[int, Extent]] = field(default_factory=dict)  # data id -> chunk -> where its block lies
    manifests: list[tuple[int, RawManifest]] = field(default_factory=list)  # (pad, manifest)
    least: int = 0  # bytes: the smallest pad size that all images and chunks fit
    strange: int = 0  # pads of an unknown format

    @property
    def pads(self) -> int:
        return len(self.found)

    def see(self, pad: int, sight: Sight) -> None:
        """Note the next pad."""
        self.found.append(sight.found)
        self.counters.append(sight.counter)
        self.blank.append(sight.table is not None and not (sight.table.entries or sight.table.manifests))
        self.strange += sight.strange
        if sight.found == Found.UNREADABLE:
            self.why[pad] = sight.why
        if sight.table is not None:
            self.least = max(self.least, sight.size, _least(sight.table))
            for data_id, chunk, offset, length in sight.table.entries:
                self.places.setdefault(data_id, {})[chunk] = (pad, offset, length)
            self.manifests += ((pad, manifest) for manifest in sight.table.manifests)

    def cut(self, pads: int) -> None:
        """Forget the absent pads from number ``pads`` on."""
        del self.found[pads:], self.counters[pads:], self.blank[pads:]


def _least(table: Table) -> int:
    """The smallest pad size for these blocks: one that shares its pad is shorter than a full chunk."""
    longest = max((entry.length for entry in table.entries), default=0)
    shares = len(table.entries) + len(table.manifests) > 1
    return longest - OVERHEAD + CHUNK_MARGIN + int(shares)


def scan(pads: Pads, pipeline: Pipeline, known: int) -> Scan:
    """Look at all pads: at least ``known`` of them, and on until ``ABSENT_IN_A_ROW`` are absent. Changes nothing. What may
    pass, and whatever concerns the network rather than a pad, is raised as it is."""
    result, absent = Scan(), 0
    for pad, sight in enumerate(pipeline.ahead(itertools.count(), lambda pad: look(pads, pad))):
        result.see(pad, sight)
        absent = absent + 1 if sight.found == Found.ABSENT else 0
        if absent >= ABSENT_IN_A_ROW and pad + 1 >= known:
            result.cut(max(known, pad + 1 - absent))
            break
    if result.strange > result.found.count(Found.WRITTEN):
        raise UnknownFormat("the pads have a format that this version does not read; nothing was changed")
    return result


def look(pads: Pads, pad: int) -> Sight:
    """Header and table of one pad."""
    header: Header | None = None
    try:
        header, packed = pads.read_header(pad)
        if header is None:
            return Sight(Found.EMPTY)
        table = pads.read_table(pad, header, packed)
    except PadNotFound:
        return Sight(Found.ABSENT)
    except (BlockDamaged, UnknownFormat) as error:
        claimed = 0 if header is None or header.counter >= _HIGHEST_COUNTER else header.counter
        return Sight(Found.UNREADABLE, claimed, why=str(error), strange=isinstance(error, UnknownFormat))
    return Sight(Found.WRITTEN, header.counter, HEADER_SIZE + header.payload + header.table, table)


def pad_size_of(found: Scan, limit: int) -> int:
    """The store's pad size in bytes, where nothing else tells: full chunks show it. Without any, each size serves that
    holds what is there; ``limit`` is the network's."""
    sizes = chunk_sizes(found)
    if len(sizes) > 1:
        raise Damaged(f"the pads contradict each other: full chunks of {sorted(sizes)} bytes; nothing was changed")
    if sizes:
        return sizes.pop() + CHUNK_MARGIN
    return max(min(limit, DEFAULT_PAD_SIZE), found.least)


def chunk_sizes(found: Scan) -> set[int]:
    """Plaintext bytes of chunks that are not the last ones of their values: one number, in a store that is one."""
    sizes: set[int] = set()
    for _, raw in found.manifests:
        for span in (spans := decode_manifest(raw.data).spans):
            full = span.chunks - (span is spans[-1])
            chunk = next((n for n in range(span.first, span.first + full) if n in found.places.get(span.data_id, {})), None)
            if chunk is not None:
                sizes.add(found.places[span.data_id][chunk][2] - OVERHEAD)
    return sizes
