"""Blocks and tables: what is sealed opens again, and nothing else does."""

from __future__ import annotations

import hmac
import json
import os
import pickle
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

from anthill_sync import sealing
from anthill_sync.errors import BlockDamaged, InvalidArgument
from anthill_sync.keys import MasterKey, Random
from anthill_sync.sealing import OVERHEAD, Buffer, Sealer, image_digest

VECTORS: dict[str, Any] = json.loads((Path(__file__).resolve().parent / "vectors.json").read_text("utf-8"))
BLOCK = {name: bytes.fromhex(text) for name, text in VECTORS["block"].items() if name != "chunk"}
TABLE = {name: bytes.fromhex(text) for name, text in VECTORS["table"].items()}
DERIVED = {label: bytes.fromhex(text) for label, text in VECTORS["derived"].items()}
CHUNK: int = VECTORS["block"]["chunk"]
ADDRESS: str = VECTORS["address"]
KEY = MasterKey(bytes.fromhex(VECTORS["secret"]))
SLOT: int = VECTORS["slot"]
DATA_ID = BLOCK["data_id"]
SEALER = Sealer(KEY, SLOT)

Open = Callable[[Sealer, bytes, int, Buffer], bytes]


def fixed(data: bytes) -> Random:
    return lambda size: data[:size]


def seal(sealer: Sealer, data_id: bytes, chunk: int, plaintext: Buffer) -> bytes:
    out = bytearray(len(plaintext) + OVERHEAD)
    assert sealer.seal_block(data_id, chunk, plaintext, sealer.fingerprint(plaintext), memoryview(out)) == len(out)
    return bytes(out)


def open_new(sealer: Sealer, data_id: bytes, chunk: int, sealed: Buffer) -> bytes:
    return sealer.open_block(data_id, chunk, sealed)


def open_into(sealer: Sealer, data_id: bytes, chunk: int, sealed: Buffer) -> bytes:
    """Opens into a used buffer with room to spare, which has to stay as it was."""
    size = max(0, len(sealed) - OVERHEAD)
    out = bytearray(b"\xee" * (size + 8))
    try:
        assert sealer.open_block_into(data_id, chunk, sealed, memoryview(out)) == size
    finally:
        assert out[size:] == b"\xee" * 8
    return bytes(out[:size])


@pytest.fixture(params=[open_new, open_into], ids=["open_block", "open_block_into"])
def open_block(request: pytest.FixtureRequest) -> Open:
    way: Open = request.param
    return way


