"""The bytes of a pad: header (32) | payload | sealed table. Pure, no I/O.

Header: magic ``APAD``, version u16, flags u16, counter u64, payload length u32, table length u32, 8 zero bytes.
Table, before it is sealed: run id 16, number of blocks u32, number of manifests u32; per block: data id 16, chunk
u64, offset u32 (from the image's first byte), length u32; then the manifests. All numbers little-endian.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from .errors import BlockDamaged, InvalidArgument, UnknownFormat
from .sealing import OVERHEAD, Sealer
from .space import ENTRY_SIZE, HEADER_SIZE, SEAL_OVERHEAD, TABLE_FIXED
from .values import Span

MAGIC = b"APAD"
VERSION = 1
MAX_ATTRIBUTES = 1024  # bytes of a value's attributes as JSON

_HEADER = struct.Struct("<4sHHQII8x")
_TABLE = struct.Struct("<16sII")  # run id, blocks, manifests
_ENTRY = struct.Struct("<16sQII")  # data id, chunk, offset, length
_MANIFEST = struct.Struct("<IHHQQqI")  # whole length, key length, attributes length, size, version, modified, spans
_SPAN = struct.Struct("<16sQQ")  # data id, first chunk, chunks
SPAN_SIZE = _SPAN.size
_encode_json = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode

assert (_HEADER.size, _ENTRY.size, OVERHEAD) == (HEADER_SIZE, ENTRY_SIZE, SEAL_OVERHEAD)
assert _TABLE.size + OVERHEAD == TABLE_FIXED


class Header(NamedTuple):
    """The first 32 bytes of an image."""

    counter: int
    payload: int  # bytes
    table: int  # bytes, sealed

    def pack(self) -> bytes:
        return _HEADER.pack(MAGIC, VERSION, 0, self.counter, self.payload, self.table)


class TableEntry(NamedTuple):
    """One block of a pad."""

    data_id: bytes
    chunk: int
    offset: int
    length: int


class RawManifest(NamedTuple):
    """A manifest as its bytes, with what is needed to tell whether it is live."""

    key: str
    version: int
    data: bytes


@dataclass(frozen=True)
class Table:
    """What a pad says about itself."""

    run_id: bytes
    entries: list[TableEntry]
    manifests: list[RawManifest]


class Manifest(NamedTuple):
    """All that is needed to find a value again without the index."""

    key: str
    size: int
    version: int
    modified: int  # nanoseconds since 1970, UTC
    attributes: Mapping[str, Any] | None
    spans: list[Span]


def encode_attributes(attributes: Mapping[str, Any] | None) -> bytes:
    """Attributes as compact JSON with sorted names; ``InvalidArgument`` above 1 KiB or when not JSON."""
    if not attributes:
        return b""
    try:
        encoded = _encode_json(dict(attributes)).encode("utf-8")
    except (TypeError, ValueError) as error:
        raise InvalidArgument(f"attributes must be JSON: {error}") from error
    if len(encoded) > MAX_ATTRIBUTES:
        raise InvalidArgument(f"attributes take {len(encoded)} bytes as JSON; at most {MAX_ATTRIBUTES} are kept")
    return encoded


def manifest_size(key: str, attributes: Mapping[str, Any] | None, spans: int) -> int:
    """Table bytes of a manifest with this many spans."""
    return sized_manifest(key.encode("utf-8"), encode_attributes(attributes), spans)


def sized_manifest(key: bytes, attributes: bytes, spans: int) -> int:
    """The same where key and attributes are encoded already."""
    return _MANIFEST.size + len(key) + len(attributes) + spans * SPAN_SIZE


def encode_manifest(manifest: Manifest) -> bytes:
    """The manifest's bytes in a table."""
    return pack_manifest(manifest, manifest.key.encode("utf-8"), encode_attributes(manifest.attributes))


def pack_manifest(manifest: Manifest, key: bytes, attributes: bytes) -> bytes:
    """The same where its key and attributes are encoded already."""
    spans = manifest.spans
    size = sized_manifest(key, attributes, len(spans))
    head = _MANIFEST.pack(size, len(key), len(attributes), manifest.size, manifest.version, manifest.modified, len(spans))
    return b"".join([head, key, attributes, *[_SPAN.pack(*span) for span in spans]])


def decode_manifest(data: bytes) -> Manifest:
    """The reverse of ``encode_manifest``; ``ValueError`` or ``struct.error`` when it cannot be."""
    _, key_length, attributes_length, size, version, modified, spans = _MANIFEST.unpack_from(data)
    split = _MANIFEST.size + key_length
    first_span = split + attributes_length
    text = data[split:first_span]
    return Manifest(
        key=data[_MANIFEST.size : split].decode("utf-8"),
        size=size,
        version=version,
        modified=modified,
        attributes=json.loads(text) if text else None,
        spans=[Span(*_SPAN.unpack_from(data, first_span + i * _SPAN.size)) for i in range(spans)],
    )


def finish_image(
    sealer: Sealer,
    address: str,
    buffer: memoryview,
    *,
    counter: int,
    end: int,
    run_id: bytes,
    entries: Iterable[TableEntry],
    manifests: Iterable[RawManifest],
) -> int:
    """Write header and sealed table around the payload that ``buffer`` holds up to ``end``; the image's length."""
    packed = [_ENTRY.pack(*entry) for entry in entries]
    raw = [manifest.data for manifest in manifests]
    plain = b"".join([_TABLE.pack(run_id, len(packed), len(raw)), *packed, *raw])
    header = Header(counter, end - HEADER_SIZE, len(plain) + OVERHEAD).pack()
    length = end + len(plain) + OVERHEAD
    buffer[:HEADER_SIZE] = header
    buffer[end:length] = sealer.seal_table(address, header, plain)
    return length


def parse_header(data: bytes, where: str) -> Header | None:
    """The header of an image's first bytes; None for a reserved, empty pad (no bytes)."""
    if not data:
        return None
    if len(data) < HEADER_SIZE or data[:4] != MAGIC:
        raise BlockDamaged(f"{where} does not begin with a pad header")
    _, version, _, counter, payload, table = _HEADER.unpack_from(data)
    if version != VERSION:
        raise UnknownFormat(f"{where} has format {version}; this version reads {VERSION}")
    return Header(counter, payload, table)


def parse_table(sealer: Sealer, address: str, header: bytes, sealed: bytes) -> Table:
    """Open and read a table; ``BlockDamaged`` unless every byte of it is what its owner wrote."""
    plain = sealer.open_table(address, header, sealed)
    try:
        run_id, blocks, manifests = _TABLE.unpack_from(plain)
        first = _TABLE.size + blocks * ENTRY_SIZE
        entries = [TableEntry(*_ENTRY.unpack_from(plain, _TABLE.size + i * ENTRY_SIZE)) for i in range(blocks)]
        return Table(run_id, entries, _split_manifests(plain, first, manifests))
    except (struct.error, ValueError) as error:
        raise BlockDamaged(f"the table of pad {address} cannot be read: {error}") from error


def _split_manifests(plain: bytes, position: int, count: int) -> list[RawManifest]:
    found = []
    for _ in range(count):
        length, key_length, _, _, version, _, _ = _MANIFEST.unpack_from(plain, position)
        start = position + _MANIFEST.size
        found.append(RawManifest(plain[start : start + key_length].decode("utf-8"), version, plain[position : position + length]))
        position += length
    if position != len(plain):
        raise ValueError(f"{len(plain) - position} bytes behind the last manifest")
    return found
