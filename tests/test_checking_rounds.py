"""Checks with a time limit: enough of them read everything, whatever is put and removed between."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from anthill_sync import Store, checking, durable
from anthill_sync.checking_rounds import CURSOR_NAME, check_some
from anthill_sync.errors import InvalidArgument, TransientNetworkError
from anthill_sync.reports import CheckReport

from .cli_tools import make_shell

PAD = 16384


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.create(tmp_path / "home", pad_size=PAD) as store:
        yield store


def fill(store: Store, *keys: str, size: int = 3 * PAD) -> None:
    store.put_many([(key, os.urandom(size)) for key in keys])


class Clock:
    """A second passes at every look."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


def some(store: Store, items: int, prefix: str = "") -> CheckReport:
    """One run with time for that many blocks and pads."""
    return check_some(store._session, prefix, items - 0.5, Clock())


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Every block that is read, as (key, chunk)."""
    seen: list[tuple[str, int]] = []
    real = checking.open_blocks

    def watched(session: object, jobs: Iterator[checking.Job]) -> object:
        for job, error in real(session, jobs):  # type: ignore[arg-type]
            seen.append(job[:2])
            yield job, error

    monkeypatch.setattr(checking, "open_blocks", watched)
    return seen


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Every pad that is looked at."""
    seen: list[int] = []
    real = checking._wrong

    def watched(session: object, index: object, memory_map: object, pad: int) -> str:
        seen.append(pad)
        return real(session, index, memory_map, pad)  # type: ignore[arg-type]

    monkeypatch.setattr(checking, "_wrong", watched)
    return seen


def every(store: Store) -> list[tuple[str, int]]:
    return [(key, place.chunk) for key in store for place in store.stat(key).blocks or ()]


@pytest.mark.parametrize("items", [1, 2, 5, 7])
def test_enough_short_checks_read_every_block_and_pad_once(
    store: Store, read: list[tuple[str, int]], looked: list[int], items: int
) -> None:
    fill(store, "a", "b/1", "b/2", "c")
    runs = 1
    while not some(store, items).complete:
        runs += 1
        assert runs < 100
    assert read == every(store)
    assert sorted(looked) == list(range(store.usage().pads.total))  # by several threads
    assert runs >= (len(read) + len(looked)) // items
    assert not json.loads((store.home / CURSOR_NAME).read_text())["cursors"]


def test_a_check_with_enough_time_is_a_whole_round(store: Store, read: list[tuple[str, int]]) -> None:
    fill(store, "a", "b")
    first = store.check(read_data=True, max_seconds=3600)
    second = store.check(read_data=True, max_seconds=3600)
    assert (first.complete, first.blocks_read, first.bytes_read) == (True, 8, 6 * PAD)
    assert read == every(store) * 2
    assert first.since is not None
    assert second.since is not None
    assert first.since < second.since


def test_no_time_at_all_still_gets_on(store: Store, read: list[tuple[str, int]]) -> None:
    fill(store, "a", "b")
    for expected in every(store):
        assert not store.check(read_data=True, max_seconds=0).complete
        assert read[-1] == expected