@pytest.fixture(params=[True, False], ids=["in place", "by copy"])
def _both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run with and without the in-place calls that older releases of cryptography lack."""
    if request.param and not sealing._IN_PLACE:
        pytest.skip("this release of cryptography has no encrypt_into")
    monkeypatch.setattr(sealing, "_IN_PLACE", request.param)


# -- the format


def by_the_book(secret: bytes, vector: dict[str, bytes]) -> bytes:
    """The documented steps of sealing, on the standard library and AES-GCM alone."""
    salt = hmac.digest(DERIVED["hedge"], vector["random"] + vector["associated_data"] + vector["fingerprint"], "sha256")
    extracted, derived, last = hmac.digest(salt, secret, "sha256"), b"", b""
    for step in (b"\x01", b"\x02", b"\x03"):
        last = hmac.digest(extracted, last + step, "sha256")
        derived += last
    key, nonce, commitment = derived[:32], derived[32:44], derived[44:76]
    return salt + commitment + AESGCM(key).encrypt(nonce, vector["plaintext"], vector["associated_data"])


@pytest.mark.usefixtures("_both_ways")
def test_block_is_that_of_the_vectors(open_block: Open) -> None:
    sealer = Sealer(KEY, SLOT, fixed(BLOCK["random"]))
    assert seal(sealer, DATA_ID, CHUNK, BLOCK["plaintext"]) == BLOCK["sealed"]
    assert open_block(SEALER, DATA_ID, CHUNK, BLOCK["sealed"]) == BLOCK["plaintext"]


def test_table_is_that_of_the_vectors() -> None:
    sealer = Sealer(KEY, SLOT, fixed(TABLE["random"]))
    assert sealer.seal_table(ADDRESS, TABLE["header"], TABLE["plaintext"]) == TABLE["sealed"]
    assert SEALER.open_table(ADDRESS, TABLE["header"], TABLE["sealed"]) == TABLE["plaintext"]


def test_block_and_table_follow_the_documented_steps() -> None:
    store_id = DERIVED[f"store/{SLOT}"]
    number = CHUNK.to_bytes(8, "little")
    assert BLOCK["associated_data"] == b"ANTHILL\x01" + b"block\0\0\0" + store_id + DATA_ID + number
    assert TABLE["associated_data"] == b"ANTHILL\x01" + b"table\0\0\0" + store_id + bytes.fromhex(ADDRESS) + TABLE["header"]
    assert by_the_book(DERIVED["data"], BLOCK) == BLOCK["sealed"]
    assert by_the_book(DERIVED["table"], TABLE) == TABLE["sealed"]


def test_fingerprint_and_digest_are_those_of_the_vectors() -> None:
    for vector in (BLOCK, TABLE):
        assert SEALER.fingerprint(vector["plaintext"]) == vector["fingerprint"]
        assert blake3(vector["plaintext"], key=DERIVED["fingerprint"]).digest()[:16] == vector["fingerprint"]
    data, digest = (bytes.fromhex(VECTORS["image_digest"][name]) for name in ("data", "digest"))
    assert image_digest(data) == digest == blake3(data).digest()[:16]


def test_fingerprint_tells_nothing_without_the_key() -> None:
    assert Sealer(MasterKey.generate(), SLOT).fingerprint(b"guess") != SEALER.fingerprint(b"guess")


def test_any_kind_of_buffer_gives_the_same_bytes() -> None:
    data = os.urandom(5000)
    for buffer in (bytearray(data), memoryview(data), memoryview(bytearray(b"xx" + data))[2:]):
        assert SEALER.fingerprint(buffer) == SEALER.fingerprint(data)
        assert image_digest(buffer) == image_digest(data)
        sealer = Sealer(KEY, SLOT, fixed(BLOCK["random"]))
        assert seal(sealer, DATA_ID, 1, buffer) == seal(sealer, DATA_ID, 1, data)


# -- what is sealed opens again


@settings(max_examples=60, deadline=None, print_blob=True)
@given(
    plaintext=st.binary(max_size=3000),
    data_id=st.binary(min_size=16, max_size=16),
    chunk=st.integers(0, 2**64 - 1),
    slot=st.integers(0, 2**31),
)
def test_a_block_opens_to_exactly_what_was_sealed(plaintext: bytes, data_id: bytes, chunk: int, slot: int) -> None:
    sealer = Sealer(KEY, slot)
    sealed = seal(sealer, data_id, chunk, plaintext)
    assert len(sealed) == len(plaintext) + OVERHEAD
    assert open_new(sealer, data_id, chunk, sealed) == plaintext
    assert open_into(sealer, data_id, chunk, memoryview(sealed)) == plaintext


@settings(max_examples=40, deadline=None, print_blob=True)
@given(plaintext=st.binary(max_size=3000), header=st.binary(min_size=32, max_size=32))
def test_a_table_opens_to_exactly_what_was_sealed(plaintext: bytes, header: bytes) -> None:
    sealed = SEALER.seal_table(ADDRESS, header, plaintext)
    assert len(sealed) == len(plaintext) + OVERHEAD
    assert SEALER.open_table(ADDRESS, header, memoryview(sealed)) == plaintext


def test_sealing_writes_its_own_bytes_only() -> None:
    buffer = bytearray(b"\xee" * 200)
    assert SEALER.seal_block(DATA_ID, 0, bytes(20), bytes(16), memoryview(buffer)[10:]) == 100
    assert buffer[:10] == b"\xee" * 10
    assert buffer[110:] == b"\xee" * 90
    assert SEALER.open_block(DATA_ID, 0, buffer[10:110]) == bytes(20)


@pytest.mark.usefixtures("_both_ways")
def test_a_buffer_that_is_too_small_is_an_error() -> None:
    with pytest.raises(ValueError):
        SEALER.seal_block(DATA_ID, 0, bytes(20), bytes(16), memoryview(bytearray(99)))
    with pytest.raises(ValueError):
        SEALER.open_block_into(DATA_ID, CHUNK, BLOCK["sealed"], memoryview(bytearray(3)))


def test_one_sealer_serves_many_threads() -> None:
    gate = threading.Barrier(8)

    def work(thread: int) -> list[bytes]:
        gate.wait(30)
        return [seal(SEALER, DATA_ID, chunk, b"%d/%d" % (thread, chunk)) for chunk in range(50)]

    with ThreadPoolExecutor(8) as pool:
        sealed = list(pool.map(work, range(8)))
    for thread, blocks in enumerate(sealed):
        opened = [SEALER.open_block(DATA_ID, chunk, block) for chunk, block in enumerate(blocks)]
        assert opened == [b"%d/%d" % (thread, chunk) for chunk in range(50)]


# -- nothing else opens


def test_every_flipped_bit_of_a_block_is_reported(open_block: Open) -> None:
    for bit in range(len(BLOCK["sealed"]) * 8):
        changed = bytearray(BLOCK["sealed"])
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(BlockDamaged, match=f"block {CHUNK} of data {DATA_ID.hex()}"):
            open_block(SEALER, DATA_ID, CHUNK, changed)


def test_a_shortened_or_extended_block_is_reported(open_block: Open) -> None:
    whole = BLOCK["sealed"]
    for changed in [*(whole[:length] for length in range(len(whole))), whole + b"\0", b"\0" + whole, whole + whole]:
        with pytest.raises(BlockDamaged):
            open_block(SEALER, DATA_ID, CHUNK, changed)


def test_a_block_opens_under_its_own_name_only(open_block: Open) -> None:
    other_id = bytes(15) + b"\1"
    for sealer, data_id, chunk in (
        (SEALER, other_id, CHUNK),
        (SEALER, DATA_ID, CHUNK + 1),
        (Sealer(KEY, SLOT + 1), DATA_ID, CHUNK),
        (Sealer(MasterKey.generate(), SLOT), DATA_ID, CHUNK),
    ):
        with pytest.raises(BlockDamaged):
            open_block(sealer, data_id, chunk, BLOCK["sealed"])


def test_every_flipped_bit_of_a_table_or_its_header_is_reported() -> None:
    header, sealed = TABLE["header"], TABLE["sealed"]
    for bit in range(len(header + sealed) * 8):
        changed = bytearray(header + sealed)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(BlockDamaged, match=ADDRESS):
            SEALER.open_table(ADDRESS, bytes(changed[: len(header)]), changed[len(header) :])


def test_a_table_opens_at_its_own_pad_only() -> None:
    for sealer, address in (
        (SEALER, KEY.pad(SLOT, 8).address),
        (Sealer(KEY, SLOT + 1), ADDRESS),
        (Sealer(MasterKey.generate(), SLOT), ADDRESS),
    ):
        with pytest.raises(BlockDamaged):
            sealer.open_table(address, TABLE["header"], TABLE["sealed"])


@pytest.mark.usefixtures("_both_ways")
def test_what_does_not_verify_leaves_no_plaintext_in_the_buffer() -> None:
    plaintext, out = b"secret words " * 50, memoryview(bytearray(700))
    damaged = bytearray(seal(SEALER, DATA_ID, 0, plaintext))
    damaged[-1] ^= 1
    with pytest.raises(BlockDamaged):
        SEALER.open_block_into(DATA_ID, 0, damaged, out)
    assert bytes(out) == bytes(700)


def test_names_of_the_wrong_length_are_refused_rather_than_cut_or_padded() -> None:
    for data_id in (b"", bytes(15), bytes(17)):
        with pytest.raises(InvalidArgument):
            seal(SEALER, data_id, 0, b"x")
        with pytest.raises(InvalidArgument):
            SEALER.open_block(data_id, 0, BLOCK["sealed"])
    with pytest.raises(InvalidArgument):
        SEALER.seal_table(ADDRESS[:-2], TABLE["header"], b"x")


# -- salts


def test_no_two_seals_share_a_salt() -> None:
    assert len({seal(SEALER, DATA_ID, 0, b"same")[:32] for _ in range(500)}) == 500


def test_with_a_broken_random_source_different_things_still_get_different_salts() -> None:
    sealer = Sealer(KEY, SLOT, fixed(bytes(32)))
    things = [(DATA_ID, 0, b"a"), (DATA_ID, 0, b"b"), (DATA_ID, 1, b"a"), (bytes(16), 0, b"a")]
    salts = {seal(sealer, *thing)[:32] for thing in things}
    salts |= {Sealer(KEY, SLOT + 1, fixed(bytes(32))).seal_table(ADDRESS, bytes(32), b"a")[:32]}
    for address, header, plaintext in ((ADDRESS, bytes(32), b"a"), (ADDRESS, bytes(32), b"b"), (ADDRESS, b"h" * 32, b"a")):
        salts.add(sealer.seal_table(address, header, plaintext)[:32])
    assert len(salts) == len(things) + 4


# -- secrets stay where they are


def test_a_sealer_does_not_pickle_and_shows_no_key() -> None:
    with pytest.raises(TypeError, match="does not pickle"):
        pickle.dumps(SEALER)
    assert KEY.data_key().hex() not in repr(SEALER)


def test_sealed_bytes_hold_no_plaintext() -> None:
    plaintext = os.urandom(64)
    for sealed in (seal(SEALER, DATA_ID, 0, plaintext), SEALER.seal_table(ADDRESS, bytes(32), plaintext)):
        assert not [at for at in range(57) if plaintext[at : at + 8] in sealed]
