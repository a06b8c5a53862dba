"""The memory map: the arrows a pad moves along, what check finds, and the map that the index implies."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from anthill_sync import Store
from anthill_sync.errors import IndexDamaged
from anthill_sync.index import MasterIndex
from anthill_sync.memory_map import WHOLE_PAD, Kind, MemoryMap, Placement
from anthill_sync.packing import encode
from anthill_sync.settings import FRESH_WINDOW
from anthill_sync.space import HEADER_SIZE, Space
from anthill_sync.takeover import map_of

PAD_SIZE = 16 * 1024
LONGEST = 6000  # sealed bytes of the longest block here
Manifest = tuple[str, int]


def fresh_map(pads: int = 4, limit: int = WHOLE_PAD) -> MemoryMap:
    memory_map = MemoryMap(PAD_SIZE, limit)
    memory_map.extend(pads)
    for pad in range(pads):
        memory_map.reserved(pad)
    return memory_map


def shared(memory_map: MemoryMap, *lengths: int, manifest: int = 100) -> tuple[int, list[Placement]]:
    """A pad with committed blocks of these lengths, and a manifest with each."""
    placements = [
        memory_map.place(length, (bytes(16), chunk), (f"k{chunk}", 1), manifest) for chunk, length in enumerate(lengths)
    ]
    space = placements[0].space
    pad = memory_map.take()
    assert pad is not None
    memory_map.bind(space, pad)
    slots = [placement.slot for placement in placements if placement.slot is not None]
    memory_map.commit(space, slots, [placement.manifest for placement in placements if placement.manifest is not None])
    return pad, placements


def test_freed_neighbours_become_one_extent_that_is_used_again() -> None:
    memory_map = fresh_map()
    pad, placements = shared(memory_map, 1000, 1000, 1000, 1000)
    slots = [placement.slot for placement in placements if placement.slot is not None]
    for slot in (slots[0], slots[2], slots[1]):  # the last one joins both others
        memory_map.free(pad, slot.offset, slot.length)
    assert memory_map.spaces[pad].gaps == [(HEADER_SIZE, 3000)]
    again = memory_map.place(3000, (bytes(16), 9), None, 0)
    assert again.slot is not None
    assert (again.space.number, again.slot.offset) == (pad, HEADER_SIZE)


def test_a_pad_over_its_rewrite_limit_is_closed_and_its_gaps_are_no_free_space() -> None:
    memory_map = fresh_map(limit=3000)
    pad, placements = shared(memory_map, 1000, 1000, 1000)
    assert not memory_map.is_open(placements[0].space)
    assert memory_map.place(200, (bytes(16), 9), None, 0).space is not placements[0].space
    slot = placements[1].slot
    assert slot is not None
    memory_map.free(pad, slot.offset, slot.length)
    assert memory_map.is_open(placements[0].space)  # 2 x 1032 live bytes and three manifests of 100


def test_no_write_starts_more_than_64_above_the_lowest_never_written_pad() -> None:
    memory_map = fresh_map(200)
    taken = [pad for _ in range(200) if (pad := memory_map.take()) is not None]
    assert taken == list(range(FRESH_WINDOW + 1))
    memory_map.fill(3)
    assert memory_map.take() is None  # pad 0 is still not written
    for pad in (0, 1, 2):
        memory_map.fill(pad)
    assert [memory_map.take() for _ in range(5)] == [65, 66, 67, 68, None]


def test_an_extent_that_is_not_live_cannot_be_freed() -> None:
    memory_map = fresh_map()
    pad, placements = shared(memory_map, 1000)
    with pytest.raises(AssertionError):
        memory_map.free(pad, HEADER_SIZE, 999)
    with pytest.raises(KeyError):
        memory_map.free(pad, HEADER_SIZE + 1, 1000)
    planned = memory_map.place(500, (bytes(16), 9), None, 0)
    assert planned.slot is not None
    assert planned.space is placements[0].space
    with pytest.raises(AssertionError):
        memory_map.free(pad, planned.slot.offset, 500)


def test_a_pad_in_doubt_takes_nothing_more_and_is_not_handed_out_when_it_empties() -> None:
    memory_map = fresh_map(2)
    pad, placements = shared(memory_map, 1000)
    space, slot = placements[0].space, placements[0].slot
    space.busy = True
    memory_map.block(pad)
    assert memory_map.place(100, (bytes(16), 9), None, 0).space is not space
    assert slot is not None
    memory_map.free(pad, slot.offset, slot.length)
    memory_map.free_manifest(pad, "k0", 1)
    memory_map.rest(space)
    assert memory_map.kinds[pad] == Kind.BLOCKED
    assert [memory_map.take(), memory_map.take()] == [1, None]


@pytest.mark.parametrize("step", ["reserved", "give_back", "fill", "blank", "free_full", "block"])
def test_a_pad_moves_along_its_arrows_only(step: str) -> None:
    memory_map = fresh_map()
    with pytest.raises(AssertionError, match="FRESH"):
        getattr(memory_map, step)(0)


def _overlap(space: Space) -> None:
    slot = space.slots[HEADER_SIZE]
    slot.length += 1


def _lost_gap(space: Space) -> None:
    space.drop(space.slots[HEADER_SIZE])
    space.gaps.clear()


def _wrong_table(space: Space) -> None:
    space.table -= 1


def _wrong_resend(space: Space) -> None:
    space.resend += 1


def _wrong_end(space: Space) -> None:
    space.end += 8


def _wrong_number(space: Space) -> None:
    space.number = 3


def _too_long(space: Space) -> None:
    space.manifests["big", 1] = PAD_SIZE
    space.table += PAD_SIZE


@pytest.mark.parametrize("damage", [_overlap, _lost_gap, _wrong_table, _wrong_resend, _wrong_end, _wrong_number, _too_long])
def test_check_finds_planted_damage(damage: Callable[[Space], None]) -> None:
    memory_map = fresh_map()
    pad, placements = shared(memory_map, 1000, 1000)
    assert list(memory_map.check()) == []
    damage(placements[0].space)
    assert pad in {found for found, _ in memory_map.check()}


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind != Kind.SHARED])
def test_check_finds_a_pad_of_the_wrong_kind(kind: Kind) -> None:
    memory_map = fresh_map()
    pad, _ = shared(memory_map, 1000)
    memory_map.kinds[pad] = kind
    assert [found for found, _ in memory_map.check()] == [pad]


def test_check_finds_a_shared_pad_that_holds_nothing() -> None:
    memory_map = fresh_map()
    pad, _ = shared(memory_map, 1000)
    del memory_map.spaces[pad]
    assert [found for found, _ in memory_map.check()] == [pad]


# -- the map that the index implies


def committed_index(*extents: tuple[int, int, int]) -> MasterIndex:
    """An index whose value of one chunk each lies at these extents."""
    index = MasterIndex()
    pads = {pad for pad, _, _ in extents}
    index.apply(["reserving", 0, max(pads)])
    for pad in sorted(pads):
        index.apply(["reserved", pad])
        index.apply(["committed", pad, 1, encode(bytes(16)), [], [], None, 0])
    for number, (pad, offset, length) in enumerate(extents):
        block = [encode(bytes([number]) * 16), 0, offset, length, encode(bytes(16))]
        index.apply(["publish", f"k{number}", 5, number + 1, 0, None, pad, [block], [], 1])
    return index


@pytest.mark.parametrize(
    "extents",
    [
        [(0, 32, 100), (0, 100, 100)],
        [(0, 32, 100), (0, 32, 100)],
        [(0, 31, 100)],
        [(0, 32, 80)],
        [(0, PAD_SIZE - 150, 100)],
        [(0, 32, PAD_SIZE - 1024 + 80), (0, 32, 100)],
        [(0, 32, 100), (0, 32, PAD_SIZE - 1024 + 80)],
    ],
    ids=["overlap", "same place", "in the header", "shorter than a seal", "in the table", "in a full pad", "a full one over it"],
)
def test_an_index_that_gives_bytes_two_owners_is_damaged(extents: list[tuple[int, int, int]]) -> None:
    with pytest.raises(IndexDamaged, match="contradicts itself"):
        map_of(committed_index(*extents), PAD_SIZE, WHOLE_PAD)


def picture(memory_map: MemoryMap) -> dict[str, Any]:
    """Everything a map decides by."""
    spaces = {
        pad: (
            {o: (s.length, s.data_id, s.chunk, s.live) for o, s in space.slots.items()},
            (space.gaps, space.end, space.table, space.resend),
            (space.manifests, space.live_manifests, memory_map.is_open(space)),
        )
        for pad, space in memory_map.spaces.items()
    }
    return {"kinds": list(memory_map.kinds), "written": list(memory_map.written), "spaces": spaces}


@pytest.mark.parametrize("limit", [0, 6000, PAD_SIZE])
def test_the_map_rebuilt_from_the_index_equals_the_one_that_was_kept(tmp_path: Path, limit: int) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    with Store.create(tmp_path / "home", network="memory://", pad_size=PAD_SIZE, settings={"rewrite_limit": limit}) as store:
        allocator = store._session.allocator
        for _ in range(40):
            _change(store, chance)
            rebuilt = map_of(store._session.journal.index, PAD_SIZE, limit)
            assert picture(allocator.supply.map) == picture(rebuilt)
            assert list(allocator.check()) == []


def _change(store: Store, chance: random.Random) -> None:
    key, other = chance.choice("abcdefgh"), chance.choice("abcdefgh")
    what = chance.random()
    if what < 0.5:
        store.put(key, chance.randbytes(chance.choice([0, 1, 700, 5000, 15_000, 40_000])))
    elif what < 0.65:
        store.put_many({f"{key}/{n}": chance.randbytes(chance.randrange(2000)) for n in range(5)})
    elif what < 0.8 and key in store:
        store.delete(key)
    elif what < 0.9 and key in store and key != other:
        store.rename(key, other, force=True)
    else:
        store.delete(*[f"{key}/{n}" for n in range(5)], ignore_missing=True)


def test_a_space_of_an_earlier_map_never_opens_in_this_one() -> None:
    old, new = MemoryMap(PAD_SIZE, WHOLE_PAD), MemoryMap(PAD_SIZE, WHOLE_PAD)
    for each in (old, new):
        each.extend(1)
        each.reserved(0)
    placed = old.place(200, (bytes(16), 0), ("key", 1), 100)
    pad = old.take()
    assert pad == 0
    old.bind(placed.space, pad)
    old.commit(placed.space, [placed.slot] if placed.slot else [], [("key", 1)])
    new.rest(placed.space)
    assert not new.is_open(placed.space)
    assert new.fits(200, 100) is None
