"""Stores on a real distributed object store: four Swift nodes, three replicas, and nodes that are killed.

The network's contract on the same cluster is in ``test_network_contract``.
"""

from __future__ import annotations

import io
import json
import random
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from anthill_sync import Store
from anthill_sync.errors import PutFailed
from anthill_sync.events import Event, UploadProgress
from tests.support.cluster import NODES, SWIFT, SwiftCluster

from .cli_tools import Shell, environment, spawn

pytestmark = [pytest.mark.cluster, pytest.mark.xdist_group("cluster")]

MIB = 1024 * 1024
SIZE = 256 * MIB
KEY_SLOTS = (0, 1)


@pytest.fixture
def swift(cluster: SwiftCluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[SwiftCluster]:
    """The cluster with all nodes, and its credentials in the environment."""
    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)
    yield cluster
    cluster.bring_back()


def noise(seed: object, size: int) -> bytes:
    return random.Random(str(seed)).randbytes(size)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("source") / "large"
    path.write_bytes(b"".join(noise(part, MIB) for part in range(SIZE // MIB)))
    return path


def once_at(share: float, action: Callable[[], object]) -> Callable[[Event], None]:
    """Does ``action`` when this share of a put's bytes is stored, while the rest is on its way."""
    left = [action]

    def on_event(event: Event) -> None:
        if left and isinstance(event, UploadProgress) and event.total_bytes and event.bytes_written >= share * event.total_bytes:
            left.pop()()

    return on_event


def same(store: Store, key: str, source: Path, target: Path) -> bool:
    store.get_into(key, target)
    with source.open("rb") as one, target.open("rb") as other:
        return all(a == b for a, b in zip(iter(partial(one.read, MIB), b""), iter(partial(other.read, MIB), b""), strict=True))


def test_the_probe_finds_what_swift_has(swift: SwiftCluster, tmp_path: Path) -> None:
    with Store.create(tmp_path / "home", network=swift.url()) as store:
        facts = store.usage().facts
    assert tuple(facts["abilities"]) == SWIFT
    assert (facts["compares_counters"], facts["shows_reservations"]) == (False, False)


@pytest.mark.parametrize("nodes", [(2,), (1, 4)], ids=["one node", "two nodes"])
def test_a_put_that_loses_nodes_in_its_middle_finishes_and_reads_back(
    swift: SwiftCluster, tmp_path: Path, source: Path, nodes: tuple[int, ...]
) -> None:
    with Store.create(tmp_path / "home", network=swift.url()) as store:
        entry = store.put("large", source, on_event=once_at(0.25, partial(swift.kill, *nodes)))
        assert swift.down == set(nodes)
        assert entry.size == SIZE
        assert same(store, "large", source, tmp_path / "while they are down")
        swift.bring_back()
        assert same(store, "large", source, tmp_path / "when they are back")
        assert store.check(read_data=True).problems == ()


def test_a_put_that_loses_three_nodes_ends_with_75_and_resumes_when_they_are_back(
    swift: SwiftCluster, tmp_path: Path, source: Path
) -> None:
    shell = Shell(tmp_path / "home")
    shell.ok("init", "--network", swift.url())
    command = ["--home", shell.home, "put", "large", source, "--progress", "json"]
    lost = (1, 2, 3)
    with spawn(*command, env=environment(**swift.environment), stderr=-1, text=True) as process:
        told = [json.loads(line) for line in _killing(process, swift, lost)]
    failure = told[-1]
    assert (process.returncode, failure["code"], failure["resume"]) == (75, 75, True), failure
    assert "the same put goes on from there" in failure["error"]
    stored = sum(each.get("event") == "ScratchpadCommitComplete" for each in told)
    assert 16 <= stored < 65
    swift.bring_back()
    assert f"{stored}/65" in shell.ok("ls", "--pending").out
    shell.ok("resume")
    with Store.open(shell.home) as store:
        assert same(store, "large", source, tmp_path / "back")
        assert store.check(read_data=True).problems == ()


def _killing(process: Any, swift: SwiftCluster, nodes: tuple[int, ...]) -> Iterator[str]:
    """The lines of a put's progress; the nodes are killed once 16 pads are stored, and it gets no further meanwhile."""
    for line in process.stderr:
        if '"ScratchpadCommitComplete"' in line and '"index": 16,' in line:
            process.send_signal(signal.SIGSTOP)
            swift.kill(*nodes)
            process.send_signal(signal.SIGCONT)
        yield line


def test_pads_written_while_nodes_were_away_are_read_as_written_when_they_are_back(swift: SwiftCluster, tmp_path: Path) -> None:
    """A node that comes back still has what it had: the images before the last."""
    with Store.create(tmp_path / "home", network=swift.url(), pad_size=64 * 1024) as store:
        for turn, node in enumerate(NODES):
            expected = {f"key {n}": noise((turn, n), 100_000) for n in range(8)}
            store.put_many(expected)
            swift.kill(node)
            for key in list(expected)[:4]:
                store[key] = expected[key] = noise((turn, key), 90_000)
            swift.bring_back()
            assert {key: store[key] for key in store} == expected
        assert store.check(read_data=True).problems == ()


def test_a_get_that_loses_a_node_in_its_middle_gives_every_byte(swift: SwiftCluster, tmp_path: Path, source: Path) -> None:
    class Target(io.BytesIO):
        def write(self, data: Any) -> int:
            if not swift.down and self.tell() > SIZE // 4:
                swift.kill(3)
            return super().write(data)

    with Store.create(tmp_path / "home", network=swift.url()) as store:
        store.put("large", source)
        target = Target()
        store.get_into("large", target)
    assert swift.down == {3}
    assert target.getbuffer() == source.read_bytes()


def test_two_machines_with_one_key_write_at_once_without_disturbing_each_other(swift: SwiftCluster, tmp_path: Path) -> None:
    url, key = swift.url(), tmp_path / "key"
    stores = [
        Store.create(tmp_path / f"home {slot}", network=url, key_file=key, slot=slot, pad_size=64 * 1024) for slot in KEY_SLOTS
    ]
    expected = [{f"key {n}": noise((slot, n), 50_000 + n) for n in range(20)} for slot in KEY_SLOTS]

    def write(slot: int) -> None:
        stores[slot].put_many(expected[slot])
        for name in ("key 3", "key 4"):
            stores[slot][name] = expected[slot][name] = noise((slot, name), 200_000)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write, KEY_SLOTS))
    for slot, store in enumerate(stores):
        assert {name: store[name] for name in store} == expected[slot]
        assert store.check(read_data=True).problems == ()
        store.close()


def test_two_thousand_small_values_share_few_pads(swift: SwiftCluster, tmp_path: Path) -> None:
    expected = {f"small/{n}": noise(n, n % 1500) for n in range(2000)}
    with Store.create(tmp_path / "home", network=swift.url()) as store:
        entries = store.put_many(expected)
        transfer = next(iter(entries.values())).transfer
        assert transfer is not None
        assert transfer.pads_written <= 4
        store.delete(*(f"small/{n}" for n in range(0, 2000, 2)))
        store["small/1"] = expected["small/1"] = b"changed"
    with Store.open(tmp_path / "home") as store:
        assert list(store) == sorted(key for key in expected if int(key[6:]) % 2)
        assert {key: store[key] for key in list(store)[::20]} == {key: expected[key] for key in list(store)[::20]}
        report = store.check(read_data=True)
    assert (report.problems, report.blocks_read) == ((), 1000 - zero_sized(expected))


def zero_sized(values: dict[str, bytes]) -> int:
    """How many of the values that were kept have no byte, and so no block."""
    return sum(not data for key, data in values.items() if int(key[6:]) % 2)


def test_a_first_put_without_enough_nodes_ends_with_75(swift: SwiftCluster, tmp_path: Path) -> None:
    quick = {"backoff_base": 0.01}
    with Store.create(tmp_path / "home", network=swift.url(), pad_size=64 * 1024, settings=quick) as store:
        swift.kill(1, 2, 3)
        with pytest.raises(PutFailed) as caught:
            store.put("k", noise(1, 500_000))
        assert caught.value.exit_code == 75
        swift.bring_back()
        store.put("k", noise(1, 500_000))
        assert store["k"] == noise(1, 500_000)
