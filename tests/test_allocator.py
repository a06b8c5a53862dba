"""``MemoryAllocator`` by itself: asking, allocating and writing are separate steps, and space is never given twice."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from anthill_sync.events import Event
from anthill_sync.index import MasterIndex
from anthill_sync.memory_map import Kind
from anthill_sync.sources import open_source
from tests.store_tools import CHUNK, PAD, StoreRig, chunks_of, names, permanent

pytest_plugins = ["tests.store_fixtures"]


def asked(rig: StoreRig, size: int) -> int | None:
    return rig.session.answer(lambda quiet: rig.session.allocator.check_allocation_possible(size))


def state(rig: StoreRig) -> tuple[Any, ...]:
    """All that an allocation could change."""
    memory_map = rig.session.allocator.supply.map
    spaces = {pad: (dict(space.slots), dict(space.manifests), list(space.gaps)) for pad, space in memory_map.spaces.items()}
    return bytes(memory_map.kinds), spaces, rig.index.sequence, dict(rig.faulty.calls)


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 7 * CHUNK, 7 * CHUNK + 5])
def test_asking_tells_the_pads_to_reserve_and_changes_nothing(rig: StoreRig, size: int) -> None:
    for prepare in (lambda: None, lambda: rig.store.reserve(2), lambda: rig.store.put("x", b"1"), lambda: rig.store.reserve(9)):
        prepare()
        rig.store.usage()
        before = state(rig)
        needed = asked(rig, size)
        assert state(rig) == before
        assert needed is None or needed > 0
    key = "k" * 64
    with rig.counting() as calls:
        rig.store.put(key, bytes(size))
    assert calls["reserve"] == (needed or 0)


def test_asking_and_putting_agree_on_random_stores(rig: StoreRig) -> None:
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    for _ in range(40):
        size = chance.choice([0, 10, 3000, CHUNK // 2, CHUNK, 3 * CHUNK + 100])
        needed = asked(rig, size) or 0
        key = f"{chance.randrange(10**63):064}"
        with rig.counting() as calls:
            rig.store.put(key, chance.randbytes(size))
        assert calls["reserve"] == needed
        if chance.random() < 0.4:
            rig.store.delete(chance.choice(list(rig.store)))


def test_allocate_and_write_are_two_steps_of_one_put(rig: StoreRig) -> None:
    events: list[Event] = []
    data = chunks_of(1, 2, 3) + b"rest"
    allocator = rig.session.allocator

    def in_two_steps(_: MasterIndex) -> bytes:
        data_id = allocator.allocate(len(data), key="a", attributes={"mode": 1})
        assert (len(data_id), "a" in rig.store) == (16, False)
        allocator.write(data_id, open_source(data), events.append)
        return data_id

    data_id = rig.session.mutate(["a"], in_two_steps)
    assert rig.store["a"] == data
    assert rig.store.stat("a").attributes == {"mode": 1}
    assert names(events)[-1] == "StoreComplete"
    assert {block.data_id for block in rig.index.values["a"].blocks()} == {data_id}


def test_a_stream_is_allocated_without_a_size(rig: StoreRig) -> None:
    allocator = rig.session.allocator

    def in_two_steps(_: MasterIndex) -> None:
        data_id = allocator.allocate(None, key="a")
        allocator.write(data_id, open_source(iter([chunks_of(1), b"rest"])))

    rig.session.mutate(["a"], in_two_steps)
    rig.assert_sound(a=chunks_of(1) + b"rest")


def test_data_ids_are_never_used_twice(rig: StoreRig) -> None:
    seen: set[bytes] = set()
    for number in range(30):
        rig.store["a"] = chunks_of(number) + bytes([number])
        ids = {block.data_id for block in rig.index.values["a"].blocks()}
        assert not ids & seen
        seen |= ids


def test_space_that_a_failed_put_planned_is_free_again(rig: StoreRig) -> None:
    rig.store["first"] = b"0"
    before = rig.store.usage().bytes
    for _ in range(5):
        rig.faulty.fail("read", permanent, times=10**6)
        rig.faulty.fail("write", permanent, times=10**6)
        with pytest.raises(Exception, match="the network says no"):
            rig.store.put("a", b"x" * 5000)
        rig.mend()
        rig.store["wake"] = b"1"
        rig.store.delete("wake")
    assert rig.store.usage().bytes.live == before.live
    rig.assert_sound(first=b"0")


@pytest.mark.parametrize("rest", [CHUNK - 700, CHUNK - 300, CHUNK - 1])
def test_a_remainder_too_large_to_share_with_its_manifest_takes_a_pad_of_its_own(
    rigs: Callable[..., StoreRig], rest: int
) -> None:
    rig, key = rigs("embedded"), "k" * 1024
    data = chunks_of(1, 2) + b"r" * rest
    entry = rig.store.put(key, data, attributes={"a": "x" * 1000})
    assert entry.transfer is not None
    assert entry.transfer.pads_written == 4
    value = rig.index.values[key]
    assert value.manifest_pad not in {block.pad for block in value.blocks()}
    rig.reopen()
    rig.assert_sound(**{key: data})
    remainder = list(value.blocks())[-1].pad
    assert rig.session.allocator.supply.map.kinds[remainder] == Kind.SHARED
    rig.store["small"] = b"s" * 100
    rig.store.delete(key)
    rig.assert_sound(small=b"s" * 100)
    assert rig.store.usage().pads.used == 1


def test_a_failed_put_of_such_a_remainder_resumes(rig: StoreRig) -> None:
    key, data = "k" * 1024, chunks_of(*range(30)) + b"r" * (CHUNK - 1)
    rig.faulty.fail("write", permanent, times=10**6, skip=25)
    with pytest.raises(Exception, match="the network says no"):
        rig.store.put(key, data)
    rig.mend()
    (pending,) = rig.store.pending()
    assert pending.total == 31
    with rig.counting() as calls:
        rig.store.put(key, data)
    assert calls["write"] == 31 - pending.done + 1
    rig.assert_sound(**{key: data})


def test_no_image_is_larger_than_a_pad(rig: StoreRig) -> None:
    sizes: list[int] = []
    rig.faulty.before("write", lambda seen: sizes.append(len(seen.image.data) if seen.image else 0))
    for number, size in enumerate([CHUNK, CHUNK - 1, 2 * CHUNK + 15000, 14000, 9000, 5000, 16000, 15200, 15300]):
        rig.store.put("k" * (1 + 120 * number), b"x" * size, attributes={"a": "y" * 100 * number})
    assert max(sizes) <= PAD
    rig.assert_sound()


def test_the_map_survives_a_restart_exactly(each: StoreRig) -> None:
    each.store.put_many({"a": chunks_of(1, 2) + b"rest", "b": b"small", "c": bytes(9000)})
    each.store.put("a", chunks_of(3))
    each.store.delete("b")
    each.store.reserve(2)
    before = each.store.usage()
    each.reopen()
    assert each.store.usage() == before


def test_a_store_without_pads_asks_for_none(rig: StoreRig) -> None:
    assert isinstance(rig.index, MasterIndex)
    usage = rig.store.usage()
    assert (usage.pads.total, usage.bytes.free, usage.fill) == (0, 0, b"")
    assert asked(rig, 0) == 1
