"""Whole stores over a network that loses, cuts, doubles and delays, to a real pad server."""

from __future__ import annotations

import io
import os
import random
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from anthill_sync import Store
from anthill_sync.errors import (
    AnotherWriter,
    AnthillError,
    ConfigurationError,
    NetworkError,
    PadConflict,
    PutFailed,
    TransientNetworkError,
)
from anthill_sync.networks.base import Network
from anthill_sync.networks.http import open_http
from anthill_sync.server import PadServer
from anthill_sync.settings import Settings
from tests.support import make_image, make_pad, run_threads
from tests.support.servers import serve

from .proxy import PASSING, Proxy, nothing, seeded, storm

PAD = 16 * 1024
QUICK = {"backoff_base": 0.0, "attempts": 20}  # repeats without waits; a fault in five never fails twenty times


@pytest.fixture
def server(tmp_path: Path) -> Iterator[PadServer]:
    with serve(tmp_path / "data", connections=64) as running:
        yield running


@pytest.fixture
def proxy(server: PadServer) -> Iterator[Proxy]:
    with Proxy(server.url) as running:
        yield running


@pytest.fixture
def store(tmp_path: Path, proxy: Proxy) -> Iterator[Store]:
    with Store.create(tmp_path / "home", network=proxy.url, pad_size=PAD, settings=QUICK) as made:
        proxy.reset(nothing)
        yield made


def values(seed: int, count: int, size: int) -> dict[str, bytes]:
    chance = random.Random(seed)
    return {f"key/{n}": chance.randbytes(chance.randrange(size)) for n in range(count)}


def check(store: Store, expected: dict[str, bytes]) -> None:
    """Everything is there, and index and memory map agree."""
    assert {key: store[key] for key in store} == expected
    assert store.check("", read_data=True).problems == ()


# -- scenarios


def put_update_remove(store: Store, seed: int) -> dict[str, bytes]:
    expected = values(seed, 6, 5 * PAD)
    for key, data in expected.items():
        store.put(key, data)
    expected["key/1"] = expected["key/1"][:PAD] + b"changed" + expected["key/1"][PAD:]
    store.put("key/1", expected["key/1"])
    store.rename("key/2", "moved")
    expected["moved"] = expected.pop("key/2")
    store.delete("key/3")
    del expected["key/3"]
    return expected


def streams(store: Store, seed: int) -> dict[str, bytes]:
    data = random.Random(seed).randbytes(12 * PAD)
    store.put("stream", io.BytesIO(data))
    store.put("parts", (data[n : n + 5000] for n in range(0, len(data), 5000)))
    return {"stream": data, "parts": data}


def many_small(store: Store, seed: int) -> dict[str, bytes]:
    expected = values(seed, 120, 300)
    store.put_many(expected)
    for key in list(expected)[:40]:
        store[key] = expected[key] = expected[key][::-1]
    return expected


def many_threads(store: Store, seed: int) -> dict[str, bytes]:
    expected = values(seed, 24, 2 * PAD)
    run_threads([partial(store.put, key, data) for key, data in expected.items()], threads=8)
    return expected


SCENARIOS: list[Callable[[Store, int], dict[str, bytes]]] = [put_update_remove, streams, many_small, many_threads]


@pytest.mark.parametrize("run", [1, 2])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_store_comes_through_every_fault_that_passes(
    store: Store, proxy: Proxy, scenario: Callable[[Store, int], dict[str, bytes]], run: int
) -> None:
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    proxy.reset(seeded(seed, 0.2))
    expected = scenario(store, seed)
    assert proxy.met.total() > 0
    check(store, expected)
    proxy.reset(nothing)
    with Store.open(store.home) as again:
        check(again, expected)


@pytest.mark.parametrize("fault", PASSING)
def test_each_fault_alone_is_overcome_by_every_call(server: PadServer, proxy: Proxy, fault: str) -> None:
    """Reserve, write, confirm and read, each meeting the fault once: no false conflict, nothing done twice."""
    settings, data = Settings(backoff_base=0.0), os.urandom(PAD)
    network = open_http(proxy.url, settings=settings, facts={})
    pad, image = make_pad(1), make_image(data)

    def again(call: Callable[[Network], object]) -> object:
        proxy.reset(storm(1, 1, fault))
        for _ in range(3):
            try:
                return call(network)
            except TransientNetworkError:
                continue
        raise AssertionError(f"{fault} was not overcome")

    again(lambda net: net.reserve(pad))
    again(lambda net: net.write(pad, image))
    again(lambda net: net.confirm(pad, image.digest))
    again(lambda net: net.confirm(pad, image.digest))
    again(lambda net: net.read(pad))
    again(lambda net: net.write(pad, make_image(b"next", counter=2)))
    assert network.read(pad) == b"next"
    network.close()


