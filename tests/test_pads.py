"""Pads: whose image lies there, what of it is read, and how many images are remembered."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import pytest

from anthill_sync.errors import AnotherWriter, BlockDamaged, PadConflict, PadNotFound, RolledBack
from anthill_sync.image import TableEntry, finish_image
from anthill_sync.keys import MasterKey
from anthill_sync.networks.base import Image
from anthill_sync.networks.memory import MemoryNetwork
from anthill_sync.pads import UNKNOWN_DIGEST, Pads, StoredImage
from anthill_sync.sealing import OVERHEAD, Sealer, image_digest
from anthill_sync.space import HEADER_SIZE
from tests.support import FaultyNetwork, run_threads

PAD_SIZE = 16 * 1024
PAD = 7
A = b"a" * 16


class Bench:
    """Pads over a network in memory that counts its calls."""

    def __init__(self, **properties: Any) -> None:
        self.memory = MemoryNetwork(PAD_SIZE)
        self.memory._properties = replace(self.memory.properties, **properties)
        self.network = FaultyNetwork(self.memory)
        key = MasterKey.generate()
        self.sealer = Sealer(key, 0)
        self.pads = Pads(self.network, key, 0, self.sealer)

    def image(self, counter: int = 1, text: bytes = b"an ant", pad: int = PAD) -> bytes:
        buffer = memoryview(bytearray(PAD_SIZE))
        sealed = self.sealer.seal_block(A, 0, text, self.sealer.fingerprint(text), buffer[HEADER_SIZE:])
        length = finish_image(
            self.sealer,
            self.pads.name(pad).address,
            buffer,
            counter=counter,
            end=HEADER_SIZE + sealed,
            run_id=bytes(16),
            entries=[TableEntry(A, 0, HEADER_SIZE, sealed)],
            manifests=[],
        )
        return bytes(buffer[:length])

    def put(self, data: bytes, pad: int = PAD) -> bytes:
        """Lay bytes on the pad behind everybody's back; their digest."""
        self.memory.pads[self.pads.name(pad).address] = data
        return image_digest(data)


@pytest.fixture
def bench() -> Bench:
    return Bench()


# -- reading


def test_an_image_is_sent_whole_and_read_in_parts(bench: Bench) -> None:
    data = bench.image()
    bench.pads.send(PAD, Image(data, 1, image_digest(data)))
    assert bench.memory.pads == {bench.pads.name(PAD).address: data}
    sealed = bench.pads.read_extent((PAD, HEADER_SIZE, len(b"an ant") + OVERHEAD))
    assert bench.sealer.open_block(A, 0, sealed) == b"an ant"
    header, packed = bench.pads.read_header(PAD)
    assert header is not None
    assert bench.pads.read_table(PAD, header, packed).entries == [TableEntry(A, 0, HEADER_SIZE, 6 + OVERHEAD)]
    assert bench.network.calls == {"write": 1, "confirm": 1, "read": 3}


def test_a_reserved_pad_reads_as_nothing_and_an_unknown_one_is_not_found(bench: Bench) -> None:
    bench.network.reserve(bench.pads.name(PAD))
    assert bench.pads.read_header(PAD) == (None, b"")
    assert bench.pads.read_image(PAD) == (b"", None)
    with pytest.raises(PadNotFound):
        bench.pads.read_header(PAD + 1)


def test_a_pad_has_the_same_address_in_every_process_and_another_in_every_slot() -> None:
    key = MasterKey.generate()

    def address(slot: int, number: int) -> str:
        return Pads(MemoryNetwork(PAD_SIZE), key, slot, Sealer(key, slot)).name(number).address

    assert len({address(slot, number) for slot in (0, 1) for number in (0, 1)}) == 4
    assert address(1, 1) == address(1, 1)


def test_an_image_that_another_took_the_place_of_is_not_confirmed(bench: Bench) -> None:
    data = bench.image()
    bench.network.after("write", lambda seen: bench.put(b"APAD something else"))
    with pytest.raises(PadConflict):
        bench.pads.send(PAD, Image(data, 1, image_digest(data)))


# -- whose image is it


def test_the_image_the_index_knows_is_returned_with_its_table(bench: Bench) -> None:
    data = bench.image(3)
    digest = bench.put(data)
    stored, just_read = bench.pads.stored(PAD, 3, digest)
    assert (stored.data, stored.counter, just_read) == (data, 3, True)
    assert [entry.chunk for entry in stored.table.entries] == [0]


def test_a_higher_counter_is_another_writer_and_names_the_pad(bench: Bench) -> None:
    digest = bench.put(bench.image(4))
    with pytest.raises(AnotherWriter, match=r"pad 7 \(.*counter 4, ours is 3\); nothing was written") as caught:
        bench.pads.stored(PAD, 3, digest)
    assert (caught.value.exit_code, caught.value.context) == (76, {"pad": 7})


def test_a_lower_counter_is_a_pad_rolled_back(bench: Bench) -> None:
    digest = bench.put(bench.image(2))
    with pytest.raises(RolledBack, match="older") as caught:
        bench.pads.stored(PAD, 3, digest)
    assert caught.value.exit_code == 76


