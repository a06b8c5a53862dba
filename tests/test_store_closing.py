"""Closing a Store while it works, and interrupts: what was confirmed is kept, and nobody waits for ever."""

from __future__ import annotations

import errno
import pickle
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest

from anthill_sync import durable, operation
from anthill_sync.errors import (
    AnthillError,
    Interrupted,
    NoRoom,
    PutFailed,
    StoreClosed,
)
from tests.store_tools import StoreRig, chunks_of, permanent, wait_until
from tests.support import PATIENCE, fail_durable

pytest_plugins = ["tests.store_fixtures"]

Background = Callable[[Callable[[], Any]], "Future[Any]"]


def test_close_stops_running_puts_and_what_was_committed_is_kept(rig: StoreRig, background: Background) -> None:
    gate = rig.faulty.hold("write")
    put = background(lambda: rig.store.put("a", chunks_of(*range(40))))
    gate.wait_for(20)
    closing = background(rig.store.close)
    wait_until(lambda: rig.session._closed, lambda: "close does nothing")
    gate.open()
    closing.result(PATIENCE)
    with pytest.raises(Interrupted) as caught:
        put.result(PATIENCE)
    assert caught.value.exit_code == 75
    assert rig.faulty.calls["write"] == 20
    rig.open()
    assert rig.store.pending()[0].done == 20
    rig.store.put("a", chunks_of(*range(40)))
    rig.assert_sound(a=chunks_of(*range(40)))


def test_a_closed_store_refuses_everything_and_close_may_be_repeated(rig: StoreRig) -> None:
    rig.store["a"] = b"1"
    rig.store.close()
    rig.store.close()
    calls: list[Callable[[], object]] = [
        lambda: rig.store["a"],
        lambda: "a" in rig.store,
        lambda: len(rig.store),
        lambda: rig.store.put("b", b"2"),
        lambda: rig.store.delete("a"),
        lambda: rig.store.usage(),
        lambda: rig.store.check(),
        lambda: rig.store.pending(),
    ]
    for call in calls:
        with pytest.raises(StoreClosed) as caught:
            call()
        assert caught.value.exit_code == 74


def test_a_store_that_closed_itself_has_the_exit_code_of_the_reason(rig: StoreRig, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        fail_durable(patch, "write_all", errno.ENOSPC)
        with pytest.raises(NoRoom):
            rig.store["a"] = b"1"
    with pytest.raises(StoreClosed, match="No space") as caught:
        rig.store["a"] = b"1"
    assert pickle.loads(pickle.dumps(caught.value)).exit_code == 73
    rig.reopen()
    rig.assert_sound()


def test_a_put_that_was_being_confirmed_when_the_store_closed_does_nothing(rig: StoreRig, background: Background) -> None:
    asked, go = threading.Event(), threading.Event()

    def answer(question: object) -> bool:
        asked.set()
        return go.wait(PATIENCE)

    put = background(lambda: rig.store.put("a", chunks_of(1), confirm=answer))
    assert asked.wait(PATIENCE)
    closing = background(rig.store.close)
    wait_until(lambda: rig.session._closed, lambda: "close does nothing")
    go.set()
    with pytest.raises(AnthillError):
        put.result(PATIENCE)
    closing.result(PATIENCE)
    assert rig.faulty.calls["reserve"] == rig.faulty.calls["write"] == 0


# -- interrupts


@pytest.mark.parametrize("stream", [False, True], ids=["bytes", "stream"])
@pytest.mark.parametrize("at", [0, 3, 20, 45, 70])
def test_an_interrupt_of_the_calling_thread_stops_the_put_and_the_store_goes_on(rig: StoreRig, stream: bool, at: int) -> None:
    rig.store["a"] = b"old"
    heard, due = 0, threading.Event()

    def interrupt(event: object) -> None:
        nonlocal heard
        heard += 1
        if heard > at:
            due.set()
            raise KeyboardInterrupt

    # or the workers may be done before so many events are delivered
    rig.faulty.before("write", lambda seen: seen.number < 35 or due.wait(PATIENCE))
    data = chunks_of(*range(40))
    with pytest.raises(KeyboardInterrupt):
        rig.store.put("a", iter([data]) if stream else data, on_event=interrupt)
    rig.assert_sound(a=b"old")
    rig.store.put("a", data)
    rig.assert_sound(a=data)


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("nth", [1, 2, 3, 4])
def test_an_interrupt_in_the_middle_of_a_journal_write_leaves_a_store_that_can_be_trusted(
    rig: StoreRig, monkeypatch: pytest.MonkeyPatch, moment: str, nth: int
) -> None:
    rig.store["a"] = b"old"
    sync, syncs, caller = durable.sync, 0, threading.get_ident()

    def interrupted(fd: int) -> None:
        nonlocal syncs
        syncs += threading.get_ident() == caller
        due = syncs == nth and threading.get_ident() == caller
        if due and moment == "before":
            raise KeyboardInterrupt
        sync(fd)
        if due:
            raise KeyboardInterrupt

    monkeypatch.setattr(durable, "sync", interrupted)
    try:
        for action in (
            lambda: rig.store.put("b", chunks_of(1, 2)),
            lambda: rig.store.delete("a"),
            lambda: rig.store.put("c", chunks_of(1, 2)),
            lambda: rig.store.delete("c"),
        ):
            action()
    except KeyboardInterrupt:
        pass
    monkeypatch.undo()
    try:
        rig.store["after"] = b"1"
    except StoreClosed:
        rig.reopen()
        rig.store["after"] = b"1"
    rig.reopen()
    rig.assert_sound(after=b"1")
    rig.store["more"] = chunks_of(5)
    rig.reopen()
    rig.assert_sound(after=b"1", more=chunks_of(5))


def test_an_interrupt_as_a_mutation_ends_leaves_an_idle_store_without_the_lock(
    rig: StoreRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave, calls = rig.session._leave, 0

    def interrupted(writer: object) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise KeyboardInterrupt
        leave(writer)

    monkeypatch.setattr(rig.session, "_leave", interrupted)
    with pytest.raises(KeyboardInterrupt):
        rig.store.put("a", b"1")
    assert not rig.session.journal.held
    rig.assert_sound(a=b"1")


def test_a_worker_that_is_interrupted_fails_the_put_only(rig: StoreRig) -> None:
    rig.faulty.fail("write", KeyboardInterrupt, skip=2)
    with pytest.raises((KeyboardInterrupt, PutFailed)):
        rig.store.put("a", chunks_of(*range(9)))
    rig.store.put("a", chunks_of(*range(9)))
    rig.assert_sound(a=chunks_of(*range(9)))


def test_a_put_ends_though_a_worker_queued_something_just_after_its_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operation, "WAKE_SECONDS", 0.01)
    put = operation.Operation()
    put.enter()
    put.fail(permanent())
    looks = []

    def withdraw() -> None:
        looks.append(put.outstanding)
        if len(looks) == 1:
            put.enter()  # another worker, which had looked at ``stop`` before
            put.leave()
        else:
            put.leave(put.outstanding)

    put.wait(withdraw)
    assert looks == [1, 1]
