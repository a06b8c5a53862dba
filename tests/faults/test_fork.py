"""A Store belongs to the process that opened it: a fork neither uses it, nor frees its lock, nor keeps it."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from anthill_sync import Store, lock
from anthill_sync.errors import StoreLocked, UsedAfterFork
from tests.store_tools import StoreRig
from tests.support import PATIENCE

from .scenarios import LARGE, PAD, SMALL
from .test_weak_spots import in_thread

CALLS: dict[str, Callable[[Store], object]] = {
    "put": lambda store: store.put("k", b"x"),
    "put_many": lambda store: store.put_many({"k": b"x"}),
    "get": lambda store: store.get("k"),
    "get_into": lambda store: store.get_into("k", Path("/nowhere")),
    "entries": lambda store: store.entries(),
    "stat": lambda store: store.stat("k"),
    "rename": lambda store: store.rename("k", "l"),
    "delete": lambda store: store.delete("k"),
    "delete_prefix": lambda store: store.delete_prefix("k"),
    "pending": lambda store: store.pending(),
    "resume": lambda store: store.resume(),
    "abandon": lambda store: store.abandon(),
    "reserve": lambda store: store.reserve(1),
    "trim": lambda store: store.trim(),
    "usage": lambda store: store.usage(),
    "check": lambda store: store.check(),
    "getitem": lambda store: store["k"],
    "setitem": lambda store: store.__setitem__("k", b"x"),
    "delitem": lambda store: store.__delitem__("k"),
    "contains": lambda store: "k" in store,
    "iter": lambda store: list(store),
    "len": lambda store: len(store),
    "clear": lambda store: store.clear(),
    "pop": lambda store: store.pop("k"),
}


def in_child(action: Callable[[], object]) -> str:
    """What ``action`` returned or raised in a forked process, as text; the process has ended."""
    listen, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            signal.alarm(int(PATIENCE))
            answer = f"{action()}"
        except BaseException as error:  # noqa: BLE001 - told to the test's own thread
            answer = type(error).__name__
        os.write(tell, answer.encode())
        os._exit(0)
    os.close(tell)
    told = b"".join(iter(lambda: os.read(listen, 4096), b"")).decode()
    os.close(listen)
    assert os.waitpid(pid, 0)[1] == 0, "the forked process hung or died"
    return told


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[StoreRig]:
    rig = StoreRig(tmp_path / "home", None, upload_threads=4)
    rig.store.put("k", SMALL)
    yield rig
    rig.store.close()


def test_every_call_of_a_store_opened_before_a_fork_says_so(rig: StoreRig) -> None:
    def outcomes() -> dict[str, str]:
        found = {}
        for name, call in CALLS.items():
            try:
                call(rig.store)
                found[name] = "nothing"
            except UsedAfterFork:
                pass
            except BaseException as error:  # noqa: BLE001 - told to the test's own thread
                found[name] = repr(error)
        rig.store.close()
        return found

    assert in_child(outcomes) == "{}"
    assert rig.store["k"] == SMALL


def test_the_exit_of_a_forked_process_does_not_free_the_lock(rig: StoreRig) -> None:
    gate = rig.faulty.hold("write")
    put = in_thread(lambda: rig.store.put("l", LARGE))
    gate.wait_for(1)
    assert in_child(rig.store.close) == "None"
    with Store.open(rig.home) as other, pytest.raises(StoreLocked, match=str(os.getpid())):
        other.put("m", SMALL)
    gate.open()
    put.result(PATIENCE)
    assert rig.store["l"] == LARGE


def test_a_forked_process_that_lives_on_does_not_keep_the_lock(rig: StoreRig) -> None:
    gate = rig.faulty.hold("write")
    put = in_thread(lambda: rig.store.put("l", LARGE))
    gate.wait_for(1)
    end, wait = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(wait)
        os.read(end, 1)
        os._exit(0)
    try:
        gate.open()
        put.result(PATIENCE)
        with Store.open(rig.home) as other:
            other.put("m", SMALL)
    finally:
        os.close(wait)
        os.waitpid(pid, 0)


def test_a_fork_while_the_lock_is_being_taken_does_not_keep_it(rig: StoreRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock is ours already, and the Store does not know it yet: the forked process inherits a descriptor that
    nobody closes there."""
    end, wait = os.pipe()
    children: list[int] = []
    attempt = vars(lock)["try_flock"]

    def fork_when_taken(fd: int) -> bool:
        taken = bool(attempt(fd))
        if taken and not children:
            children.append(os.fork())
            if children[-1] == 0:
                os.close(wait)
                os.read(end, 1)
                os._exit(0)
        return taken

    monkeypatch.setattr(lock, "try_flock", fork_when_taken)
    try:
        rig.store.put("l", SMALL)
        with Store.open(rig.home) as other:
            other.put("m", SMALL)
    finally:
        os.close(wait)
        os.waitpid(children[0], 0)


def test_a_writer_that_is_killed_leaves_no_lock_with_the_processes_it_forked(rig: StoreRig) -> None:
    ready, tell = os.pipe()
    end, wait = os.pipe()

    def fork_and_wait() -> None:
        if os.fork() == 0:
            os.write(tell, b"1")
            os.read(end, 1)
            os._exit(0)
        signal.pause()

    writer = os.fork()
    if writer == 0:
        os.close(wait)
        with Store.open(rig.home) as store:
            store._session.mutate((), lambda _: fork_and_wait())
    try:
        assert os.read(ready, 1)
        with pytest.raises(StoreLocked):
            rig.store.put("m", SMALL)
        os.kill(writer, signal.SIGKILL)
        os.waitpid(writer, 0)
        rig.store.put("m", SMALL)
    finally:
        os.close(wait)


def test_a_forked_process_opens_its_own_store_while_a_put_runs(rig: StoreRig) -> None:
    gate = rig.faulty.hold("write")
    put = in_thread(lambda: rig.store.put("l", LARGE))
    gate.wait_for(1)

    def own() -> object:
        with Store.open(rig.home) as store:
            assert store["k"] == SMALL
            assert "l" not in store
            store.put("m", SMALL)
        return "not reached"

    assert in_child(own) == "StoreLocked"
    gate.open()
    put.result(PATIENCE)

    def again() -> object:
        with Store.open(rig.home) as store:
            store.put("m", SMALL)
            return store["l"] == LARGE

    assert in_child(again) == "True"
    assert rig.store["m"] == SMALL


def put_own(home: Path, number: int) -> None:
    with Store.open(home, lock_wait=PATIENCE) as store:
        store.put(f"process/{number}", SMALL)


def test_multiprocessing_children_open_their_own_stores(rig: StoreRig) -> None:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=put_own, args=(rig.home, number)) for number in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(PATIENCE)
        assert process.exitcode == 0
    assert [key for key in rig.store if key.startswith("process/")] == [f"process/{number}" for number in range(4)]
    assert not rig.store.check(read_data=True).problems
    assert rig.config.pad_size == PAD
