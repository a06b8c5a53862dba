"""P5 for every file of a store: damage is healed, or a named error; never other bytes, and never exit code 0 with them.

After each damage the store is opened, listed and read, something is done to it, and it is read again. Then the damaged
file is put back as it was, and everything has to be there.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from itertools import chain, pairwise
from pathlib import Path

import pytest

from anthill_sync import durable, journal, keys
from anthill_sync.journal import JOURNAL_NAME, SNAPSHOT_NAME
from anthill_sync.lines import load_snapshot, scan
from tests.journal_tools import ends, expected

from .campaign import Campaign
from .damage import Damage, a_bit_of_each_byte, cut, flipped, misplaced, other, some_bits, zeroed
from .examine import ANOTHER, DAMAGED, WRONG_FORMAT, Examiner, Seen, Subject, build, go_on
from .scenarios import State

Begin = Callable[..., AbstractContextManager[Campaign]]


@pytest.fixture(autouse=True)
def _no_power_loss(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing here is about what reached the disk: do without its pace, and without thousands of warnings."""
    caplog.set_level(logging.ERROR, "anthill_sync")
    monkeypatch.setattr(durable, "sync", lambda fd: None)
    monkeypatch.setattr(durable, "sync_folder", lambda path: None)


@pytest.fixture
def subject(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Subject:
    """A store with a snapshot and a journal that both hold much."""
    return built(tmp_path, monkeypatch)


def built(folder: Path, monkeypatch: pytest.MonkeyPatch, passphrase: str | None = None) -> Subject:
    subject = build(folder / "home", passphrase)
    with monkeypatch.context() as patch:
        patch.setattr(journal, "CHECKPOINT_BYTES", 1)
        patch.setattr(journal, "REST_FACTOR", 1)  # the snapshot of the middle of a run stays: more is in it
        subject.do(lambda store: store.put("s2", b"checkpoint"), s2=b"checkpoint")
    return go_on(subject).finish()


def file_damages(run: Campaign, subject: Subject, name: str) -> Iterator[Damage]:
    """Of a small file: every byte, every length, every sector."""
    data, chance = subject.files[name], run.random(name)
    yield from flipped(name, data, range(8 * len(data)) if run.long else a_bit_of_each_byte(data, chance))
    yield from cut(name, data, range(len(data)))
    yield from zeroed(name, data)
    yield from other(name, data, chance)


def journal_damages(run: Campaign, data: bytes, first: int) -> Iterator[Damage]:
    """The same, from its byte number ``first``, and its lines out of order. A short form cuts it at both ends and within
    each line only: at every length ``tests/test_journal_damage.py`` does it."""
    chance, begins = run.random(JOURNAL_NAME), [0, *ends(data)]
    bits = [bit for _ in range(3 if run.long else 1) for bit in a_bit_of_each_byte(data, chance) if bit >= 8 * first]
    lengths = {at for begin, end in pairwise(begins) for at in (begin, begin + 1, chance.randrange(begin, end), end - 1)}
    yield from flipped(JOURNAL_NAME, data, bits)
    yield from cut(JOURNAL_NAME, data, range(len(data)) if run.long else sorted(lengths))
    yield from zeroed(JOURNAL_NAME, data)
    yield from other(JOURNAL_NAME, data, chance)
    yield from misplaced(JOURNAL_NAME, data)


# -- the key


def test_a_damaged_key_is_the_key_or_no_key(subject: Subject, campaign: Begin) -> None:
    with campaign("damage", "key", short=180, long=700) as run:
        Examiner(run, subject, {DAMAGED, WRONG_FORMAT}).examine(file_damages(run, subject, "key"))


def test_a_damaged_wrapped_key_is_the_key_or_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, campaign: Begin) -> None:
    monkeypatch.setattr(keys, "_SCRYPT", (4, 8, 1))  # what is damaged does not depend on how dear a guess is
    subject = built(tmp_path, monkeypatch, "forty-two ants")
    with campaign("damage", "wrapped key", short=300, long=1500) as run:
        Examiner(run, subject, {DAMAGED, WRONG_FORMAT}).examine(file_damages(run, subject, "key"))