def test_an_emptied_pad_is_rolled_back(bench: Bench) -> None:
    bench.put(b"")
    with pytest.raises(RolledBack):
        bench.pads.stored(PAD, 1, UNKNOWN_DIGEST)


def test_other_bytes_under_the_right_counter_are_damage(bench: Bench) -> None:
    data = bench.image(3)
    digest = bench.put(data)
    for at in range(HEADER_SIZE, len(data)):
        bench.put(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        with pytest.raises(BlockDamaged):
            bench.pads.stored(PAD, 3, digest)


def test_after_a_recovery_the_counter_alone_decides_and_the_table_must_open(bench: Bench) -> None:
    data = bench.image(3)
    bench.put(data)
    assert bench.pads.stored(PAD, 3, UNKNOWN_DIGEST)[0].data == data
    bench.put(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(BlockDamaged):
        bench.pads.stored(PAD, 3, UNKNOWN_DIGEST)


def test_an_image_of_another_pad_is_not_taken_for_this_one(bench: Bench) -> None:
    bench.put(bench.image(3, pad=PAD + 1))
    with pytest.raises(BlockDamaged):
        bench.pads.stored(PAD, 3, UNKNOWN_DIGEST)


@pytest.mark.parametrize(("stored", "error"), [(3, None), (4, AnotherWriter), (2, RolledBack)])
def test_the_stored_counter_is_compared_before_every_replacement(
    bench: Bench, stored: int, error: type[Exception] | None
) -> None:
    bench.put(bench.image(stored))
    if error is None:
        bench.pads.check_unchanged(PAD, 3, A)
    else:
        with pytest.raises(error):
            bench.pads.check_unchanged(PAD, 3, A)
    assert bench.network.calls == {"read": 1}


def test_where_the_network_keeps_digests_another_image_of_the_same_counter_is_told_too() -> None:
    bench = Bench(keeps_digests=True)
    digest = bench.put(bench.image(3))
    bench.pads.check_unchanged(PAD, 3, digest)
    assert bench.network.calls == {"confirm": 1}
    bench.pads.check_unchanged(PAD, 3, UNKNOWN_DIGEST)
    for counter, error in ((3, AnotherWriter), (4, AnotherWriter), (2, RolledBack)):
        bench.put(bench.image(counter, b"another ant"))
        with pytest.raises(error):
            bench.pads.check_unchanged(PAD, 3, digest)


def test_nothing_is_compared_before_a_first_write_or_where_the_network_compares() -> None:
    first = Bench()
    first.pads.check_unchanged(PAD, 0, UNKNOWN_DIGEST)
    comparing = Bench(compares_counters=True)
    comparing.pads.check_unchanged(PAD, 3, A)
    assert not first.network.calls
    assert not comparing.network.calls


# -- remembered images


def remembered(bench: Bench, pad: int, counter: int = 3) -> bool:
    """True when the image is there without a read."""
    reads = bench.network.calls["read"]
    _, just_read = bench.pads.stored(pad, counter, UNKNOWN_DIGEST)
    assert just_read == (bench.network.calls["read"] > reads)
    return not just_read


def fill(bench: Bench, *pads: int, size: int = 0) -> None:
    for pad in pads:
        bench.put(bench.image(3, pad=pad), pad)
        stored, _ = bench.pads.stored(pad, 3, UNKNOWN_DIGEST)
        bench.pads.remember(pad, StoredImage(stored.data + bytes(size), 3, stored.table))


def test_a_remembered_image_is_not_read_again_until_its_counter_changes(bench: Bench) -> None:
    fill(bench, PAD)
    assert remembered(bench, PAD)
    bench.put(bench.image(4))
    assert not remembered(bench, PAD, 4)


def test_a_forgotten_image_is_read_again(bench: Bench) -> None:
    fill(bench, 1, 2)
    bench.pads.remember(1, None)
    assert (remembered(bench, 1), remembered(bench, 2)) == (False, True)
    bench.pads.forget_all()
    assert not remembered(bench, 2)


def test_remembered_images_take_at_most_one_pad_and_the_oldest_goes_first(bench: Bench) -> None:
    fill(bench, 1, 2, 3, size=5000)
    bench.pads.remember(1, bench.pads.stored(1, 3, UNKNOWN_DIGEST)[0])  # the youngest again
    fill(bench, 4, size=5000)
    assert [remembered(bench, pad) for pad in (1, 2, 3, 4)] == [True, False, True, True]
    assert sum(len(image.data) for image in bench.pads._cache.values()) <= PAD_SIZE


def test_the_bound_holds_with_many_threads(bench: Bench) -> None:
    fill(bench, 0)
    image = bench.pads.stored(0, 3, UNKNOWN_DIGEST)[0]
    big = StoredImage(bytes(3000), 3, image.table)
    start = threading.Barrier(8)

    def work(thread: int) -> int:
        start.wait()
        for pad in range(200):
            bench.pads.remember(pad * 8 + thread, big if pad % 3 else None)
        return thread

    run_threads([lambda thread=thread: work(thread) for thread in range(8)], threads=8)  # type: ignore[misc]
    assert sum(len(each.data) for each in bench.pads._cache.values()) <= PAD_SIZE
