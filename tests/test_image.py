"""The bytes of a pad: header, payload, sealed table, manifests."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anthill_sync.errors import BlockDamaged, InvalidArgument, UnknownFormat
from anthill_sync.image import (
    MAX_ATTRIBUTES,
    Header,
    Manifest,
    RawManifest,
    Table,
    TableEntry,
    decode_manifest,
    encode_attributes,
    encode_manifest,
    finish_image,
    manifest_size,
    parse_header,
    parse_table,
)
from anthill_sync.keys import MasterKey
from anthill_sync.sealing import OVERHEAD, Sealer, image_digest
from anthill_sync.space import ENTRY_SIZE, HEADER_SIZE, TABLE_FIXED
from anthill_sync.values import Span

VECTORS: dict[str, Any] = json.loads((Path(__file__).resolve().parent / "vectors.json").read_text("utf-8"))
VECTOR = VECTORS["image"]
BYTES = {name: bytes.fromhex(VECTOR[name]) for name in ("data_id", "run_id", "plaintext", "header", "entry", "manifest", "table")}
IMAGE = bytes.fromhex(VECTOR["image"])
ADDRESS: str = VECTORS["address"]
KEY = MasterKey(bytes.fromhex(VECTORS["secret"]))
SEALER = Sealer(KEY, VECTORS["slot"])
PAD_SIZE = 16 * 1024

data_ids = st.binary(min_size=16, max_size=16)
lengths = st.integers(0, 2**32 - 1)
spans = st.lists(st.builds(Span, data_ids, st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1)), max_size=5)
scalars = st.integers() | st.text(max_size=8) | st.booleans()
attributes = st.none() | st.dictionaries(st.text(max_size=8), scalars, min_size=1, max_size=4)
manifests = st.builds(
    Manifest,
    key=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30),
    size=st.integers(0, 2**64 - 1),
    version=st.integers(0, 2**64 - 1),
    modified=st.integers(-(2**63), 2**63 - 1),
    attributes=attributes,
    spans=spans,
)


def vector_manifest() -> Manifest:
    names = ("key", "size", "version", "modified")
    values = {name: VECTOR[name] for name in names}
    return Manifest(**values, attributes=json.loads(VECTOR["attributes"]), spans=[Span(BYTES["data_id"], 0, 1)])


def raw(manifest: Manifest) -> RawManifest:
    return RawManifest(manifest.key, manifest.version, encode_manifest(manifest))


def build(sealer: Sealer, entries: list[TableEntry], kept: list[RawManifest], payload: bytes = b"", counter: int = 2) -> bytes:
    buffer = memoryview(bytearray(PAD_SIZE))
    buffer[HEADER_SIZE : HEADER_SIZE + len(payload)] = payload
    length = finish_image(
        sealer,
        ADDRESS,
        buffer,
        counter=counter,
        end=HEADER_SIZE + len(payload),
        run_id=BYTES["run_id"],
        entries=entries,
        manifests=kept,
    )
    return bytes(buffer[:length])


def parse(image: bytes) -> tuple[Header, Table]:
    header = parse_header(image[:HEADER_SIZE], "the pad")
    assert header is not None
    start = HEADER_SIZE + header.payload
    return header, parse_table(SEALER, ADDRESS, image[:HEADER_SIZE], image[start : start + header.table])


# -- the documented bytes


def test_an_image_is_that_of_the_vectors() -> None:
    randoms = iter([bytes.fromhex(VECTOR["random_of_block"]), bytes.fromhex(VECTOR["random_of_table"])])
    sealer = Sealer(KEY, VECTORS["slot"], lambda size: next(randoms))
    sealed = bytearray(len(BYTES["plaintext"]) + OVERHEAD)
    sealer.seal_block(BYTES["data_id"], 0, BYTES["plaintext"], sealer.fingerprint(BYTES["plaintext"]), memoryview(sealed))
    entry = TableEntry(BYTES["data_id"], 0, HEADER_SIZE, len(sealed))
    image = build(sealer, [entry], [raw(vector_manifest())], bytes(sealed), VECTOR["counter"])
    assert image == IMAGE
    assert image_digest(image).hex() == VECTOR["digest"]
    header, table = parse(IMAGE)
    assert header == (VECTOR["counter"], len(sealed), len(IMAGE) - HEADER_SIZE - len(sealed))
    assert table == Table(BYTES["run_id"], [entry], [raw(vector_manifest())])
    block = IMAGE[entry.offset : entry.offset + entry.length]
    assert SEALER.open_block(entry.data_id, entry.chunk, block) == BYTES["plaintext"]


def test_header_entry_and_manifest_follow_the_documented_layout() -> None:
    payload, table = len(BYTES["plaintext"]) + 80, len(BYTES["table"]) + 80
    assert BYTES["header"] == b"APAD" + struct.pack("<HHQII", 1, 0, VECTOR["counter"], payload, table) + bytes(8) == IMAGE[:32]
    assert BYTES["entry"] == BYTES["data_id"] + struct.pack("<QII", 0, 32, payload)
    key, attributes = VECTOR["key"].encode(), VECTOR["attributes"].encode()
    length = 36 + len(key) + len(attributes) + 32
    head = struct.pack("<IHHQQqI", length, len(key), len(attributes), VECTOR["size"], VECTOR["version"], VECTOR["modified"], 1)
    assert BYTES["manifest"] == head + key + attributes + BYTES["data_id"] + struct.pack("<QQ", 0, 1)
    assert BYTES["table"] == BYTES["run_id"] + struct.pack("<II", 1, 1) + BYTES["entry"] + BYTES["manifest"]
    assert SEALER.open_table(ADDRESS, IMAGE[:32], IMAGE[32 + payload :]) == BYTES["table"]


# -- round trips


@settings(max_examples=80, deadline=None, print_blob=True)
@given(manifest=manifests)
def test_a_manifest_comes_back_and_takes_the_bytes_it_was_charged(manifest: Manifest) -> None:
    data = encode_manifest(manifest)
    assert decode_manifest(data) == manifest
    assert len(data) == manifest_size(manifest.key, manifest.attributes, len(manifest.spans))


@settings(max_examples=40, deadline=None, print_blob=True)
@given(
    entries=st.lists(st.builds(TableEntry, data_ids, st.integers(0, 2**64 - 1), lengths, lengths), max_size=5),
    kept=st.lists(manifests, max_size=4),
    payload=st.binary(max_size=200),
    counter=st.integers(1, 2**64 - 1),
)
def test_an_image_comes_back_and_its_table_takes_the_bytes_it_was_charged(
    entries: list[TableEntry], kept: list[Manifest], payload: bytes, counter: int
) -> None:
    image = build(SEALER, entries, [raw(manifest) for manifest in kept], payload, counter)
    header, table = parse(image)
    assert header.counter == counter
    assert table == Table(BYTES["run_id"], entries, [raw(manifest) for manifest in kept])
    assert [decode_manifest(each.data) for each in table.manifests] == kept
    charged = TABLE_FIXED + ENTRY_SIZE * len(entries) + sum(len(encode_manifest(manifest)) for manifest in kept)
    assert len(image) == HEADER_SIZE + len(payload) + charged
    assert image[HEADER_SIZE : HEADER_SIZE + len(payload)] == payload


# -- what is not an image


def test_a_reserved_pad_has_no_header() -> None:
    assert parse_header(b"", "the pad") is None


@pytest.mark.parametrize("data", [b"A", IMAGE[:31], bytes(32), b"APAE" + IMAGE[4:32], b"apad" + IMAGE[4:32]])
def test_other_bytes_are_no_header(data: bytes) -> None:
    with pytest.raises(BlockDamaged, match="pad 7 does not begin"):
        parse_header(data, "pad 7")


def test_another_version_is_an_error_of_its_own() -> None:
    with pytest.raises(UnknownFormat, match="format 2"):
        parse_header(IMAGE[:4] + b"\2\0" + IMAGE[6:32], "pad 7")


def test_every_flipped_byte_of_header_or_table_is_reported() -> None:
    start = HEADER_SIZE + len(BYTES["plaintext"]) + OVERHEAD
    for at in [*range(HEADER_SIZE), *range(start, len(IMAGE))]:
        changed = bytearray(IMAGE)
        changed[at] ^= 0x40
        with pytest.raises((BlockDamaged, UnknownFormat)):
            parse(bytes(changed))


def test_a_table_is_that_of_its_pad_and_its_store_only() -> None:
    header, table = IMAGE[:32], IMAGE[32 + len(BYTES["plaintext"]) + OVERHEAD :]
    strangers = [(SEALER, KEY.pad(3, 8).address), (Sealer(KEY, 4), ADDRESS), (Sealer(MasterKey.generate(), 3), ADDRESS)]
    for sealer, address in strangers:
        with pytest.raises(BlockDamaged):
            parse_table(sealer, address, header, table)


@pytest.mark.parametrize(
    "plain",
    [
        b"",
        bytes(23),
        bytes(16) + struct.pack("<II", 1, 0),  # an entry is missing
        bytes(16) + struct.pack("<II", 0, 1),  # a manifest is missing
        bytes(16) + struct.pack("<II", 0, 0) + b"more",
        bytes(16) + struct.pack("<II", 0, 1) + struct.pack("<IHHQQqI", 99, 0, 0, 0, 0, 0, 0),  # it says it is longer
        bytes(16) + struct.pack("<II", 0, 1) + struct.pack("<IHHQQqI", 38, 2, 0, 0, 0, 0, 0) + b"\xff\xff",  # no UTF-8
    ],
)
def test_a_table_that_contradicts_itself_is_damaged(plain: bytes) -> None:
    header = Header(1, 0, len(plain) + OVERHEAD).pack()
    with pytest.raises(BlockDamaged, match="cannot be read"):
        parse_table(SEALER, ADDRESS, header, SEALER.seal_table(ADDRESS, header, plain))


def test_an_image_that_would_not_fit_is_never_written() -> None:
    with pytest.raises(ValueError):
        build(SEALER, [], [RawManifest("k", 1, os.urandom(PAD_SIZE))])


# -- attributes


def test_attributes_are_compact_json_with_sorted_names() -> None:
    assert encode_attributes({"mode": 420, "kind": "träger"}) == '{"kind":"träger","mode":420}'.encode()
    assert encode_attributes(None) == encode_attributes({}) == b""


def test_attributes_of_up_to_1_kib_are_kept() -> None:
    fits = {"a": "x" * (MAX_ATTRIBUTES - len('{"a":""}'))}
    assert len(encode_attributes(fits)) == MAX_ATTRIBUTES
    with pytest.raises(InvalidArgument, match="1025 bytes"):
        encode_attributes({"a": fits["a"] + "x"})


@pytest.mark.parametrize("wrong", [{"a": b"bytes"}, {"a": object()}, {"a": float("nan")}, {"a": "\udc80"}, {1: 2, "b": 3}])
def test_attributes_that_are_no_json_are_refused(wrong: Any) -> None:
    with pytest.raises(InvalidArgument, match="must be JSON"):
        encode_attributes(wrong)