# -- the configuration


def test_a_damaged_configuration_is_noticed_whatever_it_would_mean(subject: Subject, campaign: Begin) -> None:
    with campaign("damage", "configuration", short=1000, long=4500) as run:
        Examiner(run, subject, {DAMAGED, WRONG_FORMAT}).examine(file_damages(run, subject, "config.json"))


# -- the index


def test_a_damaged_snapshot_is_noticed(subject: Subject, campaign: Begin) -> None:
    def refused(damage: Damage, seen: Seen) -> None:
        assert seen.code == DAMAGED

    with campaign("damage", "snapshot", short=3000, long=13000) as run:
        Examiner(run, subject, {DAMAGED}).examine(
            chain(file_damages(run, subject, SNAPSHOT_NAME), misplaced(SNAPSHOT_NAME, subject.files[SNAPSHOT_NAME])), refused
        )


def prefixes(subject: Subject) -> list[State]:
    """The values after each line of the journal, the first included."""
    index = load_snapshot(subject.files[SNAPSHOT_NAME], SNAPSHOT_NAME)
    found = [{key: subject.versions[value.version] for key, value in index.values.items()}]
    for _, records in scan(subject.files[JOURNAL_NAME], JOURNAL_NAME).batches:
        for record in records:
            index.apply(record)
        found.append({key: subject.versions[value.version] for key, value in index.values.items()})
    return found


@pytest.mark.parametrize("end", ["closed", "killed"])
def test_a_damaged_journal_is_noticed_below_the_synced_offset_and_a_torn_tail_above(
    end: str, subject: Subject, campaign: Begin
) -> None:
    """No acknowledged put vanishes in silence: of a store that was closed, only the last line may be lost unnoticed,
    and it says nothing. Of a writer that was killed, the last line alone has no witness that it was synced."""
    data = subject.files[JOURNAL_NAME]
    if end == "killed":
        data = subject.files[JOURNAL_NAME] = data[: ends(data)[-2]]
    known, original, last = prefixes(subject), data.splitlines(), ends(data)[-2]
    first = 0 if end == "closed" else ends(data)[-5]  # what comes before is the same

    def expect(damage: Damage, seen: Seen) -> State | None:
        changed = damage.files[JOURNAL_NAME]
        state = None if changed is None else expected(changed, known, original)
        assert (seen.values is None) == (state is None), f"the store says {seen.code}"
        assert seen.code in (0, DAMAGED)
        if damage.kind == "flipped bit" and int(str(damage.where).split()[1].strip(",")) < last:
            assert seen.values is None, "damage to what was synced went unnoticed"
        return state

    with campaign("damage", f"journal, {end}", short=1000, long=6000) as run:
        Examiner(run, subject, {DAMAGED, ANOTHER}).examine(journal_damages(run, data, first), expect)


# -- the pads


def test_a_damaged_pad_is_noticed_and_spoils_nothing_else(subject: Subject, campaign: Begin) -> None:
    with campaign("damage", "pads", short=800, long=9000) as run:
        examiner = Examiner(run, subject, {DAMAGED, WRONG_FORMAT, ANOTHER})
        for name in sorted(name for name in subject.files if name.startswith("pads/")):
            examiner.examine(pad_damages(run, subject, name))


def pad_damages(run: Campaign, subject: Subject, name: str) -> Iterator[Damage]:
    data, chance = subject.files[name], run.random(name)
    if not data:
        return
    header = a_bit_of_each_byte(data[:32], chance)
    yield from flipped(name, data, [*header, *some_bits(data, 64 if run.long else 8, chance)])
    lengths = {0, 31, 32, 33, len(data) - 1, *chance.sample(range(len(data)), len(data) // 8 if run.long else 40)}
    yield from cut(name, data, sorted(lengths))
    yield from zeroed(name, data)
    yield from other(name, data, chance)
