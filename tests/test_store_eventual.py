"""A network whose replicas differ for a while: what a store reads is right, and asked of the newest only where it has to be."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from anthill_sync import Store, creating
from anthill_sync.errors import Damaged, PadNotFound
from anthill_sync.networks.base import Image, Pad, Properties, any_replica_will_do
from anthill_sync.networks.memory import MemoryNetwork
from tests.support import run_threads
from tests.support.networks import Wrapper

PAD = 16 * 1024


class TwoReplicas(Wrapper):
    """Every image reaches one replica at once; the other has the one before it, or none, until ``heal``."""

    inner: MemoryNetwork

    def __init__(self) -> None:
        super().__init__(MemoryNetwork(PAD))
        self.late: dict[str, bytes | None] = {}
        self.asked = {"any": 0, "newest": 0}

    @property
    def properties(self) -> Properties:
        return replace(self.inner.properties, eventual=True)

    def write(self, pad: Pad, image: Image) -> None:
        self.late[pad.address] = self.inner.pads.get(pad.address)
        self.inner.write(pad, image)

    def read(self, pad: Pad, offset: int = 0, length: int | None = None) -> bytes:
        self.asked["any" if any_replica_will_do() else "newest"] += 1
        if any_replica_will_do() and pad.address in self.late:
            older = self.late[pad.address]
            if older is None:
                raise PadNotFound("one replica has not heard of it", pad=pad.address)
            return older[offset : None if length is None else offset + length]
        return self.inner.read(pad, offset, length)

    def heal(self) -> None:
        self.late.clear()


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> TwoReplicas:
    made = TwoReplicas()

    def opened(url: str, **more: Any) -> TwoReplicas:
        return made

    monkeypatch.setitem(vars(creating), "open_network", opened)
    return made


def values(seed: int) -> Mapping[str, bytes]:
    chance = random.Random(seed)
    return {f"key {n}": chance.randbytes(chance.randrange(4 * PAD)) for n in range(12)}


def test_older_replicas_are_never_believed(network: TwoReplicas, tmp_path: Path) -> None:
    with Store.create(tmp_path / "home", network="memory://", pad_size=PAD) as store:
        for seed in range(6):
            expected = values(seed)
            store.put_many(expected)
            assert {key: store[key] for key in store} == expected
            run_threads([partial(store.get_into, key, tmp_path / key) for key in expected])
            assert {key: (tmp_path / key).read_bytes() for key in expected} == expected
            assert store.check(read_data=True).problems == ()
    with Store.open(tmp_path / "home") as store:
        assert {key: store[key] for key in store} == expected


def test_a_read_is_asked_of_the_newest_only_when_any_replica_did_not_do(network: TwoReplicas, tmp_path: Path) -> None:
    with Store.create(tmp_path / "home", network="memory://", pad_size=PAD) as store:
        store.put("k", bytes(20 * PAD))
        network.heal()
        network.asked = {"any": 0, "newest": 0}
        assert store["k"] == bytes(20 * PAD)
        blocks = network.asked.pop("any")
        assert network.asked == {"newest": 0}
        network.late = dict.fromkeys(network.inner.pads)
        network.asked = {"any": 0, "newest": 0}
        assert store["k"] == bytes(20 * PAD)
        assert network.asked == {"any": blocks, "newest": blocks}


def test_what_no_replica_has_is_still_damage(network: TwoReplicas, tmp_path: Path) -> None:
    with Store.create(tmp_path / "home", network="memory://", pad_size=PAD) as store:
        store.put("k", b"value")
        network.heal()
        for address, image in network.inner.pads.items():
            network.inner.pads[address] = image[:40] + b"x" + image[41:]
        with pytest.raises(Damaged):
            store["k"]
