"""Events tell what is durable, in order, on the calling thread; and nothing is reserved before the question is answered."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import pytest

from anthill_sync.allocator import MemoryAllocator
from anthill_sync.errors import OperationCancelled
from anthill_sync.events import (
    ConfirmReservation,
    Event,
    ReservationProgress,
    ReservingScratchpads,
    RetryScheduled,
    ScratchpadCommitComplete,
    StartingUpload,
    StoreComplete,
    UploadProgress,
)
from anthill_sync.operation import Operation
from tests.store_tools import CHUNK, PAD, StoreRig, chunks_of, names, transient

pytest_plugins = ["tests.store_fixtures"]


def progress_of(events: list[Event], kind: type[Any], field: str) -> list[Any]:
    return [getattr(event, field) for event in events if isinstance(event, kind)]


def assert_never_falls(numbers: list[Any]) -> None:
    known = [number for number in numbers if number is not None]
    assert all(earlier <= later for earlier, later in pairwise(known)), numbers


def assert_events_make_sense(events: list[Event], written: int) -> None:
    for kind, count, total in (
        (ReservationProgress, "current", "total"),
        (UploadProgress, "bytes_written", "total_bytes"),
        (ScratchpadCommitComplete, "index", "total"),
    ):
        assert_never_falls(progress_of(events, kind, count))
        assert_never_falls(progress_of(events, kind, total))
        pairs = zip(progress_of(events, kind, count), progress_of(events, kind, total), strict=True)
        assert all(total is None or count <= total for count, total in pairs)
    assert progress_of(events, ScratchpadCommitComplete, "index") == list(range(1, written + 1))
    kinds = names(events)
    assert kinds.count("StartingUpload") == (1 if written else 0)
    if written:
        assert kinds.index("StartingUpload") < kinds.index("ScratchpadCommitComplete")
    assert kinds[-1] == "StoreComplete"


def test_the_events_of_a_new_value_come_in_order_and_count_up(each: StoreRig) -> None:
    events: list[Event] = []
    data = chunks_of(*range(30)) + b"rest"
    each.store.put("a", data, on_event=events.append)
    assert_events_make_sense(events, 31)
    kinds = names(events)
    assert kinds[:2] == ["ConfirmReservation", "ReservingScratchpads"]
    assert progress_of(events, ReservationProgress, "current") == list(range(1, 32))
    assert set(progress_of(events, ReservationProgress, "total")) == {31}
    assert (events[1], progress_of(events, StartingUpload, "total_bytes")) == (ReservingScratchpads(31), [len(data)])
    assert progress_of(events, UploadProgress, "bytes_written")[-1] == len(data)
    last = events[-1]
    assert isinstance(last, StoreComplete)
    assert (last.key, last.size, last.pads) == ("a", len(data), 31)
    assert last.seconds >= 0


def test_the_events_of_updates_streams_and_many_values_count_up_too(rig: StoreRig) -> None:
    sources: list[Callable[[], Any]] = [
        lambda: chunks_of(*range(20)) + b"rest",
        lambda: chunks_of(*range(10), 99, *range(11, 25)),
        lambda: iter([chunks_of(n) for n in (*range(12), 77, *range(13, 30))]),
        lambda: b"small",
        lambda: iter([b"small"]),
    ]
    for make in sources:
        events: list[Event] = []
        entry = rig.store.put("a", make(), on_event=events.append)
        assert entry.transfer is not None
        assert_events_make_sense(events, entry.transfer.pads_written)
        assert progress_of(events, UploadProgress, "bytes_written")[-1:] in ([entry.size], [])
    events = []
    items: dict[str, Any] = {"a": b"1", "b": chunks_of(*range(5)), "c": iter([b"x" * CHUNK])}
    entries = rig.store.put_many(items, on_event=events.append)
    transfer = entries["a"].transfer
    assert transfer is not None
    assert_events_make_sense(events, transfer.pads_written)
    assert sorted(progress_of(events, StoreComplete, "key")) == ["a", "b", "c"]


def test_identical_content_completes_without_an_upload(rig: StoreRig) -> None:
    rig.store.put("a", chunks_of(1, 2) + b"rest")
    events: list[Event] = []
    rig.store.put("a", chunks_of(1, 2) + b"rest", on_event=events.append)
    assert set(names(events)) <= {"ConfirmReservation", "UploadProgress", "StoreComplete"}
    assert progress_of(events, UploadProgress, "bytes_written")[-1] == 2 * CHUNK + 4


def test_no_event_comes_before_its_record_is_durable(each: StoreRig) -> None:
    problems: list[str] = []

    def look(event: Event) -> None:
        records = [record[0] for record in each.durable_records()]
        count = {name: records.count(name) for name in ("reserved", "committed", "publish")}
        if isinstance(event, ReservationProgress) and count["reserved"] < event.current:
            problems.append(f"{event} with {count}")
        if isinstance(event, ScratchpadCommitComplete) and count["committed"] < event.index:
            problems.append(f"{event} with {count}")
        if isinstance(event, StoreComplete) and not count["publish"]:
            problems.append(f"{event} with {count}")

    each.store.put("a", chunks_of(*range(12)) + b"rest", on_event=look)
    assert problems == []


def test_events_come_on_the_calling_thread_one_at_a_time(rig: StoreRig) -> None:
    threads: set[int] = set()
    inside = threading.Lock()

    def hear(event: Event) -> None:
        assert inside.acquire(blocking=False)
        threads.add(threading.get_ident())
        inside.release()

    rig.store.put("a", chunks_of(*range(9)), on_event=hear)

    def answer(question: ConfirmReservation) -> bool:
        threads.add(threading.get_ident())
        return True

    rig.store.put("a", iter([chunks_of(*range(12))]), on_event=hear, confirm=answer)
    assert threads == {threading.get_ident()}


class Whim(Exception):
    """What a caller's callback may raise."""