def test_an_image_whose_answer_was_lost_is_not_sent_again(proxy: Proxy) -> None:
    network = open_http(proxy.url, settings=Settings(), facts={})
    proxy.reset(storm(1, 1, "lost"))
    with pytest.raises(NetworkError):
        network.write(make_pad(1), make_image(bytes(PAD)))
    network.write(make_pad(1), make_image(bytes(PAD)))
    assert proxy.methods == {"PUT": 1, "HEAD": 1}
    network.close()


@pytest.mark.parametrize("status", ["429", "503", "500"])
def test_a_storm_of_refusals_costs_at_most_three_times_the_requests(store: Store, proxy: Proxy, status: str) -> None:
    data = os.urandom(60 * PAD)
    store.put("calm", data)
    ideal = proxy.requests
    proxy.reset(storm(20, 20 + ideal // 2, status))
    again = os.urandom(60 * PAD)
    store.put("storm", again)
    assert proxy.met[status] > 0
    assert proxy.requests <= 3 * ideal
    check(store, {"calm": data, "storm": again})


def test_a_server_that_never_recovers_ends_the_put_and_it_resumes(store: Store, proxy: Proxy) -> None:
    data = os.urandom(40 * PAD)
    proxy.reset(lambda number: "503" if number > 50 else None)
    with pytest.raises(PutFailed) as caught:
        store.put("k", data)
    assert (caught.value.exit_code, caught.value.context["resume"]) == (75, True)
    assert proxy.requests < 50 + 40 * 3 * 2 + 100 + 40 * 4
    done = store.pending()[0].done
    proxy.reset(nothing)
    sent = store.put("k", data).transfer
    assert sent is not None
    assert sent.pads_written <= 40 + 3 - done
    check(store, {"k": data})


def test_another_writer_on_our_pads_ends_with_76(store: Store, proxy: Proxy, tmp_path: Path) -> None:
    store["small"] = b"1"
    shutil.copytree(store.home, tmp_path / "copy")
    with Store.open(tmp_path / "copy") as copy:
        copy["small"] = b"theirs"
    with pytest.raises(AnthillError) as caught:
        store["small"] = b"ours"
    assert caught.value.exit_code == 76
    causes = [caught.value, caught.value.__cause__]
    assert any(isinstance(each, (PadConflict, AnotherWriter)) for each in causes)


def test_two_stores_with_forty_connections_each_share_one_server(tmp_path: Path) -> None:
    with serve(tmp_path / "data", connections=84) as server:  # and one each while they are made
        _two_stores(server, tmp_path)


def _two_stores(server: PadServer, tmp_path: Path) -> None:
    wide = {"reserve_threads": 10, "upload_threads": 20, "download_threads": 10}
    homes = [tmp_path / name for name in ("one", "two")]
    stores = [Store.create(home, network=server.url, pad_size=PAD, settings=wide) for home in homes]
    data = [os.urandom(150 * PAD) for _ in stores]
    run_threads([partial(stores[n].put, "k", data[n]) for n in (0, 1)], threads=2)
    run_threads([partial(check, stores[n], {"k": data[n]}) for n in (0, 1)], threads=2)
    for each in stores:
        each.close()


def test_a_key_with_data_on_the_server_makes_no_second_store(store: Store, proxy: Proxy, tmp_path: Path) -> None:
    store["k"] = b"v"
    with pytest.raises(AnthillError, match="--slot 1") as caught:
        Store.create(tmp_path / "second", network=proxy.url, key_file=store.key_path, pad_size=PAD)
    assert caught.value.exit_code == 73


def test_a_store_stays_with_the_server_it_was_made_on(store: Store, proxy: Proxy, tmp_path: Path) -> None:
    store["k"] = b"v"
    with serve(tmp_path / "other") as other:
        proxy.upstream = other.url
        with pytest.raises(AnthillError, match="another pad server") as caught:
            store["k"] = b"w"
        assert caught.value.exit_code == 76
        with Store.open(store.home) as again, pytest.raises(AnthillError, match="another pad server") as caught:
            again["k"]
        assert caught.value.exit_code == 76


def test_pads_larger_than_the_server_s_are_refused_when_the_store_is_made(tmp_path: Path) -> None:
    with serve(tmp_path / "data", pad_size=PAD) as small, pytest.raises(ConfigurationError, match=f"{PAD} bytes.*--pad-size"):
        Store.create(tmp_path / "home", network=small.url)
    assert not (tmp_path / "home" / "config.json").exists()


def test_a_full_server_is_73(tmp_path: Path) -> None:
    with (
        serve(tmp_path / "data", quota=10 * PAD) as small,
        Store.create(tmp_path / "home", network=small.url, pad_size=PAD) as store,
        pytest.raises(AnthillError) as caught,
    ):
        store["k"] = bytes(40 * PAD)
    assert caught.value.exit_code == 73
