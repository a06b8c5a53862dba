"""One Store, many threads: every mutation is whole, in order per key, and nobody waits for ever."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from anthill_sync import Store, durable
from anthill_sync.errors import (
    KeyNotFound,
    ValueChanged,
)
from tests.store_tools import CHUNK, StoreRig, chunks_of, wait_until
from tests.support import PATIENCE

pytest_plugins = ["tests.store_fixtures"]

Background = Callable[[Callable[[], Any]], "Future[Any]"]


# -- a hammer


class Hammer:
    """Random calls of one thread on keys of its own, against a dict; and reads of everybody's keys."""

    def __init__(self, store: Store, number: int, keys: list[str], every: list[str], seed: str) -> None:
        self.store, self.keys, self.every = store, keys, every
        self.chance = random.Random(f"{seed}/{number}")
        self.model: dict[str, bytes] = {}

    def data(self) -> bytes:
        size = self.chance.choice([0, 1, 30, 700, CHUNK - 1, CHUNK, 2 * CHUNK + 100, 5 * CHUNK])
        return self.chance.randbytes(1) * size

    def run(self, steps: int) -> dict[str, bytes]:
        actions = [self.put, self.put, self.stream, self.many, self.get, self.delete, self.rename, self.ask]
        for _ in range(steps):
            self.chance.choice(actions)(self.chance.choice(self.keys))
        return self.model

    def put(self, key: str) -> None:
        data = self.data()
        self.store.put(key, data)
        self.model[key] = data

    def stream(self, key: str) -> None:
        data = self.data()
        self.store.put(key, iter([data[:50], data[50:]]))
        self.model[key] = data

    def many(self, key: str) -> None:
        items = {each: self.data() for each in self.keys}
        self.store.put_many(items)
        self.model.update(items)

    def get(self, key: str) -> None:
        assert self.store.get(key) == self.model.get(key)
        try:
            value = self.store.get(self.chance.choice(self.every))
        except ValueChanged:
            return
        assert value is None or value == value[:1] * len(value)

    def delete(self, key: str) -> None:
        assert self.store.delete(key, ignore_missing=True) == ([key] if key in self.model else [])
        self.model.pop(key, None)

    def rename(self, key: str) -> None:
        other = self.keys[(self.keys.index(key) + 1) % len(self.keys)]
        try:
            self.store.rename(key, other, force=True)
            self.model[other] = self.model.pop(key)
        except KeyNotFound:
            assert key not in self.model

    def ask(self, key: str) -> None:
        assert (key in self.store) == (key in self.model)
        assert self.store.usage().keys >= 0
        assert [entry.key for entry in self.store.entries(key)] == ([key] if key in self.model else [])
        assert self.store.check().problems == ()


@pytest.mark.parametrize("network", ["memory", "embedded"])
def test_sixteen_threads_hammer_one_store_and_every_key_is_what_its_thread_put_there(
    rigs: Callable[..., StoreRig], background: Background, network: str
) -> None:
    seed = f"{random.SystemRandom().getrandbits(32):x}"
    print(f"seed {seed}")
    rig = rigs(network)
    keys = [f"k{number:02}" for number in range(40)]
    hammers = [Hammer(rig.store, n, keys[n::16], keys, seed) for n in range(16)]
    model: dict[str, bytes] = {}
    for run in [background(lambda hammer=hammer: hammer.run(25)) for hammer in hammers]:  # type: ignore[misc]
        model.update(run.result(4 * PATIENCE))
    assert dict(rig.store) == model
    rig.assert_sound()
    rig.reopen()
    assert dict(rig.store) == model
    rig.assert_sound()


def test_mutations_of_one_key_from_many_threads_leave_one_of_their_values(rig: StoreRig, background: Background) -> None:
    values = [bytes([number]) * (CHUNK + number) for number in range(12)]
    puts = [background(lambda value=value: rig.store.put("a", value)) for value in values]  # type: ignore[misc]
    entries = [put.result(PATIENCE) for put in puts]
    assert len({entry.version for entry in entries}) == len(entries)
    assert rig.store["a"] == values[max(range(12), key=lambda number: entries[number].version)]
    rig.assert_sound()


def test_a_second_mutation_of_a_key_waits_for_the_first_and_wins(rig: StoreRig, background: Background) -> None:
    gate = rig.faulty.hold("write")
    first = background(lambda: rig.store.put("a", chunks_of(1)))
    gate.wait_for(1)
    second = background(lambda: rig.store.put("a", b"2"))
    other = background(lambda: rig.store.put("b", b"3"))
    wait_until(lambda: rig.session._key_locks._locks.get("a", (None, 0))[1] == 2, lambda: "nobody waits for the key")
    gate.open()
    assert first.result(PATIENCE).version < second.result(PATIENCE).version
    other.result(PATIENCE)
    rig.assert_sound(a=b"2", b=b"3")


