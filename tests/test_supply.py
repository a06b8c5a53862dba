"""Empty pads: who waits for them, who reserves them, and what happens to them when a put fails."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from anthill_sync import Store
from anthill_sync.errors import PadLimitExceeded, PutFailed
from anthill_sync.events import ReservingScratchpads
from anthill_sync.index import Record
from tests.store_tools import CHUNK, StoreRig, chunks_of, permanent, wait_until
from tests.support import PATIENCE, Gate, Seen

pytest_plugins = ["tests.store_fixtures"]

Background = Callable[[Callable[[], Any]], "Future[Any]"]


class HeldSource:
    """A stream that gives nothing until it is let go: its put holds the store's lock meanwhile."""

    def __init__(self) -> None:
        self.begun, self.go = threading.Event(), threading.Event()

    def __iter__(self) -> HeldSource:
        return self

    def __next__(self) -> bytes:
        self.begun.set()
        assert self.go.wait(PATIENCE)
        raise StopIteration


@contextmanager
def holding_the_lock(rig: StoreRig, background: Background) -> Iterator[None]:
    """A put that runs in the background inside the ``with``."""
    source = HeldSource()
    put = background(lambda: rig.store.put("held", source))
    assert source.begun.wait(PATIENCE)
    yield
    source.go.set()
    put.exception(PATIENCE)


def test_a_pad_that_a_failed_put_announced_is_announced_again_before_it_is_written(
    rigs: Callable[..., StoreRig], tmp_path: Path
) -> None:
    rig = rigs(upload_threads=1)
    (tmp_path / "file").write_bytes(chunks_of(1, 2, 3, 4, 5, 6))
    rig.faulty.before("write", lambda seen: (tmp_path / "file").write_bytes(b"short") if seen.number == 1 else None)
    with pytest.raises(PutFailed, match="changed while it was read"):
        rig.store.put("a", tmp_path / "file")
    rig.store.put("b", chunks_of(*range(9)))  # the rig's watcher looks for every pad's durable ``writing`` record
    rig.assert_sound(b=chunks_of(*range(9)))


