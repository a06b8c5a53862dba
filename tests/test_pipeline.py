"""Reservation and upload overlap, in 20 + 20 threads; the first failure ends a put."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest

from anthill_sync.errors import PermanentNetworkError, PutFailed, TransientNetworkError
from anthill_sync.events import (
    Event,
    ReservationProgress,
    ScratchpadCommitComplete,
    StoreComplete,
)
from tests.store_tools import CHUNK, StoreRig, chunks_of, names, permanent, transient
from tests.support import PATIENCE, Seen

pytest_plugins = ["tests.store_fixtures"]

Background = Callable[[Callable[[], Any]], "Future[Any]"]


# -- overlap


def test_twenty_writes_run_at_once_and_never_more_while_a_reservation_is_still_blocked(
    rig: StoreRig, background: Background
) -> None:
    rig.store.reserve(30)
    reserving, writing = rig.faulty.hold("reserve"), rig.faulty.hold("write")
    put = background(lambda: rig.store.put("a", chunks_of(*range(50))))
    reserving.wait_for(20)
    writing.wait_for(20)
    assert rig.faulty.running["write"] == rig.faulty.peak["write"] == 20
    assert rig.faulty.running["reserve"] == 20
    assert rig.faulty.done["reserve"] == 30
    writing.open()
    reserving.open()
    put.result(PATIENCE)
    assert (rig.faulty.peak["write"], rig.faulty.peak["reserve"]) == (20, 20)
    rig.assert_sound(a=chunks_of(*range(50)))


def test_the_thread_counts_are_settings(rigs: Callable[..., StoreRig], background: Background) -> None:
    rig = rigs(upload_threads=3, reserve_threads=2)
    reserving = rig.faulty.hold("reserve")
    put = background(lambda: rig.store.put("a", chunks_of(*range(9))))
    reserving.wait_for(2)
    writing = rig.faulty.hold("write")
    reserving.open()
    writing.wait_for(3)
    writing.open()
    put.result(PATIENCE)
    assert (rig.faulty.peak["write"], rig.faulty.peak["reserve"]) == (3, 2)


def test_upload_starts_on_free_pads_before_the_first_reservation_ends(rig: StoreRig, background: Background) -> None:
    rig.store.put("old", chunks_of(1, 2, 3))
    rig.store.delete("old")
    free = rig.store.usage().pads.free
    gate, events = rig.faulty.hold("reserve"), list[Event]()
    committed = threading.Event()

    def hear(event: Event) -> None:
        events.append(event)
        if isinstance(event, ScratchpadCommitComplete) and event.index == free:
            committed.set()

    put = background(lambda: rig.store.put("a", chunks_of(*range(8)), on_event=hear))
    gate.wait_for(1)
    assert committed.wait(PATIENCE)
    assert rig.faulty.done["reserve"] == free
    assert not any(isinstance(event, ReservationProgress) for event in events)
    gate.open()
    put.result(PATIENCE)
    assert "StartingUpload" in names(events)[: names(events).index("ReservationProgress")]


def test_free_pads_are_taken_lowest_written_first_then_reserved_ones(rig: StoreRig) -> None:
    rig.store.put("old", chunks_of(1, 2))
    rig.store.delete("old")
    rig.store.reserve(2)
    rig.store.put("a", chunks_of(1, 2))
    assert {place.pad for place in rig.store.stat("a").blocks or ()} == {0, 1}


# -- failure


@pytest.mark.parametrize("step", ["reserve", "write", "confirm"])
def test_a_failed_put_says_what_failed_where_and_how_often(rig: StoreRig, step: str) -> None:
    rig.faulty.fail(step, transient, times=999, skip=4)
    with pytest.raises(PutFailed) as caught:
        rig.store.put("a", chunks_of(*range(9)))
    error = caught.value
    assert isinstance(error.__cause__, TransientNetworkError)
    assert error.exit_code == 75
    assert error.context["step"] == step
    assert error.context["attempts"] == rig.session.settings.attempts
    assert error.context["pad"] in {rig.address(pad) for pad in range(10)}
    for word in ("try me again", error.context["pad"][:16], step, "5 attempts"):
        assert word in str(error)
    if step != "reserve":
        assert error.context["key"] == "a"
        assert "'a'" in str(error)


@pytest.mark.parametrize("step", ["reserve", "write", "confirm"])
def test_the_index_holds_the_last_successful_step_of_every_pad(each: StoreRig, step: str) -> None:
    each.faulty.fail(step, permanent, skip=5)
    with pytest.raises(PutFailed) as caught:
        each.store.put("a", chunks_of(*range(30)))
    assert isinstance(caught.value.__cause__, PermanentNetworkError)
    each.reopen()
    reserved, committed = each.index.status.count(2) + each.index.status.count(3), each.index.status.count(3)
    assert reserved == count(each, "reserved")
    assert committed == count(each, "committed")
    for pad, status in enumerate(each.index.status):
        if status == 3:
            assert each.parse(pad, each.image(pad)) is not None
    assert each.store.pending() == [] or each.store.pending()[0].done == committed


def count(rig: StoreRig, name: str) -> int:
    return sum(record[0] == name for record in rig.durable_records())


def test_the_first_failure_wins_and_nothing_new_starts(rig: StoreRig, background: Background) -> None:
    rig.store.reserve(40)
    gate = rig.faulty.hold("write")
    rig.faulty.before("write", lambda seen: fail_in_turn(seen.number))
    put = background(lambda: rig.store.put("a", chunks_of(*range(39))))
    gate.wait_for(20)
    gate.open()
    with pytest.raises(PutFailed) as caught:
        put.result(PATIENCE)
    assert rig.faulty.calls["write"] == 20
    assert str(caught.value.__cause__).startswith("failure of write")
    rig.mend()
    rig.assert_idle()


def fail_in_turn(number: int) -> None:
    raise PermanentNetworkError(f"failure of write {number}")


def test_put_many_tells_what_was_published_before_it_failed(rig: StoreRig) -> None:
    rig.store["first"] = b"0"
    done = threading.Event()

    def hear(event: Event) -> None:
        if isinstance(event, StoreComplete):
            done.set()

    def fail_full_chunks(seen: Seen) -> None:
        if seen.image is not None and len(seen.image.data) > CHUNK:
            assert done.wait(PATIENCE)
            raise permanent()

    rig.faulty.before("write", fail_full_chunks)
    with pytest.raises(PutFailed) as caught:
        rig.store.put_many({"b": b"small", "c": chunks_of(*range(10))}, on_event=hear)
    assert set(caught.value.published) == {"b"}
    assert caught.value.published["b"] == rig.store.stat("b")
    assert "c" not in rig.store
    rig.mend()
    rig.assert_sound(first=b"0", b=b"small")


def test_what_is_not_ours_is_raised_as_it_is(rig: StoreRig) -> None:
    rig.faulty.fail("write", lambda: ZeroDivisionError("a bug"))
    with pytest.raises(ZeroDivisionError, match="a bug"):
        rig.store.put("a", chunks_of(1, 2))
    rig.store.put("a", chunks_of(1, 2))
    rig.assert_sound(a=chunks_of(1, 2))
