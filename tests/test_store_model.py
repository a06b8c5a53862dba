"""A Store of many threads is a dict while its network fails. With one thread, where a history repeats itself, and with
crashes and lost indexes, ``tests/faults/test_model.py`` shows it."""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any

import pytest

from anthill_sync.errors import KeyNotFound, NetworkError, PutFailed, RewriteFailed, TryAgain
from tests.store_tools import CHUNK, StoreRig, permanent, transient
from tests.support import PATIENCE

pytest_plugins = ["tests.store_fixtures"]

Background = Callable[[Callable[[], Any]], "Future[Any]"]
FAILURES = (PutFailed, NetworkError, TryAgain)  # a network error alone: the pads in doubt could not be looked at
KEYS = ["a", "a/b", "b", "c", "d/e/f"]


class Model:
    """Random calls against a dict. A call that fails leaves the old value, or for a removal says that it is made."""

    def __init__(self, rig: StoreRig, seed: int | str, *, faults: bool) -> None:
        self.rig, self.chance, self.faults = rig, random.Random(seed), faults
        self.values: dict[str, bytes] = {}

    def data(self, key: str) -> bytes:
        """Something new, or something like what is there."""
        chance, old = self.chance, self.values.get(key)
        if old and chance.random() < 0.5:
            data = bytearray(old)
            data[chance.randrange(len(data))] ^= 255
            return bytes(data[: chance.choice([len(data), len(data), len(data) // 2])]) + chance.choice([b"", b"", b"more"])
        return chance.randbytes(chance.choice([0, 1, 300, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 7 * CHUNK + 50]))

    def step(self) -> None:
        if self.faults and self.chance.random() < 0.5:
            error = self.chance.choice([permanent, permanent, transient])
            operation, lost = self.chance.choice(["reserve", "write", "confirm", "read"]), self.chance.random() < 0.5
            times = self.chance.choice([1, 2, 10**6])
            self.rig.faulty.fail(operation, error, times=times, skip=self.chance.randrange(12), lost=lost)
        actions = [
            self.put,
            self.put,
            self.put,
            self.stream,
            self.many,
            self.get,
            self.delete,
            self.rename,
            self.others,
            self.reopen,
        ]
        self.chance.choice(actions)(self.chance.choice(KEYS))
        self.rig.mend()

    def put(self, key: str, *, stream: bool = False) -> None:
        data = self.data(key)
        with self.failing(*FAILURES):
            self.rig.store.put(key, iter([data]) if stream else data)
            self.values[key] = data
            return
        self.rig.mend()
        assert self.rig.store.get(key) == self.values.get(key) or self.published(key, data)

    def published(self, key: str, data: bytes) -> bool:
        """The publish record is durable, and something after it failed: the new value counts."""
        if self.rig.store.get(key) == data:
            self.values[key] = data
            return True
        return False

    def stream(self, key: str) -> None:
        self.put(key, stream=True)

    def many(self, key: str) -> None:
        items = {each: self.data(each) for each in self.chance.sample(KEYS, 3)}
        try:
            self.rig.store.put_many(items)
            self.values.update(items)
        except FAILURES as error:
            assert self.faults
            self.values.update({each: items[each] for each in error.published})

    def get(self, key: str) -> None:
        with self.failing(Exception):
            assert self.rig.store.get(key) == self.values.get(key)

    def delete(self, key: str) -> None:
        keys = [each for each in (key, self.chance.choice(KEYS)) if each in self.values]
        with self.failing(*FAILURES):
            self.rig.store.delete(*keys)
        for each in keys:
            if each not in self.rig.store:
                self.values.pop(each, None)
        assert not set(keys) & set(self.values) or self.faults

    def rename(self, key: str) -> None:
        new = self.chance.choice([each for each in KEYS if each != key])
        try:
            with self.failing(*FAILURES):
                self.rig.store.rename(key, new, force=True)
        except KeyNotFound:
            assert key not in self.values
            return
        if key in self.values and key not in self.rig.store:
            self.values[new] = self.values.pop(key)

    def others(self, key: str) -> None:
        store = self.rig.store
        actions: list[Callable[[], object]] = [
            lambda: store.reserve(self.chance.randrange(4)),
            store.trim,
            store.abandon,
            store.resume,
            lambda: self.chance.random() < 0.2 and store.clear(),  # type: ignore[func-returns-value]
        ]
        action = self.chance.choice(actions)
        with self.failing(*FAILURES):
            action()
        if not len(self.rig.store):
            self.values.clear()

    def reopen(self, key: str) -> None:
        self.rig.reopen()

    def failing(self, *kinds: type[Exception]) -> Any:
        return suppress(*(kinds if self.faults else ()))

    def check(self) -> None:
        self.rig.assert_idle()
        assert list(self.rig.store) == sorted(self.values)
        assert dict(self.rig.store) == self.values
        assert self.rig.store.check(read_data=True).problems == ()


def run(rigs: Callable[..., StoreRig], network: str, steps: int, *, faults: bool, **settings: Any) -> None:
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")
    model = Model(rigs(network, **settings), seed, faults=faults)
    for _ in range(steps):
        model.step()
        model.check()
    model.rig.store["last"] = b"1"
    model.rig.reopen()
    model.rig.store["last"] = b"2"
    assert model.rig.index.to_rewrite == set()
    assert set(model.rig.manifests()) <= {*KEYS, "last"}
    model.values["last"] = b"2"
    model.check()


@pytest.mark.parametrize("network", ["memory", "embedded"])
def test_a_store_of_many_threads_is_a_dict_while_the_network_fails(
    rigs: Callable[..., StoreRig], network: str, long_run: bool
) -> None:
    run(rigs, network, 2000 if long_run else 150, faults=True, upload_threads=20, attempts=2)


def test_threads_on_a_failing_network_leave_only_whole_values(
    rigs: Callable[..., StoreRig], background: Background, long_run: bool
) -> None:
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")
    rig = rigs(attempts=2)
    for around in range(60 if long_run else 6):
        chance = random.Random(seed + around)
        for operation in ("reserve", "write", "confirm"):
            for _ in range(4):
                rig.faulty.fail(operation, permanent, skip=chance.randrange(60), lost=chance.random() < 0.5)
        results = [background(partial(hammer, rig, f"{seed}/{around}/{n}", f"k{n}")) for n in range(12)]
        possible = [result.result(4 * PATIENCE) for result in results]
        rig.mend()
        rig.assert_idle()
        for number, values in enumerate(possible):
            assert rig.store.get(f"k{number}") in values
        if around % 2:
            rig.reopen()
        rig.store["after"] = bytes([around]) * 5 * CHUNK
        rig.assert_sound(after=bytes([around]) * 5 * CHUNK)


def hammer(rig: StoreRig, seed: str, key: str) -> list[bytes | None]:
    """Some calls for one key; the values it may have afterwards."""
    chance = random.Random(seed)
    possible: list[bytes | None] = [rig.store.get(key)]
    for _ in range(8):
        data = chance.randbytes(1) * chance.choice([0, 5, CHUNK, 3 * CHUNK + 9])
        try:
            if chance.random() < 0.2:
                rig.store.delete(key, ignore_missing=True)
                possible = [None]
            else:
                rig.store.put(key, data)
                possible = [data]
        except RewriteFailed:
            possible = [None]
        except FAILURES:
            possible.append(data)
    return possible