def test_a_long_put_does_not_stop_mutations_of_other_keys(each: StoreRig, background: Background) -> None:
    each.store["old"] = b"0"
    begun, go = threading.Event(), threading.Event()

    def source() -> Iterator[bytes]:
        yield chunks_of(1)
        begun.set()
        assert go.wait(PATIENCE)
        yield chunks_of(2)

    long = background(lambda: each.store.put("long", source()))
    assert begun.wait(PATIENCE)
    each.store["a"] = chunks_of(3, 4)
    each.store["b"] = b"small"
    each.store.rename("a", "c")
    each.store.delete("old")
    assert each.store.usage().keys == 2
    assert each.store.check(read_data=True).problems == ()
    go.set()
    long.result(PATIENCE)
    each.assert_sound(long=chunks_of(1, 2), b=b"small", c=chunks_of(3, 4))


def test_questions_from_other_threads_never_disturb_running_puts(rig: StoreRig, background: Background) -> None:
    stop = threading.Event()

    def ask() -> int:
        asked = 0
        while not stop.is_set():
            rig.store.usage(), rig.store.entries(), list(rig.store), rig.store.pending()
            assert rig.store.check().problems == ()
            asked += 1
        return asked

    asking = [background(ask) for _ in range(3)]
    for number in range(60):
        rig.store.put(f"k{number % 7}", chunks_of(number % 250) * (number % 3) + b"x")
        if number % 5 == 4:
            rig.store.delete(f"k{number % 7}")
    stop.set()
    assert all(future.result(PATIENCE) for future in asking)
    rig.assert_sound()


# -- reading while space is reused


def test_a_get_whose_value_is_replaced_meanwhile_starts_again(rig: StoreRig, background: Background) -> None:
    old, new = chunks_of(1, 2, 3), chunks_of(4, 5, 6)
    rig.store["a"] = old
    gate = rig.faulty.hold("read")
    reading = background(lambda: rig.store["a"])
    gate.wait_for(3)
    rig.faulty.clear_hooks()
    for value in (new, old[:CHUNK], new):  # the freed pads are written again
        rig.store["a"] = value
        rig.store[f"other{len(value)}"] = chunks_of(9, 9, 9)
    gate.open()
    assert reading.result(PATIENCE) == new
    rig.assert_sound(a=new)


def test_a_get_whose_value_is_removed_meanwhile_says_so_or_gives_the_old_value(rig: StoreRig, background: Background) -> None:
    old = chunks_of(1, 2, 3)
    rig.store["a"] = old
    gate = rig.faulty.hold("read")
    reading = background(lambda: rig.store.get("a", b"none"))
    gate.wait_for(3)
    rig.faulty.clear_hooks()
    rig.store.delete("a")
    rig.store["b"] = chunks_of(9, 9, 9)
    gate.open()
    assert reading.result(PATIENCE) in (b"none", old)


class Output:
    """A binary file whose owner replaces the value after the first bytes."""

    def __init__(self, meanwhile: Callable[[], object]) -> None:
        self.data, self._meanwhile = b"", meanwhile

    def write(self, data: memoryview) -> int:
        if not self.data:
            self._meanwhile()
        self.data += data
        return len(data)


def test_output_that_has_begun_is_never_mixed_with_a_newer_value(rig: StoreRig) -> None:
    old = chunks_of(*range(40))
    rig.store["a"] = old

    def replace() -> None:
        rig.store["a"] = chunks_of(*range(100, 140))
        rig.store["b"] = chunks_of(*range(200, 240))

    output: Any = Output(replace)
    with pytest.raises(ValueChanged) as caught:
        rig.store.get_into("a", output)
    assert caught.value.exit_code == 75
    assert old.startswith(output.data)
    assert output.data


# -- the index


def test_a_reader_in_the_middle_of_a_checkpoint_leaves_the_writers_index_alone(
    rig: StoreRig, background: Background, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.store["old"] = b"0"
    monkeypatch.setattr("anthill_sync.journal.CHECKPOINT_BYTES", 1000)
    open_append, checkpoints = durable.open_append, 0

    def and_read(path: Path) -> int:
        nonlocal checkpoints
        if rig.session._writers:  # not when the lock is being taken: readers wait then
            checkpoints += 1
            assert "old" in background(lambda: list(rig.store)).result(PATIENCE)
        return open_append(path)

    monkeypatch.setattr(durable, "open_append", and_read)
    index: Any = None

    def hear(event: object) -> None:
        nonlocal index
        index = index or rig.session.journal.index
        assert rig.session.journal.index is index

    rig.store.put("a", chunks_of(*range(30)), on_event=hear)
    assert checkpoints
    rig.assert_sound(old=b"0", a=chunks_of(*range(30)))
    rig.reopen()
    rig.assert_sound(old=b"0", a=chunks_of(*range(30)))
