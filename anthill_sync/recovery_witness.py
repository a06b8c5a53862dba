"""What this machine's files still say about a store: the index when it is sound, else what can be trusted of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path

from .errors import IndexDamaged
from .index import ImpossibleRecord, MasterIndex, Record
from .journal import JOURNAL_NAME, SNAPSHOT_NAME, Journal
from .lines import Salvaged, hinted_values, load_snapshot, salvage
from .memory_map import WHOLE_PAD
from .packing import decode
from .takeover import map_of
from .values import Block, Value


@dataclass
class Removal:
    """A key that a line says was removed or renamed."""

    highest: int  # version of anything before that line
    again: set[int] = field(default_factory=set)  # versions of the key that later lines name


@dataclass
class Later:
    """Facts of single lines behind the damage, in the order of their sequences."""

    highest: int  # version named so far
    counters: dict[int, tuple[int, bytes]] = field(default_factory=dict)  # pad -> counter and digest of its image
    removals: dict[str, Removal] = field(default_factory=dict)
    certain: set[str] = field(default_factory=set)  # of these: every line since is there
    published: dict[str, int] = field(default_factory=dict)  # key -> version
    waiting: dict[str, set[int]] = field(default_factory=dict)  # key -> versions of manifests of unpublished puts
    given_up: set[tuple[str, int]] = field(default_factory=set)  # (key, version) of manifests of abandoned puts
    values: dict[str, Value] = field(default_factory=dict)  # published by these lines, as far as they tell
    pads: int = 0  # numbers named

    def learn(self, record: Record) -> None:
        """Take in one record; the shapes are those of ``MasterIndex``."""
        name, *fields = record
        if name in ("committed", "adopted"):
            pad, counter, digest = fields[:3]
            self.counters[pad] = (counter, decode(digest).ljust(16, b"\0"))
            manifests = fields[4:5] if name == "committed" else fields[3:4]  # left out where there is none
            for key, version, *more in manifests[0] if manifests else ():
                self._named(key, version, waiting=bool(more and more[1]))
        elif name == "publish":
            self._publish(fields[0], fields[2])
            self.waiting.pop(fields[0], None)
        elif name == "rename":
            self._remove([fields[0]])
            self._publish(fields[1], fields[2])
        elif name == "remove":
            self._remove(fields[0])
        elif name == "abandon":
            for key in fields[0]:
                self.given_up.update((key, version) for version in self.waiting.pop(key, ()))

    def _named(self, key: str, version: int, *, waiting: bool) -> None:
        self.highest = max(self.highest, version)
        if waiting:
            self.waiting.setdefault(key, set()).add(version)
        if key in self.removals:
            self.removals[key].again.add(version)

    def _publish(self, key: str, version: int) -> None:
        self._named(key, version, waiting=False)
        self.published[key] = version

    def _remove(self, keys: list[str]) -> None:
        for key in keys:
            self.removals[key] = Removal(self.highest)
            self.certain.add(key)
            self.published.pop(key, None)
            self.waiting.pop(key, None)

    def hole(self) -> None:
        """Lines are missing here: what was removed before may have been put again."""
        self.certain.clear()


@dataclass
class Witness:
    """``base``: the index when ``damage`` is None, else its verified beginning, perhaps nothing."""

    base: MasterIndex
    damage: str | None = None
    later: Later = field(default_factory=lambda: Later(0))
    hints: dict[str, Value] = field(default_factory=dict)  # of a snapshot that does not verify
    run: int = 0  # highest number seen
    sequence: int = 0  # highest one seen

    @property
    def sound(self) -> bool:
        """The index always wins."""
        return self.damage is None

    @property
    def pads(self) -> int:
        """Pad numbers that were in use."""
        return max(self.base.pads, self.later.pads)

    def counter(self, pad: int) -> tuple[int, bytes]:
        """Counter and digest of the pad's last image that is known of; (0, zeros) without one."""
        known = (self.base.counters[pad], self.base.digest(pad)) if pad < self.base.pads else (0, bytes(16))
        return max(known, self.later.counters.get(pad, known), key=lambda pair: pair[0])

    def values(self) -> Iterator[tuple[str, Value]]:
        """Published versions that this machine knows of: key and value."""
        yield from self.later.values.items()
        yield from self.base.values.items()

    def known(self, key: str, chunk: int) -> Iterator[Block]:
        """What this machine knows of a chunk of ``key``."""
        for value in (self.later.values.get(key), self.base.values.get(key), self.hints.get(key)):
            if value is not None and chunk < value.chunks:
                yield next(value.range(chunk, chunk + 1))[1]
        pending = self.base.pending_uploads.get(key)
        block = pending.blocks.get(chunk) if pending else None
        if block is not None:
            yield block

    def removed(self, key: str, version: int) -> bool:
        """True when a line behind the damage says that this manifest's value is gone."""
        removal = self.later.removals.get(key)
        if (key, version) in self.later.given_up:
            return True
        if removal is None or version in removal.again:
            return False
        return key in self.later.certain or version <= removal.highest