def test_no_pad_is_announced_before_the_index_knows_it(
    rigs: Callable[..., StoreRig], background: Background, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rig, gate = rigs("embedded"), Gate()
    rig.store["first"] = b"0"
    append = rig.session.journal.append

    def slow_intents(records: list[Record]) -> Any:
        if any(record[0] == "reserving" for record in records):
            gate(Seen("reserve", "", 1))
        return append(records)

    monkeypatch.setattr(rig.session.journal, "append", slow_intents)
    rig.faulty.after("write", lambda seen: (tmp_path / "crashed").exists() or shutil.copytree(rig.home, tmp_path / "crashed"))
    large = background(lambda: rig.store.put("large", chunks_of(*range(20))))
    gate.wait_for(1)
    small = background(lambda: rig.store.put("small", b"1"))
    wait_until(small.done, lambda: "the small value waits for the large one's reservation")
    gate.open()
    assert (small.result(PATIENCE).size, large.result(PATIENCE).size) == (1, 20 * CHUNK)
    with Store.open(tmp_path / "crashed") as copy:
        copy["b"] = b"2"
        assert copy["b"] == b"2"


def test_a_put_that_waits_for_another_puts_reservation_goes_on_when_that_put_fails(rig: StoreRig, background: Background) -> None:
    gate = rig.faulty.hold("reserve")
    rig.faulty.fail("reserve", permanent)
    first = background(lambda: rig.store.put("a", b"1"))
    gate.wait_for(1)
    second = background(lambda: rig.store.put("b", b"2"))
    rig_waits_for_items(rig, 2)
    gate.open()
    with pytest.raises(PutFailed):
        first.result(PATIENCE)
    assert second.result(PATIENCE).size == 1
    rig.assert_sound(b=b"2")


def test_a_put_that_may_reserve_nothing_fails_by_itself_when_the_pad_it_shared_fails(
    rig: StoreRig, background: Background
) -> None:
    gate = rig.faulty.hold("reserve")
    rig.faulty.fail("reserve", permanent)
    first = background(lambda: rig.store.put("a", b"1"))
    gate.wait_for(1)
    second = background(lambda: rig.store.put("b", b"2", max_pads=0))
    rig_waits_for_items(rig, 2)
    third = background(lambda: rig.store.put("c", b"3"))
    rig_waits_for_items(rig, 3)
    gate.open()
    with pytest.raises(PutFailed) as caught:
        first.result(PATIENCE)
    assert caught.value.context["step"] == "reserve"
    with pytest.raises(PadLimitExceeded):
        second.result(PATIENCE)
    assert third.result(PATIENCE).size == 1
    rig.assert_sound(c=b"3")
    assert list(rig.store) == ["c"]


def test_a_put_that_counted_on_the_queued_reservations_of_a_stopped_put_reserves_for_itself(
    rigs: Callable[..., StoreRig], background: Background, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig, giving_up = rigs(reserve_threads=1), Gate()
    supply = rig.session.allocator.supply
    gate = rig.faulty.hold("reserve")
    rig.faulty.before("reserve", lambda seen: fail_pads(rig, seen, {0}))
    not_reserved = supply.not_reserved

    def slowly(request: Any, pad: int) -> None:
        if pad:
            giving_up(Seen("reserve", rig.address(pad), 1))
        not_reserved(request, pad)

    monkeypatch.setattr(supply, "not_reserved", slowly)
    busy = background(lambda: rig.store.reserve(1))
    gate.wait_for(1)
    with pytest.raises(KeyError, match="enough"):  # nothing of it runs yet: it returns while its reservations are queued
        rig.store.put("a", chunks_of(1, 2, 3), on_event=raise_at_reservation)
    small = background(lambda: rig.store.put("b", b"1"))
    rig_waits_for_items(rig, 1)
    gate.open()
    with pytest.raises(PutFailed):
        busy.result(PATIENCE)
    giving_up.wait_for(1)
    rig.mend()
    giving_up.open()
    assert small.result(PATIENCE).size == 1
    rig.assert_sound(b=b"1")


def raise_at_reservation(event: Any) -> None:
    if isinstance(event, ReservingScratchpads):
        raise KeyError("enough")


def rig_waits_for_items(rig: StoreRig, count: int) -> None:
    """Return once this many values wait for their shared pads."""
    items = rig.session.allocator.writer.shared._uploads
    wait_until(lambda: sum(map(len, list(items.values()))) >= count, lambda: f"{count} values never waited for a pad")


def test_a_failed_reservation_is_the_first_to_be_tried_by_the_next_put(rig: StoreRig) -> None:
    rig.faulty.before("reserve", lambda seen: fail_pads(rig, seen, {2, 5}))
    with pytest.raises(PutFailed):
        rig.store.put("a", chunks_of(*range(9)))
    rig.mend()
    left = [pad for pad, status in enumerate(rig.index.status) if status < 2]
    tried: list[int] = []
    rig.faulty.before("reserve", lambda seen: tried.append(rig.pad_number(seen.address)))
    rig.store.put("a", chunks_of(*range(9)))
    assert {2, 5} & set(left)
    assert sorted(tried) == left
    rig.assert_sound(a=chunks_of(*range(9)))


def fail_pads(rig: StoreRig, seen: Seen, pads: set[int]) -> None:
    if rig.pad_number(seen.address) in pads:
        raise permanent()


def test_the_same_numbers_are_reserved_again_after_a_restart(rig: StoreRig) -> None:
    rig.faulty.before("reserve", lambda seen: fail_pads(rig, seen, set(range(3, 99))))
    with pytest.raises(PutFailed):
        rig.store.put("a", chunks_of(*range(9)))
    rig.reopen()
    rig.store.put("a", chunks_of(*range(9)))
    assert rig.index.pads == 10
    rig.assert_sound(a=chunks_of(*range(9)))


def test_a_put_held_up_by_the_lowest_pad_fails_with_that_pads_error(rig: StoreRig, background: Background) -> None:
    data = chunks_of(*range(70))
    rig.faulty.before("write", lambda seen: fail_pads(rig, seen, {0}))
    with holding_the_lock(rig, background):
        with pytest.raises(PutFailed):
            rig.store.put("a", b"1")
        with pytest.raises(PutFailed) as caught:
            rig.store.put("b", data)
    assert caught.value.context["pad"] == rig.address(0)
    assert "the network says no" in str(caught.value)
    (pending,) = [each for each in rig.store.pending() if each.key == "b"]
    assert 64 - 20 <= pending.done <= 64
    rig.mend()
    with rig.counting() as calls:
        rig.store.put("b", data)
    assert calls["write"] == 70 - pending.done + 1
    rig.assert_sound(b=data)


def test_a_put_held_up_by_an_unreserved_lowest_pad_reserves_it_itself(rig: StoreRig, background: Background) -> None:
    data = chunks_of(*range(72))
    rig.faulty.before("reserve", lambda seen: fail_pads(rig, seen, {0}))
    with holding_the_lock(rig, background):
        with pytest.raises(PutFailed):
            rig.store.put("a", chunks_of(*range(80)))
        rig.mend()
        rig.store.put("b", data)
    rig.assert_sound(b=data)


@pytest.mark.parametrize("limit", [0, 1, 4])
def test_max_pads_refuses_before_anything_is_reserved(rig: StoreRig, limit: int) -> None:
    events: list[Any] = []
    with rig.counting() as calls, pytest.raises(PadLimitExceeded) as caught:
        rig.store.put("a", chunks_of(*range(4)), max_pads=limit, on_event=events.append)
    assert caught.value.exit_code == 73
    assert not calls
    assert rig.index.pads == 0
    rig.assert_idle()
    rig.store.put("a", chunks_of(*range(4)), max_pads=5)


def test_max_pads_counts_only_what_is_reserved(rig: StoreRig) -> None:
    rig.store.reserve(3)
    rig.store.put("a", chunks_of(1, 2), max_pads=0)
    with pytest.raises(PadLimitExceeded):
        rig.store.put("b", chunks_of(1), max_pads=0)
    rig.assert_sound(a=chunks_of(1, 2))


def test_max_pads_caps_an_update_and_leaves_the_old_value(rig: StoreRig) -> None:
    rig.store.put("a", chunks_of(1, 2, 3))
    with pytest.raises(PadLimitExceeded) as caught:
        rig.store.put("a", chunks_of(7, 8, 9), max_pads=1)
    assert caught.value.exit_code == 73
    assert rig.index.pads <= 4 + 1
    rig.assert_sound(a=chunks_of(1, 2, 3))
    rig.store.put("a", chunks_of(7, 8, 9))
    rig.assert_sound(a=chunks_of(7, 8, 9))


def test_max_pads_caps_a_stream(rig: StoreRig) -> None:
    with pytest.raises(PadLimitExceeded) as caught:
        rig.store.put("a", iter([chunks_of(n) for n in range(50)]), max_pads=6)
    assert caught.value.exit_code == 73
    assert rig.index.pads <= 6
    assert "a" not in rig.store
    rig.assert_idle()


def test_free_pads_of_an_earlier_value_are_used_before_new_ones(rig: StoreRig) -> None:
    rig.store.put("a", chunks_of(*range(6)))
    rig.store.delete("a")
    before = rig.index.pads
    with rig.counting() as calls:
        rig.store.put("b", chunks_of(*range(5)))
    assert calls["reserve"] == 0
    assert rig.index.pads == before


def test_a_reservation_that_an_interrupt_left_queued_takes_no_pad_from_the_next_run(
    rig: StoreRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That run reserves the same numbers: taken from it they would be reserved, and recorded, a second time."""

    def submit(*arguments: object) -> None:
        raise KeyboardInterrupt  # the unit is in the queue, and nobody was told

    with monkeypatch.context() as patch:
        patch.setattr(rig.session.pipeline.reservation._pool, "submit", submit)
        with pytest.raises(KeyboardInterrupt):
            rig.store.reserve(1)
    assert rig.session.pipeline.reservation.queue.qsize() == 1
    assert rig.store.reserve(3) == 3
    rig.store["k"] = chunks_of(1, 2)
    rig.reopen()
    rig.assert_sound(k=chunks_of(1, 2))
