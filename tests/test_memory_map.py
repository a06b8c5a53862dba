"""The memory map: every byte of every pad is free or owned exactly once, whatever happens in whatever order."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from anthill_sync import Store
from anthill_sync.errors import IndexDamaged
from anthill_sync.index import MasterIndex, encode
from anthill_sync.memory_map import WHOLE_PAD, Kind, MemoryMap, Placement
from anthill_sync.settings import FRESH_WINDOW
from anthill_sync.space import ENTRY_SIZE, HEADER_SIZE, SEAL_OVERHEAD, TABLE_FIXED, Slot, Space
from anthill_sync.takeover import map_of

PAD_SIZE = 16 * 1024
LONGEST = 6000  # sealed bytes of the longest block here
Manifest = tuple[str, int]


@dataclass(eq=False)
class Model:
    """One shared pad as plain bytes: 0 is free, everything else names an owner."""

    space: Space
    bytes: bytearray = field(default_factory=lambda: bytearray(b"\xff" * HEADER_SIZE + bytes(PAD_SIZE - HEADER_SIZE)))
    slots: dict[int, tuple[int, bool]] = field(default_factory=dict)  # offset -> (length, live)
    manifests: dict[Manifest, tuple[int, bool]] = field(default_factory=dict)  # -> (table bytes, live)
    busy: bool = False
    blocked: bool = False
    retired: bool = False

    def own(self, offset: int, length: int) -> None:
        assert not any(self.bytes[offset : offset + length]), "planned over bytes that have an owner"
        self.bytes[offset : offset + length] = b"\1" * length
        self.slots[offset] = (length, False)

    def disown(self, offset: int) -> None:
        length, _ = self.slots.pop(offset)
        self.bytes[offset : offset + length] = bytes(length)

    @property
    def table(self) -> int:
        return TABLE_FIXED + ENTRY_SIZE * len(self.slots) + sum(size for size, _ in self.manifests.values())

    @property
    def resend(self) -> int:
        blocks = sum(length + ENTRY_SIZE for length, live in self.slots.values() if live)
        return blocks + sum(size for size, live in self.manifests.values() if live)

    @property
    def end(self) -> int:
        return len(bytes(self.bytes).rstrip(b"\0"))

    def gaps(self) -> list[tuple[int, int]]:
        """(offset, length) of every stretch of free bytes below the end, found byte by byte."""
        found, start = [], None
        for offset, owner in enumerate(self.bytes[: self.end]):
            if owner and start is not None:
                found.append((start, offset - start))
                start = None
            elif not owner and start is None:
                start = offset
        return found

    def left_over(self, length: int | None, manifest: int) -> int | None:
        """Bytes left in the gap that would be used; None when it does not fit."""
        room = PAD_SIZE - self.table - manifest - (ENTRY_SIZE if length is not None else 0) - self.end
        if length is None or room < 0:
            return room if room >= 0 else None
        inside = [size - length for _, size in self.gaps() if size >= length]
        if inside:
            return min(inside)
        return room - length if room >= length else None


class MapMachine(RuleBasedStateMachine):
    """Random operations on a MemoryMap, and the same on plain bytes and dictionaries."""

    @initialize(limit=st.sampled_from([0, 4000, WHOLE_PAD]))
    def begin(self, limit: int) -> None:
        self.limit = limit
        self.map = MemoryMap(PAD_SIZE, limit)
        self.kinds: list[Kind] = []
        self.written: list[bool] = []
        self.models: dict[int, Model] = {}  # by id(space)
        self.planned: list[Placement] = []
        self.count = 0
        self.more_pads(12, 0)

    # -- pads

    @rule(count=st.integers(1, 90), holes=st.integers(0, 3))
    def more_pads(self, count: int, holes: int) -> None:
        first = len(self.kinds)
        if first > 400:
            return
        self.map.extend(first + count)
        self.kinds += [Kind.UNRESERVED] * count
        self.written += [False] * count
        for pad in range(first + min(holes, count), first + count):
            self.map.reserved(pad)
            self.kinds[pad] = Kind.FRESH

    @rule(data=st.data())
    def reserve_late(self, data: st.DataObject) -> None:
        pad = self._some(data, Kind.UNRESERVED)
        if pad is not None:
            self.map.reserved(pad)
            self.kinds[pad] = Kind.FRESH

    @rule(times=st.integers(1, 40))
    def take(self, times: int) -> None:
        for _ in range(times):
            pad, expected = self.map.take(), self._expected()
            assert pad == expected
            if pad is None:
                return
            self.kinds[pad] = Kind.TAKEN

    @rule(data=st.data())
    def take_this(self, data: st.DataObject) -> None:
        if self.kinds:
            pad = data.draw(st.integers(0, len(self.kinds) - 1))
            assert self.map.take_empty(pad) == (self.kinds[pad] == Kind.EMPTY)
            if self.kinds[pad] == Kind.EMPTY:
                self.kinds[pad] = Kind.TAKEN

    @rule(data=st.data(), what=st.sampled_from(["give_back", "fill", "fill", "blank", "block"]))
    def finish_taken(self, data: st.DataObject, what: str) -> None:
        pad = self._some(data, Kind.TAKEN)
        if pad is None:
            return
        getattr(self.map, what)(pad)
        self.written[pad] |= what in ("fill", "blank")
        back = Kind.EMPTY if self.written[pad] else Kind.FRESH
        self.kinds[pad] = {"give_back": back, "fill": Kind.FULL, "blank": Kind.EMPTY, "block": Kind.BLOCKED}[what]

    @rule(data=st.data())
    def free_a_full_chunk(self, data: st.DataObject) -> None:
        pad = self._some(data, Kind.FULL)
        if pad is not None:
            self.map.free(pad, HEADER_SIZE, self.map.full_length)
            self.kinds[pad] = Kind.EMPTY

    # -- shared pads

    @rule(length=st.none() | st.integers(SEAL_OVERHEAD + 1, LONGEST), manifest=st.none() | st.integers(50, 2000))
    def place(self, length: int | None, manifest: int | None) -> None:
        if length is None and manifest is None:
            return
        self.count += 1
        name = None if manifest is None else (f"key{self.count % 5}", self.count)
        fitting = [over for m in self._open() if (over := m.left_over(length, manifest or 0)) is not None]
        before = {key: (model.left_over(length, manifest or 0), model.gaps()) for key, model in self.models.items()}
        placement = self.map.place(length, (bytes(16), self.count), name, manifest or 0)
        model = self.models.get(id(placement.space))
        if model is None:
            assert not fitting, "a new pad although the value fits into an open one"
            model = self.models[id(placement.space)] = Model(placement.space)
        else:
            over, gaps = before[id(placement.space)]
            assert over == min(fitting), "not the best fit"
            self._check_gap(placement.slot, gaps)
        if placement.slot is not None:
            assert length == placement.slot.length
            model.own(placement.slot.offset, placement.slot.length)
        if name is not None:
            model.manifests[name] = (manifest or 0, False)
        self.planned.append(placement)

    @rule(data=st.data())
    def bind(self, data: st.DataObject) -> None:
        waiting = [m for m in self.models.values() if not m.retired and m.space.number is None]
        pad = self._some(data, Kind.TAKEN)
        if pad is not None and waiting:
            model = data.draw(st.sampled_from(waiting))
            model.busy = model.space.busy = True
            self.map.bind(model.space, pad)
            self.kinds[pad] = Kind.SHARED

    @rule(lengths=st.lists(st.integers(SEAL_OVERHEAD + 1, LONGEST), min_size=1, max_size=6), size=st.integers(50, 300))
    def write(self, lengths: list[int], size: int) -> None:
        """The usual way of values: placed, bound, committed."""
        for length in lengths:
            self.place(length, size)
        for model in [m for m in self.models.values() if not m.retired and not m.blocked]:
            if model.space.number is None and (pad := self.map.take()) is not None:
                self.kinds[pad] = Kind.SHARED
                model.busy = model.space.busy = True
                self.map.bind(model.space, pad)
            if model.space.number is not None:
                self._commit(model, [p for p in self.planned if p.space is model.space])
                self.map.rest(model.space)
                model.busy = False
                self._settle(model)

    @rule(data=st.data())
    def begin_image(self, data: st.DataObject) -> None:
        model = self._model(data, lambda m: m.space.number is not None)
        if model is not None:
            model.busy = model.space.busy = True

    @rule(data=st.data())
    def commit(self, data: st.DataObject) -> None:
        model = self._model(data, lambda m: m.space.number is not None)
        if model is None:
            return
        mine = [p for p in self.planned if p.space is model.space]
        self._commit(model, [p for p in mine if data.draw(st.booleans())])

    def _commit(self, model: Model, chosen: list[Placement]) -> None:
        slots = [p.slot for p in chosen if p.slot is not None]
        manifests = [p.manifest for p in chosen if p.manifest is not None]
        self.map.commit(model.space, slots, manifests)
        for slot in slots:
            model.slots[slot.offset] = (slot.length, True)
        for name in manifests:
            model.manifests[name] = (model.manifests[name][0], True)
        self.planned = [p for p in self.planned if p not in chosen]
        assert model.space.number is not None
        self.written[model.space.number] = True
        self._settle(model)

    @precondition(lambda self: self.planned)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        placement = data.draw(st.sampled_from(self.planned))
        model = self.models[id(placement.space)]
        self.map.release(placement)
        self.planned.remove(placement)
        if placement.slot is not None:
            model.disown(placement.slot.offset)
        if placement.manifest is not None:
            del model.manifests[placement.manifest]
        self._settle(model)

    @rule(data=st.data())
    def free(self, data: st.DataObject) -> None:
        model = self._model(data, lambda m: any(live for _, live in m.slots.values()))
        if model is not None:
            offset = data.draw(st.sampled_from([offset for offset, (_, live) in model.slots.items() if live]))
            assert model.space.number is not None
            self.map.free(model.space.number, offset, model.slots[offset][0])
            model.disown(offset)
            self._settle(model)

    @rule(data=st.data())
    def free_manifest(self, data: st.DataObject) -> None:
        model = self._model(data, lambda m: any(live for _, live in m.manifests.values()))
        if model is not None:
            name = data.draw(st.sampled_from([name for name, (_, live) in model.manifests.items() if live]))
            assert model.space.number is not None
            self.map.free_manifest(model.space.number, *name)
            del model.manifests[name]
            self._settle(model)

    @rule(data=st.data())
    def free_a_manifest_nobody_knows(self, data: st.DataObject) -> None:
        if self.kinds:
            self.map.free_manifest(data.draw(st.integers(0, len(self.kinds) - 1)), "nobody", 1)

    @rule(data=st.data())
    def block_shared(self, data: st.DataObject) -> None:
        model = self._model(data, lambda m: m.space.number is not None and m.busy)
        if model is not None:
            assert model.space.number is not None
            self.map.block(model.space.number)
            model.blocked = True

    @rule(data=st.data())
    def rest(self, data: st.DataObject) -> None:
        if self.models:
            model = data.draw(st.sampled_from(list(self.models.values())))
            self.map.rest(model.space)
            model.busy = False
            self._settle(model)

    # -- what must hold after every step

    @invariant()
    def map_and_model_agree(self) -> None:
        assert list(self.map.check()) == []
        assert list(self.map.kinds) == self.kinds
        assert [bool(flag) for flag in self.map.written] == self.written
        for model in self.models.values():
            assert self.map.is_open(model.space) == (model in self._open())
            if not model.retired:
                self._check_space(model)

    @invariant()
    def counts_agree(self) -> None:
        low = self._low()
        window = [kind for kind in self.kinds[low : low + FRESH_WINDOW + 1] if kind == Kind.FRESH]
        assert self.map.available() == self.kinds.count(Kind.EMPTY) + len(window)
        assert self.map.free_pads() == self.kinds.count(Kind.EMPTY) + self.kinds.count(Kind.FRESH)
        assert self.map.lowest_unwritten() == low

    def _check_space(self, model: Model) -> None:
        space = model.space
        assert {offset: (slot.length, slot.live) for offset, slot in space.slots.items()} == model.slots
        assert {name: (size, name in space.live_manifests) for name, size in space.manifests.items()} == model.manifests
        assert (space.gaps, space.end) == (model.gaps(), model.end)
        assert (space.table, space.resend) == (model.table, model.resend)
        assert model.end + model.table <= PAD_SIZE, "more than a pad holds"

    # -- the model's own decisions

    def _open(self) -> list[Model]:
        return [m for m in self.models.values() if not (m.retired or m.blocked) and m.resend <= self.limit]

    def _low(self) -> int:
        return self.written.index(False) if False in self.written else len(self.written)

    def _expected(self) -> int | None:
        empty = [pad for pad, kind in enumerate(self.kinds) if kind == Kind.EMPTY]
        low = self._low()
        fresh = [pad for pad, kind in enumerate(self.kinds) if kind == Kind.FRESH and pad - low <= FRESH_WINDOW]
        return next(iter(empty + fresh), None)

    def _settle(self, model: Model) -> None:
        if not (model.slots or model.manifests or model.busy or model.retired):
            model.retired = True
            if model.space.number is not None:
                back = Kind.EMPTY if self.written[model.space.number] else Kind.FRESH
                self.kinds[model.space.number] = Kind.BLOCKED if model.blocked else back

    def _check_gap(self, slot: Slot | None, gaps: list[tuple[int, int]]) -> None:
        fitting = [size for _, size in gaps if slot is not None and size >= slot.length]
        if slot is not None and fitting:
            assert (slot.offset, min(fitting)) in gaps, "not the smallest gap that holds it"

    def _some(self, data: st.DataObject, kind: Kind) -> int | None:
        pads = [pad for pad, each in enumerate(self.kinds) if each == kind]
        return data.draw(st.sampled_from(pads)) if pads else None

    def _model(self, data: st.DataObject, wanted: Callable[[Model], bool]) -> Model | None:
        found = [m for m in self.models.values() if not m.retired and wanted(m)]
        return data.draw(st.sampled_from(found)) if found else None


MapMachine.TestCase.settings = settings(max_examples=120, stateful_step_count=50, deadline=None, print_blob=True)
TestMapAgainstPlainBytes = MapMachine.TestCase


# -- promises one by one


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