@pytest.mark.parametrize(
    "kind",
    [ConfirmReservation, ReservingScratchpads, ReservationProgress, StartingUpload, UploadProgress, ScratchpadCommitComplete],
)
@pytest.mark.parametrize("stream", [False, True], ids=["bytes", "stream"])
def test_what_a_callback_raises_stops_the_put_and_is_raised_unchanged(rig: StoreRig, kind: type[Any], stream: bool) -> None:
    rig.store["a"] = b"old"
    whim = Whim("enough")

    def hear(event: Event) -> None:
        if isinstance(event, kind):
            raise whim

    data = chunks_of(*range(60))
    with pytest.raises(Whim) as caught:
        rig.store.put("a", iter([data]) if stream else data, on_event=hear)
    assert caught.value is whim
    rig.assert_sound(a=b"old")
    rig.store.put("a", data)
    rig.assert_sound(a=data)


def test_a_callback_that_raises_after_publication_leaves_the_new_value(rig: StoreRig) -> None:
    def hear(event: Event) -> None:
        if isinstance(event, StoreComplete):
            raise Whim

    with pytest.raises(Whim):
        rig.store.put("a", b"new", on_event=hear)
    rig.assert_sound(a=b"new")


def test_a_retry_is_told_and_the_put_goes_on(rig: StoreRig) -> None:
    rig.faulty.fail("reserve", transient)
    rig.faulty.fail("write", transient, times=2, skip=1)
    events: list[Event] = []
    rig.store.put("a", chunks_of(1, 2, 3), on_event=events.append)
    retries = [event for event in events if isinstance(event, RetryScheduled)]
    assert sorted({(retry.operation, retry.error) for retry in retries}) == [
        ("reserve", "try me again"),
        ("write", "try me again"),
    ]
    assert all(retry.pad in {rig.address(pad) for pad in range(4)} and retry.attempt >= 1 for retry in retries)
    rig.assert_sound(a=chunks_of(1, 2, 3))


# -- the question


def test_the_question_comes_before_anything_is_reserved_and_tells_the_need(rig: StoreRig) -> None:
    rig.store.put("old", chunks_of(1, 2))
    rig.store.delete("old")
    questions: list[ConfirmReservation] = []
    before = rig.store.usage()
    with rig.counting() as calls:

        def answer(question: ConfirmReservation) -> bool:
            questions.append(question)
            assert rig.faulty.calls == started
            return True

        started = rig.faulty.calls.copy()
        rig.store.put("a", chunks_of(*range(9)), confirm=answer)
    (question,) = questions
    assert (question.needed, question.needed_bytes, question.at_most) == (calls["reserve"], calls["reserve"] * PAD, False)
    assert (question.free_pads, question.total_pads, question.free_bytes) == (
        before.pads.free,
        before.pads.total,
        before.bytes.free,
    )
    assert question.data_size == 9 * CHUNK


def test_the_question_about_an_update_is_an_upper_bound(rig: StoreRig) -> None:
    rig.store.put("a", chunks_of(*range(9)))
    questions: list[Any] = []
    with rig.counting() as calls:
        rig.store.put("a", chunks_of(*range(8), 99), on_event=questions.append)
    questions = [event for event in questions if isinstance(event, ConfirmReservation)]
    assert questions[0].at_most
    assert calls["reserve"] <= questions[0].needed <= 10


def test_the_question_is_not_asked_when_nothing_must_be_reserved(rig: StoreRig) -> None:
    rig.store.reserve(3)
    rig.store.put("a", b"1", confirm=lambda question: False)
    rig.store.put("a", b"2", confirm=lambda question: False)
    rig.assert_sound(a=b"2")


@pytest.mark.parametrize("stream", [False, True], ids=["bytes", "stream"])
def test_the_answer_no_reserves_and_leaks_nothing(each: StoreRig, stream: bool) -> None:
    data = chunks_of(*range(5)) + b"rest"
    with each.counting() as calls, pytest.raises(OperationCancelled) as caught:
        each.store.put("a", iter([data]) if stream else data, confirm=lambda question: False)
    assert caught.value.exit_code == 3
    assert not calls
    assert each.index.pads == 0
    assert each.store.pending() == []
    each.assert_sound()
    with pytest.raises(OperationCancelled):
        each.store.reserve(3, confirm=lambda question: False)
    each.store.put("a", data, max_pads=6)


def test_the_values_of_one_image_wake_the_caller_once(rig: StoreRig, monkeypatch: pytest.MonkeyPatch) -> None:
    woken: list[int] = []
    hand_over = Operation._hand_over

    def counted(operation: Operation, events: Sequence[Event]) -> None:
        woken.append(sum(isinstance(event, StoreComplete) for event in events))
        hand_over(operation, events)

    monkeypatch.setattr(Operation, "_hand_over", counted)
    events: list[Event] = []
    rig.store.put_many({f"k{number}": b"v" for number in range(50)}, on_event=events.append)
    assert [count for count in woken if count] == [50]
    assert progress_of(events, StoreComplete, "key") == [f"k{number}" for number in range(50)]


def test_a_put_that_nobody_listens_to_looks_at_no_other_value(rig: StoreRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The question what it takes is made for a listener only: it costs as much as the store has pads and values."""
    asked: list[Event] = []
    rig.store.put("a", b"1", on_event=asked.append)
    monkeypatch.setattr(MemoryAllocator, "free_space", None)
    rig.store.put("a", b"2")
    monkeypatch.undo()
    rig.store.put("a", b"3", on_event=asked.append)
    assert names(asked).count("ConfirmReservation") == 2
