"""The gate that lets all threads slow down together: halved by refusals, grown back by successes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from anthill_sync.errors import TransientNetworkError
from anthill_sync.networks.pacing import PacingGate
from tests.support import PATIENCE

NEVER = threading.Event()


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
    gate = PacingGate(1000)
    refuse_together(gate, 20)
    assert gate.limit == 10


def test_the_next_burst_halves_again_and_one_call_is_always_let_through() -> None:
    gate = PacingGate(1000)
    refuse_together(gate, 20)
    limits = []
    for _ in range(5):
        refuse_together(gate, gate.limit)
        limits.append(gate.limit)
    assert limits == [5, 2, 1, 1, 1]
    succeed(gate, 1)


def test_as_many_successes_as_the_limit_raise_it_by_one_up_to_where_it_began() -> None:
    gate = PacingGate(8)
    refuse_together(gate, 4)
    assert gate.limit == 2
    limits = []
    for calls in (1, 1, 2, 1, 4, 5, 6, 7, 100):
        succeed(gate, calls)
        limits.append(gate.limit)
    assert limits == [2, 3, 3, 4, 5, 6, 7, 8, 8]


def test_successes_before_a_refusal_do_not_count_after_it() -> None:
    gate = PacingGate(8)
    refuse_together(gate, 8)
    succeed(gate, 3)
    refuse_together(gate, 4)
    succeed(gate, 1)
    assert gate.limit == 2
    succeed(gate, 1)
    assert gate.limit == 3


def test_other_failures_change_nothing() -> None:
    gate = PacingGate(8)
    refuse_together(gate, 8)
    for error in (TransientNetworkError("reset"), ValueError("bug"), KeyboardInterrupt()):
        for _ in range(10):
            with pytest.raises(type(error)), gate.turn(NEVER):
                raise error
    assert gate.limit == 4
    with running(gate, 4):
        pass


def test_no_more_calls_run_than_the_limit_and_a_waiting_one_follows_at_once() -> None:
    gate = PacingGate(1)
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


def test_a_call_that_waits_for_its_turn_notices_the_stop_event() -> None:
    gate = PacingGate(1)
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
    gate = PacingGate(3)
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
