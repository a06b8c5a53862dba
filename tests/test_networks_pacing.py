"""The gate that lets all threads slow down together: halved and slowed by refusals, grown back by successes."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from anthill_sync import Store, events
from anthill_sync.config import read_config
from anthill_sync.errors import TransientNetworkError
from anthill_sync.keys import read_key_file
from anthill_sync.networks import open_network
from anthill_sync.networks.base import Network
from anthill_sync.networks.pacing import Pace, PacingGate
from anthill_sync.networks.retrying import RetryingNetwork
from anthill_sync.session import Session
from anthill_sync.settings import resolve
from tests.support import PATIENCE
from tests.support.throttling import TokenBucket

NEVER = threading.Event()
PAD = 16384


class Time:
    """A clock that waits move."""

    def __init__(self) -> None:
        self.now = 100.0
        self.waits: list[float] = []

    def wait(self, condition: threading.Condition, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds


def timed_gate(most: int, moved: Time) -> PacingGate:
    return PacingGate(most, shortest=0.01, longest=5.0, clock=lambda: moved.now, wait=moved.wait)


def succeed(gate: PacingGate, times: int) -> None:
    for _ in range(times):
        with gate.turn(NEVER) as granted:
            assert granted


def refuse_together(gate: PacingGate, calls: int) -> None:
    """This many calls run at once, and all are refused."""
    turns = [gate.turn(NEVER) for _ in range(calls)]
    for turn in turns:
        assert turn.__enter__()
    for turn in turns:
        assert not turn.__exit__(TransientNetworkError, TransientNetworkError("busy", slow_down=True), None)


@contextmanager
def running(gate: PacingGate, calls: int) -> Iterator[None]:
    with ExitStack() as stack:
        for _ in range(calls):
            stack.enter_context(gate.turn(NEVER))
        yield


def test_a_burst_of_refusals_halves_the_calls_that_ran_once() -> None:
    gate = PacingGate(1000, longest=0)
    refuse_together(gate, 20)
    assert gate.limit == 10


def test_the_next_burst_halves_again_and_one_call_is_always_let_through() -> None:
    gate = PacingGate(1000, longest=0)
    refuse_together(gate, 20)
    limits = []
    for _ in range(5):
        refuse_together(gate, gate.limit)
        limits.append(gate.limit)
    assert limits == [5, 2, 1, 1, 1]
    succeed(gate, 1)


def test_as_many_successes_as_the_limit_raise_it_by_one_up_to_where_it_began() -> None:
    gate = PacingGate(8, longest=0)
    refuse_together(gate, 4)
    assert gate.limit == 2
    limits = []
    for calls in (1, 1, 2, 1, 4, 5, 6, 7, 100):
        succeed(gate, calls)
        limits.append(gate.limit)
    assert limits == [2, 3, 3, 4, 5, 6, 7, 8, 8]


def test_successes_before_a_refusal_do_not_count_after_it() -> None:
    gate = PacingGate(8, longest=0)
    refuse_together(gate, 8)
    succeed(gate, 3)
    refuse_together(gate, 4)
    succeed(gate, 1)
    assert gate.limit == 2
    succeed(gate, 1)
    assert gate.limit == 3


def test_other_failures_change_nothing() -> None:
    gate = PacingGate(8, longest=0)
    refuse_together(gate, 8)
    for error in (TransientNetworkError("reset"), ValueError("bug"), KeyboardInterrupt()):
        for _ in range(10):
            with pytest.raises(type(error)), gate.turn(NEVER):
                raise error
    assert gate.limit == 4
    with running(gate, 4):
        pass


def test_no_more_calls_run_than_the_limit_and_a_waiting_one_follows_at_once() -> None:
    gate = PacingGate(1, longest=0)
    entered, leave = threading.Event(), threading.Event()

    def second() -> None:
        with gate.turn(NEVER):
            entered.set()
            leave.wait(PATIENCE)

    thread = threading.Thread(target=second, daemon=True)
    with gate.turn(NEVER):
        thread.start()
        assert not entered.wait(0.05)
    assert entered.wait(PATIENCE)
    leave.set()
    thread.join(PATIENCE)
    assert not thread.is_alive()


@pytest.mark.parametrize(("in_vain", "waits"), [(1, True), (5, False)])
def test_a_call_that_was_refused_twice_goes_first_unless_all_are_refused(in_vain: int, waits: bool) -> None:
    gate, stop = PacingGate(1, shortest=0.0, longest=0.0), threading.Event()
    for _ in range(in_vain):
        refuse_together(gate, 1)
    with gate._freed, gate._waiting(2):  # such a call waits; nobody else can come in
        stop.set()
        with gate.turn(stop) as granted:
            assert granted is not waits
        with gate.turn(stop, refusals=2) as granted:
            assert granted


def test_a_call_that_was_refused_before_leaves_the_network_alone_for_longer_each_time() -> None:
    pace = Pace(0.01, 5.0)
    for now in (0.2, 0.4, 0.6, 0.8):
        pace.start(now)
        pace.succeeded(now)
    assert [pace.left(0.8, refusals) for refusals in (0, 1, 2, 4)] == pytest.approx([0.0, 0.15, 0.3, 0.6])
    assert pace.left(0.8, 1000) == 5.0


def test_a_call_that_waits_for_its_turn_notices_the_stop_event() -> None:
    gate = PacingGate(1, longest=0)
    stop = threading.Event()
    answers: list[bool] = []

    def second() -> None:
        with gate.turn(stop) as granted:
            answers.append(granted)

    thread = threading.Thread(target=second, daemon=True)
    with running(gate, 1):
        thread.start()
        stop.set()
        thread.join(PATIENCE)
        assert answers == [False]
    with gate.turn(stop) as granted:
        assert granted, "a free turn is given, whatever the stop event says"


def test_many_threads_leave_the_gate_as_they_found_it() -> None:
    gate = PacingGate(3, longest=0)
    most, now = [0], [0]
    lock = threading.Lock()

    def work() -> None:
        for number in range(100):
            try:
                with gate.turn(NEVER):
                    with lock:
                        now[0] += 1
                        most[0] = max(most[0], now[0])
                    with lock:
                        now[0] -= 1
                    if number % 7 == 0:
                        raise TransientNetworkError("busy", slow_down=True)
            except TransientNetworkError:
                pass

    threads = [threading.Thread(target=work, daemon=True) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert not any(thread.is_alive() for thread in threads)
    assert most[0] <= 3
    succeed(gate, 100)
    assert gate.limit == 3
    with running(gate, 3):
        pass


# -- one after the other


def test_calls_follow_each_other_at_once_until_the_network_refuses_one() -> None:
    moved = Time()
    gate = timed_gate(4, moved)
    succeed(gate, 1000)
    assert moved.waits == []
    for _ in range(20):
        refuse_together(gate, 1)
    moved.waits.clear()
    succeed(gate, 3)
    assert len(moved.waits) >= 3


def refused_before() -> Pace:
    """Much was refused, and nothing is known of a rate."""
    pace = Pace(0.01, 5.0)
    for _ in range(20):
        pace.refused(0.0, first=False)
    return pace


def test_after_refusals_calls_come_at_half_the_rate_that_the_network_took() -> None:
    pace, now = refused_before(), 100.0
    for number in range(10):
        pace.succeeded(now + number / 10)
    pace.refused(now + 1)
    assert pace.interval == pytest.approx(0.2)
    assert pace.left(now + 1) == pytest.approx(0.2)


@pytest.mark.parametrize("seed", range(5))
def test_a_network_that_refuses_a_few_whatever_the_rate_is_not_made_slow(seed: int) -> None:
    pace, chance, slowest = Pace(0.01, 5.0), random.Random(seed), 0.0
    for number in range(3000):
        now = number / 100
        if chance.random() < 0.03:
            pace.refused(now)
        else:
            pace.succeeded(now)
        slowest = max(slowest, pace.interval)
    assert slowest < 0.1


def test_what_was_long_ago_tells_nothing_of_the_rate() -> None:
    pace = refused_before()
    pace.succeeded(100.0)
    pace.refused(4000.0)
    assert pace.interval == 0.01


def test_refusals_without_a_success_slow_down_twice_as_much_each_up_to_the_longest() -> None:
    pace, found = refused_before(), []
    for _ in range(12):
        pace.refused(100.0)
        found.append(pace.interval)
    assert found[:4] == pytest.approx([0.01, 0.02, 0.04, 0.08])
    assert found[-2:] == [5.0, 5.0]


@pytest.mark.parametrize("rate", [2, 5, 1000])
def test_the_pace_settles_just_below_what_the_network_takes(rate: float) -> None:
    """Of a network that takes ``rate`` calls a second, calls ask for most of it, and few of them are refused."""
    pace, now, last, taken, refused = Pace(0.01, 5.0), 100.0, 0.0, 0, 0
    tokens = 1.0
    for _ in range(2000):
        now += max(pace.left(now), 0.0001)
        pace.start(now)
        tokens, last = min(max(rate, 1), tokens + (now - (last or now)) * rate), now
        if tokens >= 1:
            tokens, taken = tokens - 1, taken + 1
            pace.succeeded(now)
        else:
            refused += 1
            pace.refused(now)
    assert taken / (now - 100.0) > 0.6 * rate
    assert refused / taken < 0.15


def test_the_pace_is_gone_at_twice_the_rate_of_before_and_a_slow_one_in_less_than_a_minute() -> None:
    for refusals in (1, 30):
        pace, now = refused_before(), 100.0
        for _ in range(refusals):
            pace.refused(now)
        while pace.interval:
            now += pace.left(now)
            pace.start(now)
            pace.succeeded(now)
        assert now - 100.0 < 60


def test_a_put_through_a_network_that_throttles_ends_well(tmp_path: Path) -> None:
    """125 pads of a server that takes 5 requests a second, all times a tenth of what they would be: 50 calls a second, and a
    tenth of the usual wait before a repeat."""
    settings = resolve({"backoff_base": 0.025, "backoff_cap": 3.0})
    Store.create(home := tmp_path / "home", pad_size=PAD).close()
    config = read_config(home)
    bucket = TokenBucket(50.0, 5.0)
    throttled = Throttled(open_network(config.network, pad_size=PAD, base=home, settings=settings), bucket)
    key = read_key_file(config.key_path(home), None)
    network = RetryingNetwork(throttled, settings)
    heard: list[events.Event] = []
    with Store(Session(home, config, key, settings, network, lock_wait=0.0, read_only=False)) as store:
        store.put("k", data := os.urandom(125 * config.chunk_size), on_event=heard.append)
    retries = [event for event in heard if isinstance(event, events.RetryScheduled)]
    assert bucket.refused == len(retries) > 0
    assert min(event.at_once or 0 for event in retries) == 1
    assert bucket.refused < bucket.taken / 4
    with Store.open(home) as store:
        assert store["k"] == data


class Throttled:
    """``inner``, which takes what the bucket allows and refuses the others."""

    def __init__(self, inner: Network, bucket: TokenBucket) -> None:
        self.properties, self.close, self.confirm = inner.properties, inner.close, inner.confirm
        self.reserve, self.write, self.read = self._limited(inner.reserve), self._limited(inner.write), self._limited(inner.read)
        self._bucket = bucket

    def _limited(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def limited(*arguments: Any, **named: Any) -> Any:
            if not self._bucket.take():
                raise TransientNetworkError("too many requests", slow_down=True)
            return call(*arguments, **named)

        return limited
