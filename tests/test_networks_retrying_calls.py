"""Retries on behalf of a call: who hears of them, what stops them, and how all threads slow down together."""

from __future__ import annotations

import threading
from functools import partial
from itertools import pairwise
from typing import Any

import pytest

from anthill_sync import errors
from anthill_sync.errors import NetworkError, TransientNetworkError
from anthill_sync.networks import retrying
from anthill_sync.networks.base import Call, calling
from anthill_sync.networks.retrying import RetryingNetwork
from anthill_sync.settings import Settings
from tests.support import PATIENCE, Heard, Rig, Seen, busy, make_image, make_pad, run_threads

PAD = make_pad(1)
IMAGE = make_image(b"image")


# -- on whose behalf


def test_every_wait_is_told_before_it_begins() -> None:
    rig, heard = Rig(), Heard()
    slept_when_told: list[int] = []

    def listener(*retry: Any) -> None:
        heard.retries.append(retry)
        slept_when_told.append(len(rig.clock.slept))

    rig.faulty.inner.write(PAD, IMAGE)
    rig.faulty.fail("read", busy(), times=2)
    rig.faulty.fail("read", busy(retry_after=9.0), skip=0, times=1)
    with calling(Call(heard.stop, listener)):
        rig.network.read(PAD)
    assert heard.retries == [
        ("read", PAD.address, 1, 0.25, "busy", 1000),
        ("read", PAD.address, 2, 0.5, "busy", 1000),
        ("read", PAD.address, 3, 9.0, "busy", 1000),
    ]
    assert slept_when_told == [0, 1, 2]


def test_no_retry_is_told_that_is_not_made() -> None:
    rig, heard = Rig(attempts=3), Heard()
    rig.faulty.fail("read", busy(), times=99)
    with calling(heard.call), pytest.raises(TransientNetworkError):
        rig.network.read(PAD)
    assert [retry[2] for retry in heard.retries] == [1, 2]


def test_a_stop_during_a_wait_ends_it_and_the_last_failure_is_raised() -> None:
    """The real wait of 100 seconds ends at once, on the thread that waits."""
    rig = Rig()
    waiting, stop = threading.Event(), threading.Event()
    network = RetryingNetwork(rig.faulty, Settings())
    rig.faulty.fail("write", lambda: TransientNetworkError("first", retry_after=100.0), times=1)
    caught: list[NetworkError] = []

    def write() -> None:
        with calling(Call(stop, lambda *retry: waiting.set())), pytest.raises(TransientNetworkError, match="first") as error:
            network.write(PAD, IMAGE)
        caught.append(error.value)

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    assert waiting.wait(PATIENCE)
    stop.set()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert rig.faulty.calls["write"] == 1
    assert caught[0].context["attempts"] == 1


def test_a_stop_during_an_attempt_means_no_further_one_and_no_word_of_it() -> None:
    rig, heard = Rig(), Heard()

    def stopped(seen: object) -> None:
        heard.stop.set()
        raise TransientNetworkError("reset")

    rig.faulty.before("read", stopped)
    with calling(heard.call), pytest.raises(TransientNetworkError, match="reset"):
        rig.network.read(PAD)
    assert rig.faulty.calls["read"] == 1
    assert heard.retries == []
    assert rig.clock.slept == []


def test_a_stop_during_a_good_attempt_changes_nothing() -> None:
    rig, heard = Rig(), Heard()
    rig.faulty.before("write", lambda seen: heard.stop.set())
    with calling(heard.call):
        rig.network.write(PAD, IMAGE)
    assert rig.faulty.done["write"] == 1


@pytest.mark.parametrize("error", [TypeError("wrong"), ValueError("wrong"), StopIteration("wrong"), KeyboardInterrupt()])
def test_what_the_listener_raises_is_raised_unchanged_and_ends_the_operation(error: BaseException) -> None:
    rig = Rig()
    told: list[int] = []

    def listener(*retry: Any) -> None:
        told.append(1)
        raise error

    rig.faulty.fail("read", busy(), times=99)
    with calling(Call(threading.Event(), listener)), pytest.raises(type(error)) as caught:
        rig.network.read(PAD)
    assert caught.value is error
    assert (rig.faulty.calls["read"], told) == (1, [1])


# -- slowing down together


