"""The index in memory: packed blocks, and at most 700 bytes of each."""

from __future__ import annotations

import gc
import random
import tracemalloc
from collections.abc import Callable

import pytest

from anthill_sync.index import MasterIndex, PadStatus
from anthill_sync.lines import load_snapshot, snapshot_lines
from anthill_sync.memory_map import WHOLE_PAD
from anthill_sync.packing import decode, encode
from anthill_sync.takeover import map_of
from anthill_sync.values import BLOCK, Block, BlockList, Pending, Span, Value, replaced, spans_of

from .index_records import FULL, PAD_SIZE, A, B, C, block, committed, index_of, publish


def test_block_lists_keep_absent_chunks_absent() -> None:
    blocks = BlockList()
    blocks.set(3, Block(1, 32, 100, A, b"f" * 16))
    blocks.set(1, Block(2, 32, 100, B, b"g" * 16))
    assert (len(blocks), blocks.done()) == (4, 2)
    assert [blocks.get(chunk) is not None for chunk in range(6)] == [False, True, False, True, False, False]
    blocks.clear(1)
    assert [chunk for chunk, _ in blocks.blocks()] == [3]
    packed, ids = blocks.packed()
    assert (len(packed), ids) == (4 * BLOCK.size, A + B)


def test_blocks_can_be_added_while_another_thread_looks_at_those_that_are_there() -> None:
    """A put commits its blocks while somebody asks what is pending."""
    blocks = BlockList()
    for chunk in (0, 1):
        blocks.set(chunk, Block(1, 32, 100, A, b"f" * 16))
    looking = blocks.blocks()
    assert next(looking)[0] == 0
    blocks.set(2, Block(2, 32, 100, B, b"g" * 16))
    assert [chunk for chunk, _ in looking] == [1]
    assert blocks.done() == 3


class Finalized:
    """Garbage whose finalizer acts, as that of a connection does, which lets other threads run."""

    def __init__(self, act: Callable[[], object]) -> None:
        self.act, self.itself = act, self

    def __del__(self) -> None:
        self.act()


def test_blocks_grow_while_another_thread_looks_at_one_even_when_garbage_is_collected_then() -> None:
    """Before Python 3.12 it is collected in the middle of an unpacking, whose bytes could not grow."""
    blocks, failed = BlockList(), list[BufferError]()
    blocks.set(0, Block(0, 32, 100, A, b"f" * 16))

    def grow() -> None:
        try:
            blocks.set(len(blocks), Block(1, 32, 100, A, b"f" * 16))
        except BufferError as error:
            failed.append(error)

    before = gc.get_threshold()
    held: list[object] = [(each, 1, 2, 3, 4) for each in range(3000)]  # Python keeps no more such tuples for later use
    try:
        gc.set_threshold(1)
        for number in range(300):
            held += [[] for _ in range(number % 3)]  # moves the moment of the next collection
            Finalized(grow)
            held.append(blocks.get(0))
    finally:
        gc.set_threshold(*before)
    assert not failed
    assert len(blocks) > 100
    assert held[-1] == Block(0, 32, 100, A, b"f" * 16)


def blocks_of(*ids: bytes | None) -> BlockList:
    """A block per data id in pads of their own; None: absent."""
    blocks = BlockList()
    for chunk, data_id in enumerate(ids):
        if data_id is not None:
            blocks.set(chunk, Block(chunk, 32, 100, data_id, b"f" * 16))
    return blocks


def test_a_part_of_a_block_list_knows_only_the_data_ids_it_uses() -> None:
    blocks = blocks_of(A, B, None, C, A)
    part = blocks.without([(0, 1)], 4)
    assert [(chunk, block.data_id) for chunk, block in part.blocks()] == [(1, B), (3, C)]
    assert part.packed() == (bytes(32) + blocks_of(None, B, None, C).packed()[0][32:], B + C)
    assert blocks.packed()[1] == A + B + C, "the list itself is as it was"
    assert blocks_of(A, A).without([], 1).packed() == blocks_of(A).packed()
    assert blocks_of(A, A).without([(0, 2)], 2).packed()[1] == b""
    assert blocks.without([], 5).packed() == blocks.packed()


def test_replaced_blocks_are_those_that_lie_elsewhere_now() -> None:
    before, after = blocks_of(A, None, B, C), blocks_of(B, C, B)
    after.set(0, Block(7, 32, 100, C, b"f" * 16))
    assert replaced(before.packed()[0], after.packed()[0]) == [(0, 32, 100), (3, 32, 100)]
    assert replaced(before.packed()[0], before.packed()[0]) == []
    assert replaced(before.packed()[0], b"") == [(0, 32, 100), (2, 32, 100), (3, 32, 100)]


def test_spans_join_neighbours_of_one_attempt() -> None:
    assert spans_of([A, A, B, A]) == [Span(A, 0, 2), Span(B, 2, 1), Span(A, 3, 1)]
    assert spans_of([]) == []


def test_bytes_in_records_come_back() -> None:
    for size in range(50):
        data = random.Random(size).randbytes(size)
        assert decode(encode(data)) == data
        assert "=" not in encode(data)


def bytes_of(build: Callable[[], object]) -> float:
    """Bytes that live on after ``build``, while its result does."""
    tracemalloc.start()
    try:
        kept = build()
        size, _ = tracemalloc.get_traced_memory()
        assert kept is not None
        return size
    finally:
        tracemalloc.stop()


def many_small(count: int) -> MasterIndex:
    """Values of one block each, ten to a pad."""
    index = index_of(pads=count // 10 + 1)
    for pad in range(index.pads):
        index.apply(committed(pad))
    for number in range(count):
        data_id = number.to_bytes(16, "little")
        index.apply(publish(f"report/2026/{number:06}", number + 1, number // 10, [block(data_id, 0, 32 + number % 10 * 100)]))
    return index


def one_big(count: int) -> MasterIndex:
    """One value of full chunks, a pad each."""
    index = index_of(["begin", "big", encode(A), count, None, 7, None], pads=count + 1)
    index.pending_uploads["big"].blocks = BlockList(b"".join(BLOCK.pack(n, 32, FULL, 0, b"f" * 16) for n in range(count)), [A])
    index.status[:] = bytes([PadStatus.COMMITTED]) * len(index.status)
    index.apply(publish("big", 1, count, None, chunks=count))
    return index


@pytest.mark.parametrize(("build", "count"), [(many_small, 100_000), (one_big, 200_000)])
def test_the_index_takes_at_most_700_bytes_per_block(build: Callable[[int], MasterIndex], count: int) -> None:
    data = b"".join(snapshot_lines(build(count)))
    assert bytes_of(lambda: load_snapshot(data, "index.json")) / count <= 700


@pytest.mark.parametrize(("build", "count"), [(many_small, 20_000), (one_big, 20_000)])
def test_the_memory_map_takes_less_than_the_index(build: Callable[[int], MasterIndex], count: int) -> None:
    index = build(count)
    assert bytes_of(lambda: map_of(index, PAD_SIZE, WHOLE_PAD)) / count <= 450


def test_values_and_pending_puts_are_plain_data() -> None:
    value = Value(5, 1, 7, None, 0, A, BLOCK.pack(0, 32, 100, 0, b"f" * 16))
    assert (value.chunks, value.pads()) == (1, 1)
    assert [chunk for chunk, _ in value.range(0, 1)] == [0]
    pending = Pending([A], None, None, 7)
    assert (pending.blocks.done(), pending.manifest) == (0, None)
