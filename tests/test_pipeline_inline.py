"""Where no thread can be started the same pipeline runs on the caller's thread: late programs can still put and get."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from anthill_sync import Store
from anthill_sync.errors import PutFailed, StoreClosed
from anthill_sync.threads import Pool
from tests.store_tools import CHUNK, StoreRig, chunks_of, names, permanent
from tests.support import PATIENCE, Seen
from tests.support.servers import serve

pytest_plugins = ["tests.store_fixtures"]

Background = Callable[[Callable[[], Any]], "Future[Any]"]


class Limit:
    """Lets a number of our threads start, and no more."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, allowed: int) -> None:
        self.allowed, self.refused = allowed, 0
        self._start = threading.Thread.start
        monkeypatch.setattr(threading.Thread, "start", lambda thread: self.start(thread))

    def start(self, thread: threading.Thread) -> None:
        if thread.name.startswith("anthill"):
            if not self.allowed:
                self.refused += 1
                raise RuntimeError("can't start new thread")
            self.allowed -= 1
        self._start(thread)


@pytest.fixture
def none(monkeypatch: pytest.MonkeyPatch) -> Limit:
    return Limit(monkeypatch, 0)


def ours() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("anthill")}


def pieces(data: bytes) -> Iterator[bytes]:
    for at in range(0, len(data), 5000):
        yield data[at : at + 5000]


def test_everything_works_without_any_thread(none: Limit, each: StoreRig) -> None:
    before, data = ours(), chunks_of(*range(70)) + b"rest"
    each.store.put("file", data)
    each.store.put("stream", pieces(data))
    each.store.put_many({"small/1": b"1", "small/2": b"2", "large": chunks_of(9, 8)})
    each.store.put("file", data[:CHUNK] + b"!" + data[CHUNK + 1 :])
    each.store.rename("small/1", "renamed")
    each.store.delete("large")
    each.store.reserve(3)
    each.store.trim()
    each.reopen()
    with each.store.open("stream", "rb") as value:
        assert value.read() == data
    assert each.store["small/2"] == b"2"
    each.assert_sound(renamed=b"1", stream=data, file=data[:CHUNK] + b"!" + data[CHUNK + 1 :])
    assert none.refused
    assert ours() <= before, "a thread was started"


def test_a_put_without_threads_tells_the_same_events_on_the_way(none: Limit, rig: StoreRig) -> None:
    events: list[Any] = []
    committed_when_heard: list[int] = []

    def hear(event: Any) -> None:
        events.append(event)
        committed_when_heard.append(rig.faulty.done["write"])

    rig.store.put("a", pieces(chunks_of(*range(30))), on_event=hear)
    assert names(events)[-1] == "StoreComplete"
    commits = [event for event in events if type(event).__name__ == "ScratchpadCommitComplete"]
    assert [event.index for event in commits] == list(range(1, 32))
    assert len(set(committed_when_heard)) > 10, "events come while the put runs, not only at its end"


def test_a_stream_is_read_only_as_far_as_it_is_sent(none: Limit, rig: StoreRig) -> None:
    given = 0

    def source() -> Iterator[bytes]:
        nonlocal given
        for fill in range(40):
            given += 1
            assert given - rig.faulty.done["write"] <= 6
            yield chunks_of(fill)

    rig.store.put("a", source())
    rig.assert_sound(a=chunks_of(*range(40)))


def test_a_failed_put_without_threads_leaves_the_old_value_and_resumes(none: Limit, rig: StoreRig) -> None:
    rig.store["a"] = b"old"
    rig.faulty.fail("write", permanent, skip=7)
    with pytest.raises(PutFailed):
        rig.store.put("a", chunks_of(*range(20)))
    rig.assert_sound(a=b"old")
    rig.mend()
    with rig.counting() as calls:
        rig.store.put("a", chunks_of(*range(20)))
    assert calls["write"] <= 21 - 7
    rig.assert_sound(a=chunks_of(*range(20)))


@pytest.mark.parametrize("nth", [1, 5, 30])
@pytest.mark.parametrize("call", ["reserve", "write"])
def test_an_interrupt_of_a_call_on_the_callers_own_thread_is_raised_and_the_store_goes_on(
    none: Limit, rig: StoreRig, nth: int, call: str
) -> None:
    rig.store["a"] = b"old"
    first = rig.faulty.calls[call]

    def interrupt(seen: Seen) -> None:
        if seen.number == first + nth:
            raise KeyboardInterrupt

    rig.faulty.before(call, interrupt)
    with pytest.raises(KeyboardInterrupt):
        rig.store.put("a", chunks_of(*range(40)))
    rig.mend()
    rig.assert_sound(a=b"old")
    rig.store.put("a", chunks_of(*range(40)))
    rig.assert_sound(a=chunks_of(*range(40)))