def test_refused_threads_slow_down_together_and_recover_step_by_step() -> None:
    """Twenty calls run at once and all are refused; all wait; then no more than half of them run at once."""
    rig = Rig()
    all_refused = threading.Barrier(20)
    network = rig.over(rig.faulty, Settings(), sleep=lambda stop, seconds: all_refused.wait(PATIENCE))
    at_once: list[int] = []

    def refuse_the_first_twenty(seen: Seen) -> None:
        if seen.number <= 20:
            raise TransientNetworkError("busy", slow_down=True)
        at_once.append(rig.faulty.running["write"])

    gate = rig.faulty.hold("write")
    rig.faulty.before("write", refuse_the_first_twenty)
    writes = [partial(network.write, make_pad(number), IMAGE) for number in range(20)]
    run_threads([partial(gate.open_after, 20), *writes], threads=21)
    assert rig.faulty.calls["write"] == 20 + 20
    assert max(at_once) <= 11, "halved to ten, and raised once by the first ten successes"
    limits = [network._policy.gate.limit]
    for number in range(100, 180):
        network.write(make_pad(number), IMAGE)
        limits.append(network._policy.gate.limit)
    assert (limits[0], limits[-1]) == (11, 17)
    assert all(after - before in (0, 1) for before, after in pairwise(limits))


def test_no_more_calls_run_than_the_network_has_connections() -> None:
    rig = Rig(properties={"connections": 4})
    run_threads(partial(rig.network.write, make_pad(number), IMAGE) for number in range(200))
    assert rig.faulty.peak["write"] <= 4
    assert rig.faulty.done["write"] == 200


def test_a_stop_while_waiting_for_a_turn_raises_interrupted_or_the_last_failure() -> None:
    rig, heard = Rig(properties={"connections": 1}), Heard()
    gate = rig.faulty.hold("write")
    holder = threading.Thread(target=rig.network.write, args=(make_pad(2), IMAGE), daemon=True)
    holder.start()
    gate.wait_for(1)
    heard.stop.set()
    with calling(heard.call), pytest.raises(errors.Interrupted):
        rig.network.read(PAD)
    gate.open()
    holder.join(PATIENCE)
    assert rig.faulty.calls["read"] == 0


class StopAtLook(threading.Event):
    """A stop event that is found set from the given look on."""

    def __init__(self, look: int) -> None:
        super().__init__()
        self.looks_left = look

    def is_set(self) -> bool:
        self.looks_left -= 1
        return self.looks_left <= 0


def test_a_repeat_that_is_stopped_while_waiting_for_a_turn_raises_the_last_failure() -> None:
    """The stop comes at the third look: after the one before the wait and the one after it."""
    rig = Rig(properties={"connections": 1})
    gate = rig.faulty.hold("write")
    holder = threading.Thread(target=lambda: rig.network.write(make_pad(2), IMAGE), daemon=True)
    rig.faulty.fail("read", busy())

    def lose_the_turn(*retry: object) -> None:
        holder.start()
        gate.wait_for(1)

    with calling(Call(StopAtLook(3), lose_the_turn)), pytest.raises(TransientNetworkError, match="busy") as caught:
        rig.network.read(PAD)
    gate.open()
    holder.join(PATIENCE)
    assert caught.value.context["attempts"] == 1
    assert rig.faulty.calls["read"] == 1


# -- the library


def test_the_library_that_repeats_calls_is_loaded_beside_the_first_call_and_before_it_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rig, loaded = Rig(), threading.Event()
    gate = rig.faulty.hold("reserve")

    def load() -> None:
        if not loaded.is_set():
            gate.open_after(1)  # held for ever if it had to be loaded before the call
            loaded.set()

    monkeypatch.setattr(retrying, "_backoff", load)
    rig.network.reserve(PAD)
    assert loaded.is_set()


def test_where_no_thread_can_be_started_the_library_is_loaded_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rig, loads = Rig(), list[int]()

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(retrying, "_backoff", lambda: loads.append(1))
    monkeypatch.setattr(threading.Thread, "start", refuse)
    rig.network.reserve(PAD)
    rig.network.write(PAD, IMAGE)
    assert loads == [1]


def test_a_library_that_cannot_be_loaded_is_an_error_of_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise OSError("too many open files")

    monkeypatch.setattr(retrying, "_backoff", fail)
    with pytest.raises(OSError, match="too many open files"):
        Rig().network.reserve(PAD)
