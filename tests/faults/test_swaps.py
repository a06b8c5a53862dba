"""P5 against a storage that exchanges what it holds, or shows an older state of it: reported, or the right bytes; and a
writer that meets an older or another image stops before it overwrites anything."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import pytest

from anthill_sync import Store, durable

from .campaign import Campaign
from .damage import Damage
from .examine import ANOTHER, DAMAGED, Examiner, Seen, Subject
from .scenarios import CHUNK, ONE_THREAD, PAD, State, noise

Begin = Callable[..., AbstractContextManager[Campaign]]
BLOCKS = 40
SMALL = 27  # of them in shared pads
ROUNDS = 14  # mutations whose images are kept


class Place(NamedTuple):
    """Where a block lies."""

    key: str
    file: str
    offset: int
    length: int


@pytest.fixture(autouse=True)
def _no_power_loss(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, "anthill_sync")
    monkeypatch.setattr(durable, "sync", lambda fd: None)
    monkeypatch.setattr(durable, "sync_folder", lambda path: None)


@pytest.fixture
def subject(tmp_path: Path) -> Subject:
    Store.create(tmp_path / "home", pad_size=PAD, settings={**ONE_THREAD, "rewrite_limit": "12KiB"}).close()
    return Subject(tmp_path / "home")


def put(subject: Subject, values: State) -> None:
    subject.do(lambda store: store.put_many(values), **values)


def places(subject: Subject) -> list[Place]:
    """Of every block of every value."""
    with subject.open() as store:
        address = store._session.pads.name
        blocks = [(key, block) for key in store for block in store.stat(key).blocks or ()]
        names = [f"pads/{address(block.pad).address[:2]}/{address(block.pad).address}" for _, block in blocks]
    return [Place(key, name, block.offset, block.length) for (key, block), name in zip(blocks, names, strict=True)]


# -- blocks and pads change places


def with_forty_blocks(subject: Subject) -> list[Place]:
    """Small ones of a few lengths, and full chunks of values of one, two and three."""
    put(subject, {f"small/{number}": noise(f"small {number}", 500 + 10 * (number // 5)) for number in range(SMALL)})
    put(subject, {f"large/{number}": noise(f"large {number}", CHUNK * (1 + number % 3)) for number in range(7)})
    found = places(subject.finish())
    assert len(found) == BLOCKS
    return found


def exchanged(files: dict[str, bytes], one: Place, two: Place) -> dict[str, bytes | None]:
    """The files after each of two blocks was written to the other's place, cut or followed by zeros where it does not fit."""
    changed: dict[str, bytes | None] = {}
    for source, target in ((one, two), (two, one)):
        block = files[source.file][source.offset : source.offset + source.length][: target.length].ljust(target.length, b"\0")
        data = changed.get(target.file) or files[target.file]
        changed[target.file] = data[: target.offset] + block + data[target.offset + target.length :]
    return changed


def test_two_blocks_that_change_places_are_both_reported(subject: Subject, campaign: Begin) -> None:
    found = with_forty_blocks(subject)

    def expect(damage: Damage, seen: Seen) -> State:
        assert seen.values is not None
        unread = subject.now.keys() - seen.values.keys()
        assert unread == swapped[str(damage.where)], f"unreadable: {sorted(unread)}"
        return subject.now

    with campaign("swaps and rollback", "blocks", short=780, long=780) as run:
        swapped = {f"{one} and {two}": {one.key, two.key} for one, two in combinations(found, 2)}
        damages = (
            Damage(
                "blocks of one pad" if one.file == two.file else "blocks of two pads",
                exchanged(subject.files, one, two),
                f"{one} and {two}",
            )
            for one, two in combinations(found, 2)
        )
        Examiner(run, subject, {DAMAGED}).examine(damages, expect)