@pytest.mark.parametrize("allowed", [1, 2, 3, 7])
def test_as_many_threads_as_can_be_started_are_used(
    monkeypatch: pytest.MonkeyPatch, rig: StoreRig, background: Background, allowed: int
) -> None:
    limit = Limit(monkeypatch, allowed)
    puts = [background(lambda key=key: rig.store.put(key, pieces(chunks_of(*range(9))))) for key in "abcdefgh"]  # type: ignore[misc]
    for put in puts:
        put.result(PATIENCE)
    assert not limit.allowed
    rig.assert_sound(**{key: chunks_of(*range(9)) for key in "abcdefgh"})


def test_threads_are_used_again_when_they_can_be_started_again(none: Limit, rig: StoreRig) -> None:
    rig.store["a"] = chunks_of(1, 2, 3)
    assert rig.faulty.peak["write"] == 1
    none.allowed = 1000
    gate = rig.faulty.hold("write")
    opening = threading.Thread(target=gate.open_after, args=(20,))
    opening.start()
    rig.store["a"] = chunks_of(*range(40))
    opening.join()
    assert rig.faulty.peak["write"] == 20
    rig.assert_sound(a=chunks_of(*range(40)))


def test_a_unit_that_waits_for_a_worker_is_never_run_by_a_caller(rig: StoreRig) -> None:
    """``help`` is for units that found no worker: otherwise there would be one upload more than threads."""
    running: set[str] = set()
    rig.faulty.before("write", lambda seen: running.add(threading.current_thread().name))
    for _ in range(20):
        rig.store["a"] = chunks_of(*range(25))
        rig.store.delete("a")
    assert all(name.startswith("anthill-upload") for name in running)


def test_work_that_found_no_thread_is_not_done_by_a_later_one_as_well(none: Limit) -> None:
    done: list[str] = []
    with Pool("test", 1) as pool:
        assert pool.offer(lambda: done.append("refused")) is None
        none.allowed = 1
        taken = pool.offer(lambda: done.append("taken"))
        assert taken is not None
    assert done == ["taken"]


def test_a_pool_that_is_shut_down_takes_nothing_and_nobody_does_it_instead() -> None:
    pool = Pool("test", 1)
    pool.shutdown()
    with pytest.raises(StoreClosed):
        pool.offer(lambda: None)


# -- the real reasons


PROGRAM = """
import atexit, sys, threading
from anthill_sync import Store

store = Store.open({home!r}, settings={{"confirm": "never"}})
data = bytes(range(256)) * 300

def late(key):
    store[key] = data
    store.put(key + "/stream", iter([data, data]))
    with store.open(key + "/opened", "wb") as value:
        value.write(data)
    assert store[key] == data and store[key + "/stream"] == data * 2
    with store.open(key + "/opened", "rb") as value:
        assert value.read() == data
    print(key, flush=True)
"""


def run(home: Path, code: str) -> str:
    Store.create(home, pad_size=16 * 1024).close()
    command = [sys.executable, "-W", "error", "-X", "dev", "-c", PROGRAM.format(home=str(home)) + code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE * 2, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def stored(home: Path) -> list[str]:
    with Store.open(home) as store:
        assert store.check(read_data=True).problems == ()
        return list(store)


@pytest.mark.parametrize("used_before", [False, True])
def test_a_handler_of_atexit_can_put_and_get_a_value(tmp_path: Path, used_before: bool) -> None:
    early = 'store["early"] = data\n' if used_before else ""
    assert run(tmp_path / "home", early + 'atexit.register(late, "exit")\n') == "exit\n"
    assert set(stored(tmp_path / "home")) >= {"exit", "exit/opened", "exit/stream"}


def test_a_thread_that_outlives_the_main_thread_can_put_and_get_a_value(tmp_path: Path) -> None:
    code = """
def wait():
    threading.main_thread().join()
    late("thread")

threading.Thread(target=wait).start()
"""
    assert run(tmp_path / "home", code) == "thread\n"
    assert "thread/stream" in stored(tmp_path / "home")


@pytest.mark.skipif(sys.platform != "linux", reason="needs a stack size that no system has room for")
def test_a_process_that_may_start_no_thread_can_put_and_get_a_value(tmp_path: Path) -> None:
    code = """
threading.stack_size(1 << 46)
try:
    threading.Thread(target=print).start()
except RuntimeError:
    late("limit")
"""
    assert run(tmp_path / "home", code) == "limit\n"
    assert "limit/stream" in stored(tmp_path / "home")


def test_a_pad_server_can_be_used_without_the_thread_that_watches_deadlines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve(tmp_path / "server") as server:
        limit = Limit(monkeypatch, 0)
        with Store.create(tmp_path / "home", network=server.url, pad_size=16 * 1024) as store:
            store["a"] = chunks_of(1, 2)
            assert store["a"] == chunks_of(1, 2)
        assert limit.refused
        limit.allowed = 1000


def test_a_put_at_exit_over_http_works_too(tmp_path: Path) -> None:
    with serve(tmp_path / "server") as server:
        url = server.url
        Store.create(tmp_path / "home", network=url, pad_size=16 * 1024).close()
        code = PROGRAM.format(home=str(tmp_path / "home")) + 'atexit.register(late, "exit")\n'
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE * 2, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, "exit\n", "")