def test_the_cursor_survives_changes_of_the_store(store: Store) -> None:
    """Values that were there during a whole round are read in it."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    with pytest.MonkeyPatch.context() as patch:
        seen: list[tuple[str, int]] = []
        real = checking.open_blocks

        def watched(session: object, jobs: Iterator[checking.Job]) -> object:
            for job, error in real(session, jobs):  # type: ignore[arg-type]
                seen.append(job[:2])
                yield job, error

        patch.setattr(checking, "open_blocks", watched)
        fill(store, *(f"stays/{number}" for number in range(8)), size=PAD + 5000)
        lasting = every(store)
        while not some(store, chance.randrange(1, 6)).complete:
            name = chance.choice(["a", "stays/35", "stays/5/below", "z"])
            if name in store:
                del store[name]
            else:
                store[name] = os.urandom(chance.randrange(1, 40_000))
        assert set(lasting) <= set(seen)
        assert [each for each in seen if each in lasting] == lasting


def test_a_damaged_block_is_found_by_the_run_that_comes_to_it(store: Store) -> None:
    fill(store, "a", "b", "c")
    place = (store.stat("b").blocks or ())[1]
    address = store._session.pads.name(place.pad).address
    (path,) = (
        path for path in (store.home / "pads").rglob("*") if path.is_file() and path.name in (address, address[2:], address[4:])
    )
    data = bytearray(path.read_bytes())
    data[place.offset + 500] ^= 1
    path.write_bytes(data)
    found = []
    while True:
        report = some(store, 3)
        found += [(problem.kind, problem.key) for problem in report.problems]
        if report.complete:
            break
    assert found.count(("block", "b")) == 1


def test_every_prefix_has_its_own_cursor(store: Store, read: list[tuple[str, int]]) -> None:
    fill(store, "a", "b/1", "b/2", "c")
    some(store, 2)
    some(store, 3, "b")
    some(store, 2)
    some(store, 3, "b")
    blocks = every(store)
    below = [each for each in blocks if each[0].startswith("b/")]
    assert read == [*blocks[:2], *below[:3], *blocks[2:4], *below[3:6]]


def test_a_failure_of_the_network_keeps_what_was_proved(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(store, "a", "b")
    real, count = store._session.downloader.open_block, 0

    def failing(*arguments: object) -> object:
        nonlocal count
        count += 1
        if count > 3:
            raise TransientNetworkError("gone")
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(store._session.downloader, "open_block", failing)
    monkeypatch.setattr("anthill_sync.pipeline.DOWNLOAD_WINDOW", 1)
    with pytest.raises(TransientNetworkError):
        store.check(read_data=True, max_seconds=3600)
    cursor = json.loads((store.home / CURSOR_NAME).read_text())["cursors"][""]
    assert (cursor["key"], cursor["chunk"]) == ("a", 2)


@pytest.mark.parametrize(
    "rubbish",
    ["", "[]", '{"format": 1, "cursors": {"": {"began": 7}}}', '{"format": 1, "cursors": {"": {"began": "x", "key": 1}}}'],
)
def test_a_cursor_that_cannot_be_read_begins_anew(store: Store, rubbish: str, read: list[tuple[str, int]]) -> None:
    fill(store, "a")
    (store.home / CURSOR_NAME).write_text(rubbish)
    assert store.check(read_data=True, max_seconds=3600).complete
    assert read == every(store)


def test_a_home_that_cannot_be_written_is_told(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise OSError(30, "Read-only file system")

    fill(store, "a")
    monkeypatch.setattr(durable, "replace_file", refuse)
    assert not store.check(read_data=True, max_seconds=0).cursor_kept


@pytest.mark.parametrize("options", [{}, {"read_data": True, "sample": 5.0}, {"read_data": True, "max_seconds": -1}])
def test_a_limit_goes_with_reading_everything(store: Store, options: dict[str, object]) -> None:
    with pytest.raises(InvalidArgument):
        store.check(**{"max_seconds": 5.0, **options})  # type: ignore[arg-type]


def test_the_command_goes_on_where_it_stopped(tmp_path: Path) -> None:
    shell = make_shell(tmp_path / "home")
    shell.ok("put", "k", "-", stdin=os.urandom(5 * PAD))
    runs = []
    while True:
        runs.append(shell.ok("check", "--read-data", "--max-duration", "0s", "--json").json)
        if runs[-1]["complete"]:
            break
    assert sum(run["blocks_read"] for run in runs) == 6
    assert sum(run["bytes_read"] for run in runs) == 5 * PAD
    assert len({run["since"] for run in runs}) == 1
    for words in (
        ("--max-duration", "30m"),
        ("--read-data", "--sample", "5", "--max-duration", "30m"),
        ("--max-duration", "soon"),
    ):
        assert shell("check", *words).code == 64
