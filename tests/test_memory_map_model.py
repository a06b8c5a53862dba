"""The memory map against plain bytes: every byte is free or owned exactly once, whatever happens in whatever order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from anthill_sync.memory_map import WHOLE_PAD, Kind, MemoryMap, Placement
from anthill_sync.settings import FRESH_WINDOW
from anthill_sync.space import ENTRY_SIZE, HEADER_SIZE, SEAL_OVERHEAD, TABLE_FIXED, Slot, Space

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
