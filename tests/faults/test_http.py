"""Whole stores over a network that loses, cuts, doubles and delays, to a real pad server."""

from __future__ import annotations

import os
import random
import shutil
import threading
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
from anthill_sync.networks.retrying import RetryingNetwork
from anthill_sync.server import PadServer
from anthill_sync.settings import Settings
from tests.support import PATIENCE, FakeClock, make_image, make_pad, run_threads
from tests.support.servers import serve

from .http_scenarios import PAD, PATIENT, QUICK, SCENARIOS, Scenario, check, noise, put_update_remove, reserve_and_trim
from .proxy import PASSING, Proxy, nothing, seeded, storm


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


@pytest.mark.parametrize("run", [1, 2])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_store_comes_through_every_fault_that_passes(store: Store, proxy: Proxy, scenario: Scenario, run: int) -> None:
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    plan = seeded(seed, 0.2)
    proxy.reset(lambda asked: "lost" if asked.number == 3 else plan(asked))  # so that none goes without
    expected = scenario(store, seed)
    assert proxy.met.total() > 0
    check(store, expected)
    proxy.reset(nothing)
    with Store.open(store.home) as again:
        check(again, expected)


PLACES = (2, 7, 20, 40, 76)  # of a put of 40 chunks, which takes about 85 requests


@pytest.mark.parametrize("way", ["resume", "put again", "abandon"])
@pytest.mark.parametrize("place", PLACES)
def test_a_put_that_was_cut_off_anywhere_is_finished_or_given_up(
    store: Store, proxy: Proxy, tmp_path: Path, place: int, way: str
) -> None:
    source = tmp_path / "source"
    source.write_bytes(noise(place, 40 * (PAD - 1024)))
    store.put("k", b"old")
    proxy.reset(storm(place, 10**6, "refused"))
    with pytest.raises(PutFailed) as caught:
        store.put("k", source)
    assert caught.value.exit_code == 75
    proxy.reset(nothing)
    assert store["k"] == b"old"
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    proxy.reset(seeded(seed, 0.2))
    finish(store, source, way)
    check(store, {"k": b"old" if way == "abandon" else source.read_bytes()})


def finish(store: Store, source: Path, way: str) -> None:
    """End the interrupted put; what is stored already is not sent again. One that never sent an image left nothing."""
    pending = store.pending()
    if way == "abandon":
        assert store.abandon() == [each.key for each in pending]
        return
    entry = store.resume().entries[0] if way == "resume" and pending else store.put("k", source)
    assert entry.transfer is not None
    assert entry.transfer.pads_written <= 40 + 1 - sum(each.done for each in pending)
    assert store.pending() == []


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
    with Store.open(store.home, settings=PATIENT) as patient:
        patient.put("storm", again)
    assert proxy.met[status] > 0
    assert proxy.requests <= 3 * ideal
    proxy.reset(nothing)
    check(store, {"calm": data, "storm": again})


@pytest.mark.parametrize("status", ["429", "503"])
def test_what_the_server_asks_for_is_waited_for_and_slows_all_threads_down(proxy: Proxy, status: str) -> None:
    """Eight threads at once are refused: each waits the seconds it was told, and fewer than eight go on together."""
    clock, settings = FakeClock(), Settings(reserve_threads=2, upload_threads=4, download_threads=2)
    inner = open_http(proxy.url, settings=settings, facts={})
    all_refused = threading.Barrier(8)

    def sleep(stop: threading.Event, seconds: float) -> None:
        clock.sleep(stop, seconds)
        all_refused.wait(PATIENCE)  # as long as seven seconds are

    network = RetryingNetwork(inner, settings, sleep=sleep, clock=clock, jitter=lambda upper: 0.0)
    proxy.retry_after = "7"
    proxy.reset(storm(1, 8, status))
    run_threads([partial(network.write, make_pad(n), make_image(b"x")) for n in range(8)], threads=8)
    assert clock.slept == [7.0] * proxy.met[status]
    assert proxy.met[status] == 8
    assert network._policy.gate.limit < 8
    network.close()


def test_a_server_that_never_recovers_ends_the_put_and_it_resumes(store: Store, proxy: Proxy) -> None:
    data = os.urandom(40 * PAD)
    proxy.reset(storm(51, 10**6, "503"))
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


def test_two_stores_of_one_key_share_a_server_in_slots_of_their_own(store: Store, proxy: Proxy, tmp_path: Path) -> None:
    settings = {**QUICK, "reserve_threads": 4, "upload_threads": 4, "download_threads": 4}
    with Store.create(
        tmp_path / "second", network=proxy.url, key_file=store.key_path, slot=1, pad_size=PAD, settings=settings
    ) as second:
        seed = random.SystemRandom().randrange(10**6)
        print(f"seed {seed}")
        proxy.reset(seeded(seed, 0.2))
        work = [partial(put_update_remove, store, seed), partial(reserve_and_trim, second, seed + 1)]
        expected = run_threads(work, threads=2)
        assert proxy.met.total() > 0
        check(store, expected[0])
        check(second, expected[1])


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