def test_two_pads_that_change_places_are_reported(subject: Subject, campaign: Begin) -> None:
    found = with_forty_blocks(subject)
    files = sorted({place.file for place in found})

    def expect(damage: Damage, seen: Seen) -> State:
        spoiled = {place.key for place in found if place.file in damage.files}
        assert seen.values is not None
        assert seen.values.keys() == subject.now.keys() - spoiled
        return subject.now

    with campaign("swaps and rollback", "pads", short=100, long=100) as run:
        damages = (
            Damage("whole pads", {one: subject.files[two], two: subject.files[one]}) for one, two in combinations(files, 2)
        )
        Examiner(run, subject, {DAMAGED, ANOTHER}).examine(damages, expect)


# -- older states


class History:
    """A store that went on for a while: the pads' files, and where every block was, after each mutation."""

    def __init__(self, subject: Subject, run: Campaign) -> None:
        self.subject = subject
        self.pads: list[dict[str, bytes]] = []
        self.blocks: list[list[Place]] = []
        chance = run.random("history")
        for turn in range(ROUNDS):
            self._go_on(turn, chance.randrange(4))
            subject.finish()
            self.pads.append({name: data for name, data in subject.files.items() if name.startswith("pads/")})
            self.blocks.append(places(subject))

    def _go_on(self, turn: int, what: int) -> None:
        subject, key = self.subject, f"k{turn % 5}"
        if what == 0 and key in subject.now:
            subject.do(lambda store: store.delete(key), **{key: None})
        elif what == 1 and key in subject.now:
            new = f"moved{turn}"
            subject.do(lambda store: store.rename(key, new), **{key: None, new: subject.now[key]})
        else:
            put(subject, {key: noise(f"{key} {turn}", 700), f"l{turn % 3}": noise(f"large {turn}", 2 * CHUNK + 200)})

    def changed_since(self, turn: int) -> list[str]:
        """Pads that were written since, the new ones too."""
        return sorted(name for name, data in self.pads[-1].items() if self.pads[turn].get(name) != data)

    def rollbacks(self, run: Campaign) -> Iterator[Damage]:
        """Older images of one pad, some or all."""
        for number in range(run.goal):
            chance = run.random("rollback", number)
            turn = chance.randrange(ROUNDS - 1)
            changed = self.changed_since(turn)
            kind = ("one pad", "some pads", "all pads")[number % 3]
            count = {"one pad": 1, "some pads": chance.randint(1, len(changed)), "all pads": len(changed)}[kind]
            older = {name: self.pads[turn].get(name) for name in chance.sample(changed, count)}
            yield Damage(f"older image of {kind}", older, f"of mutation {turn}")

    def older_blocks(self) -> Iterator[Damage]:
        """Each block as it was before, written to where its successor lies."""
        for turn, blocks in enumerate(self.blocks[:-1]):
            older = {place.key: place for place in blocks}
            for now in self.blocks[-1]:
                before = older.get(now.key)
                if before is not None and (before.file, before.offset) != (now.file, now.offset):
                    yield Damage("older block", self._laid(turn, before, now), f"{now.key} of mutation {turn}")

    def _laid(self, turn: int, before: Place, now: Place) -> dict[str, bytes | None]:
        block = self.pads[turn][before.file][before.offset : before.offset + before.length]
        data = self.pads[-1][now.file]
        fitted = block[: now.length].ljust(now.length, b"\0")
        return {now.file: data[: now.offset] + fitted + data[now.offset + now.length :]}


@pytest.mark.parametrize("part", range(2))
def test_an_older_state_is_reported_and_stops_a_writer_before_it_overwrites(part: int, subject: Subject, campaign: Begin) -> None:
    with campaign("swaps and rollback", f"rollback {part}", short=100, long=500) as run:
        history = History(subject, run)
        examiner = Examiner(run, subject, {DAMAGED, ANOTHER})
        examiner.examine(history.rollbacks(run))
        told = {code: examiner.stopped[code] for code in sorted(examiner.stopped)}
        run.notes.append(f"writers by exit code: {told}")
        assert examiner.stopped[ANOTHER] > run.goal // 8, told


def test_a_block_of_an_earlier_version_is_reported(subject: Subject, campaign: Begin) -> None:
    with campaign("swaps and rollback", "versions", short=20, long=20) as run:
        Examiner(run, subject, {DAMAGED}).examine(History(subject, run).older_blocks())