def read_witness(home: Path, pad_size: int) -> Witness:
    """Read the index's files, changing nothing. ``UnknownFormat`` of a newer program's index is raised."""
    try:
        index = _load(home)
        witness = Witness(index, run=index.run, sequence=index.sequence)
    except IndexDamaged as error:
        witness = _salvaged(home, str(error))
    try:
        map_of(witness.base, pad_size, WHOLE_PAD)
    except IndexDamaged as error:
        return _distrusted(witness, witness.damage or str(error))
    return witness


def _load(home: Path) -> MasterIndex:
    """The index as any opening of the store finds it."""
    journal = Journal(home)
    try:
        journal.refresh()
    finally:
        journal.close()
    return journal.index


def _distrusted(witness: Witness, damage: str) -> Witness:
    """Without the values of an index that contradicts itself: the pads tell them. What it knows to be dead stays so."""
    index, later = witness.base, witness.later
    later.given_up.update((key, version) for key, places in index.stale.items() for _, version in places)
    for pad in range(index.pads):
        later.counters[pad] = witness.counter(pad)
    later.pads = max(later.pads, index.pads)
    hints = dict(index.values)
    return Witness(MasterIndex(), damage, later, hints, witness.run, witness.sequence)


def _salvaged(home: Path, damage: str) -> Witness:
    snapshot, journal = _bytes(home / SNAPSHOT_NAME), _bytes(home / JOURNAL_NAME)
    first, lines, whole_end = salvage(journal)
    base = _base(snapshot, first)
    hints = {} if base.values else hinted_values(snapshot)
    rest = _replay(base, lines)
    witness = Witness(base, damage, _later(base, rest, whole_end), hints, base.run, max(base.sequence, first or 0))
    for line in lines:
        witness.sequence = max(witness.sequence, line.sequence)
        witness.run = max([witness.run, *(record[1] for record in line.records if record[0] == "run")])
    return witness


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def _base(snapshot: bytes, first: int | None) -> MasterIndex:
    """The snapshot's index; an empty one when it does not verify (which it was, for a store's first journal)."""
    with suppress(IndexDamaged):
        return load_snapshot(snapshot, SNAPSHOT_NAME)
    nothing = MasterIndex()
    if first != 0:
        nothing.sequence = -1  # no line can follow what is not there
    return nothing


def _replay(base: MasterIndex, lines: list[Salvaged]) -> list[Salvaged]:
    """Apply the lines that follow ``base`` without a gap; those that are left."""
    previous: str | None = None
    for number, line in enumerate(lines):
        if 0 <= line.sequence <= base.sequence:
            previous = line.own
            continue
        fits = base.sequence >= 0 and line.sequence == base.sequence + 1 and previous in (None, line.previous)
        if not fits or not _apply(base, line):
            base.sequence = max(0, base.sequence)
            return lines[number:]
        previous = line.own
    base.sequence = max(0, base.sequence)
    return []


def _apply(base: MasterIndex, line: Salvaged) -> bool:
    """A line is applied as a whole: what a part of it did is told by the others of its records as well."""
    try:
        for record in line.records:
            base.apply(record)
    except ImpossibleRecord:
        return False
    base.sequence = line.sequence
    return True


def _later(base: MasterIndex, lines: list[Salvaged], whole_end: bool) -> Later:
    later = Later(max([base.run << 32, *(value.version for value in base.values.values())]))
    for key, pending in base.pending_uploads.items():
        if pending.manifest is not None:
            later.waiting[key] = {pending.manifest[1]}
    before: int | None = None
    for line in lines:
        if before is not None and line.sequence != before + 1:
            later.hole()
        before = line.sequence
        for record in line.records:
            with suppress(ValueError, TypeError, IndexError, KeyError):
                later.learn(record)
    if not whole_end:
        later.hole()
    index = _told(base, lines)
    later.pads = index.pads
    later.values = {key: value for key, value in index.values.items() if base.values.get(key) != value}
    return later


def _told(base: MasterIndex, lines: list[Salvaged]) -> MasterIndex:
    """The index that the lines would make of the base. Where lines are missing a value may be one that was, and a record
    that needs what they said is left out."""
    index = deepcopy(base)
    for line in lines:
        for record in line.records:
            with suppress(ImpossibleRecord):
                index.apply(record)
    return index
