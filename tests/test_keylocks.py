"""Key locks: one mutation of a key at a time, any number of keys at once, and no table that grows."""

from __future__ import annotations

import threading

import pytest

from anthill_sync.keylocks import KeyLocks
from tests.support import PATIENCE, run_threads


def waiters(locks: KeyLocks, key: str) -> int:
    """Holders and waiters of a key."""
    return locks._locks[key][1] if key in locks._locks else 0


def wait_until(locks: KeyLocks, key: str, count: int) -> None:
    pause = threading.Event()
    for _ in range(int(PATIENCE * 1000)):
        if waiters(locks, key) == count:
            return
        pause.wait(0.001)
    raise AssertionError(f"{waiters(locks, key)} hold or want {key!r}, not {count}")


def test_mutations_of_one_key_run_one_after_the_other() -> None:
    locks, inside, log = KeyLocks(), 0, []
    first, go = threading.Event(), threading.Event()

    def work(number: int) -> None:
        if number:
            assert first.wait(PATIENCE)
        locks.hold(["k"], lambda: count(number))

    def count(number: int) -> None:
        nonlocal inside
        inside += 1
        log.append(("in", number, inside))
        if number == 0:
            first.set()
            assert go.wait(PATIENCE)
        inside -= 1
        log.append(("out", number, inside))

    def release() -> None:
        wait_until(locks, "k", 8)
        go.set()

    run_threads([*(lambda n=n: work(n) for n in range(8)), release], threads=9)
    assert [entry[0] for entry in log] == ["in", "out"] * 8
    assert {entry[2] for entry in log} == {0, 1}
    assert locks._locks == {}


def test_mutations_of_different_keys_run_at_once() -> None:
    locks, together = KeyLocks(), threading.Barrier(4)

    def work(number: int) -> int:
        locks.hold([f"k{number}"], lambda: together.wait(PATIENCE))
        return number

    assert run_threads([lambda n=n: work(n) for n in range(4)], threads=4) == [0, 1, 2, 3]  # type: ignore[misc]


def test_mutations_of_several_keys_never_wait_for_each_other() -> None:
    locks = KeyLocks()
    keys = [["a", "b", "c"], ["c", "b"], ["b", "a"], ["c", "a"], ["a"]]
    counts = dict.fromkeys("abc", 0)

    def work(wanted: list[str]) -> None:
        for _ in range(300):
            locks.hold(wanted, lambda: counts.update({key: counts[key] + 1 for key in wanted}))

    run_threads([lambda wanted=wanted: work(wanted) for wanted in keys * 2], threads=10)  # type: ignore[misc]
    assert counts == {key: 600 * sum(key in wanted for wanted in keys) for key in "abc"}
    assert locks._locks == {}


def test_keys_are_taken_in_byte_order() -> None:
    """Code points of str sort as their UTF-8 bytes do, so sorting the str is enough."""
    keys = ["b", "a", "ä", "\U0001f600", "\uffee", "Z", "a/b", "a"]
    assert [key.encode() for key in sorted(set(keys))] == sorted({key.encode() for key in keys})
    locks = KeyLocks()
    later = [f"b{number}" for number in range(50)]
    thread = threading.Thread(target=lambda: locks.hold([*later, "a"], nothing))

    def wanted_elsewhere() -> list[str]:
        thread.start()
        wait_until(locks, "a", 2)
        return [key for key in later if waiters(locks, key)]

    assert locks.hold(["a"], wanted_elsewhere) == [], "it holds later keys while it waits for an earlier one"
    thread.join(PATIENCE)
    assert locks._locks == {}


def nothing() -> None:
    """What is done while keys are held."""


def test_a_key_named_twice_is_held_once() -> None:
    locks = KeyLocks()
    assert locks.hold(["k", "k"], lambda: waiters(locks, "k")) == 1


def test_a_failure_inside_lets_go_of_every_key() -> None:
    locks = KeyLocks()
    with pytest.raises(ZeroDivisionError):
        locks.hold(["a", "b"], lambda: 1 // 0)
    assert locks._locks == {}
    locks.hold(["a", "b"], nothing)


def test_no_keys_hold_nothing() -> None:
    locks = KeyLocks()
    assert locks.hold([], lambda: locks.hold([], lambda: dict(locks._locks))) == {}
