"""A pickled Store: home and options, never a secret; opened where and when it is first used."""

from __future__ import annotations

import copy
import multiprocessing
import os
import pickle
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from anthill_sync import Store
from anthill_sync.errors import ConfigurationError, InvalidArgument, NoStore, PermissionRefused, StoreClosed, UsedAfterFork
from tests.store_tools import chunks_of
from tests.support import PATIENCE, run_threads

METHODS = ["fork", "spawn", "forkserver"]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    Store.create(tmp_path / "home", pad_size=16 * 1024).close()
    return tmp_path / "home"


@pytest.fixture
def store(home: Path) -> Iterator[Store]:
    with Store.open(home, lock_wait=PATIENCE) as opened:
        yield opened


def moved(store: Store) -> Store:
    made = pickle.loads(pickle.dumps(store))
    assert isinstance(made, Store)
    return made


# -- what a pickle holds


def test_a_pickle_holds_no_secret(tmp_path: Path) -> None:
    secrets = {"objects.secret_access_key": "topsecret1", "proxy": "http://ann:topsecret2@proxy:1", "objects.token": "topsecret3"}
    with Store.create(tmp_path / "home", passphrase="topsecret4") as made:
        made["a"] = b"1"
    with Store.open(tmp_path / "home", passphrase="topsecret4", settings={**secrets, "upload_threads": 3}) as store:
        assert store["a"] == b"1"
        data = pickle.dumps(store)
        key = store._session.pads._key
    assert b"topsecret" not in data
    for secret in (key.secret, (tmp_path / "home" / "key").read_bytes().split()[-1]):
        assert secret not in data
    copied = pickle.loads(data)
    with pytest.raises(ConfigurationError, match="passphrase"):
        copied["a"]


def test_home_and_options_come_along(home: Path) -> None:
    with Store.open(home, lock_wait=7.0, read_only=True, settings={"upload_threads": 3, "attempts": 2}) as store:
        with moved(store) as other:
            assert (other.home, other.settings) == (home, store.settings)
            assert other._session._lock_wait == 7.0
            with pytest.raises(PermissionRefused):
                other["a"] = b"1"
        assert (store.settings.upload_threads, store.settings.attempts) == (3, 2)


def test_a_pickle_is_opened_when_it_is_first_used_and_once(home: Path, store: Store, tmp_path: Path) -> None:
    data = pickle.dumps(store)
    (home).rename(tmp_path / "elsewhere")
    other = pickle.loads(data)
    assert "not opened yet" in repr(other)
    assert other.home == home
    with pytest.raises(NoStore):
        list(other)
    (tmp_path / "elsewhere").rename(home)
    sessions = run_threads([lambda: other._session] * 20)
    assert len(set(map(id, sessions))) == 1
    assert "dir:pads" in repr(other)
    other.close()


def test_a_pickle_that_is_closed_before_it_is_used_stays_closed(store: Store) -> None:
    other = moved(store)
    other.close()
    other.close()
    with pytest.raises(StoreClosed):
        list(other)


def test_a_pickle_of_a_pickle_and_a_copy_work_too(store: Store) -> None:
    store["a"] = b"1"
    with moved(moved(store)) as other, copy.copy(store) as third, copy.deepcopy(other) as fourth:
        assert other["a"] == third["a"] == fourth["a"] == b"1"
        other["b"] = b"2"
        assert store["b"] == b"2"


def test_a_store_in_memory_cannot_be_pickled_and_says_why(tmp_path: Path) -> None:
    with Store.create(tmp_path / "home", network="memory://") as store, pytest.raises(InvalidArgument, match="memory"):
        pickle.dumps(store)


# -- in other processes


def put_and_get(store: Store, number: int) -> tuple[int, bytes]:
    """The work of another process."""
    store[f"from/{number}"] = chunks_of(number, number + 1)
    return os.getpid(), store["ours"]


@pytest.mark.parametrize("method", METHODS)
def test_processes_of_a_pool_share_a_store(store: Store, method: str) -> None:
    """The parent's Store is open and has threads; each child opens its own, and they take turns."""
    store["ours"] = chunks_of(1, 2, 3)
    with ProcessPoolExecutor(3, mp_context=multiprocessing.get_context(method)) as pool:
        answers = [pool.submit(put_and_get, store, number) for number in range(8)]
        for answer in answers:
            pid, value = answer.result(PATIENCE * 3)
            assert (pid != os.getpid(), value) == (True, chunks_of(1, 2, 3))
    assert sorted(store) == sorted([*(f"from/{number}" for number in range(8)), "ours"])
    assert store.check(read_data=True).problems == ()


def in_child(method: str, work: Callable[..., Any], *arguments: Any) -> None:
    process = multiprocessing.get_context(method).Process(target=work, args=arguments)  # type: ignore[attr-defined]
    process.start()
    process.join(PATIENCE * 2)
    assert process.exitcode == 0


def use_argument(store: Store, method: str) -> None:
    """Under fork the argument is the parent's own Store, not a pickle; every call says so."""
    if method == "fork":
        with pytest.raises(UsedAfterFork):
            list(store)
        store = moved(store)
    with store:
        store["child"] = b"1"


@pytest.mark.parametrize("method", METHODS)
def test_a_process_gets_a_store_as_an_argument(store: Store, method: str) -> None:
    store["ours"] = b"0"
    in_child(method, use_argument, store, method)
    assert store["child"] == b"1"


def test_a_fork_while_other_threads_put_does_no_harm(store: Store) -> None:
    """Only the pickle crosses the border; locks that other threads hold at that moment stay behind."""
    stop = threading.Event()

    def busy() -> None:
        number = 0
        while not stop.is_set():
            store[f"busy/{number % 5}"] = chunks_of(number % 250)
            number += 1

    thread = threading.Thread(target=busy)
    thread.start()
    try:
        for _ in range(3):
            in_child("fork", use_argument, store, "fork")
    finally:
        stop.set()
        thread.join(PATIENCE)
    assert store["child"] == b"1"
    assert store.check(read_data=True).problems == ()
