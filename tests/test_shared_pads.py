"""What shares an image, and what is made ready for it: those who were served together come again at once, on a slow network."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from anthill_sync import shared_pads
from anthill_sync.errors import PutFailed
from tests.store_tools import StoreRig, permanent, wait_until
from tests.support import PATIENCE, Gate, Seen

pytest_plugins = ["tests.store_fixtures"]

Background = Callable[[Callable[[], Any]], Future[Any]]


def queued(rig: StoreRig) -> int:
    shared = rig.session.allocator.writer.shared
    with rig.session.allocator.supply.lock:
        return sum(map(len, shared._uploads.values()))


def reserved(rig: StoreRig) -> int:
    return rig.faulty.calls["reserve"]


class Crowd:
    """Threads that put small values into the same images of one store, of 16 KiB pads that close at 800 bytes."""

    def __init__(self, rig: StoreRig, background: Background) -> None:
        self.rig, self._background = rig, background
        self.values: dict[str, bytes] = {}  # put so far

    def serve(self, count: int, put: Callable[[str, bytes], Any] | None = None) -> None:
        """So many values by as many threads, in one image that follows another's. ``put`` instead of the store's."""
        gate = self.rig.faulty.hold("write")
        first, *others = [f"v{len(self.values) + n}" for n in range(count + 1)]
        self.values.update(dict.fromkeys([first, *others], b"1"))
        puts = [self._background(lambda: self.rig.store.put(first, b"1"))]
        gate.wait_for(1)
        puts += [self._background(partial(put or self.rig.store.put, key, b"1")) for key in others]
        wait_until(lambda: queued(self.rig) == count, lambda: f"{queued(self.rig)} values wait")
        gate.open()
        for each in puts:
            each.result(PATIENCE)


@pytest.fixture
def rig(rigs: Callable[..., StoreRig]) -> StoreRig:
    return rigs(rewrite_limit=800)


@pytest.fixture
def crowd(rig: StoreRig, background: Background) -> Crowd:
    return Crowd(rig, background)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every image counts as one that took its time."""
    monkeypatch.setattr(shared_pads, "_SLOW", -1.0)
    monkeypatch.setattr(shared_pads, "PATIENCE", 1e9)


@pytest.fixture
def pauses(rig: StoreRig, background: Background, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """At the first pause another put comes; no time passes. How many items were queued at each."""
    seen: list[int] = []

    def pause(seconds: float) -> None:
        seen.append(queued(rig))
        if len(seen) == 1:
            background(lambda: rig.store.put("later", b"3"))
            while queued(rig) < 2:
                pass

    monkeypatch.setattr(shared_pads, "pause", pause)
    return seen


@pytest.mark.usefixtures("slow")
def test_the_next_image_waits_while_those_who_were_served_come_again(rig: StoreRig, crowd: Crowd, pauses: list[int]) -> None:
    crowd.serve(3)
    before = rig.faulty.calls["write"]
    rig.store.put("first", b"3")
    assert rig.store.get("later") == b"3"
    assert rig.faulty.calls["write"] == before + 1
    assert pauses == [1, 2], "the second pause brought nothing, and ended it"


@pytest.mark.usefixtures("slow")
def test_nothing_more_is_waited_for_once_all_who_were_served_are_back(rig: StoreRig, crowd: Crowd, pauses: list[int]) -> None:
    crowd.serve(2)
    before = rig.faulty.calls["write"]
    rig.store.put("first", b"3")
    assert rig.store.get("later") == b"3"
    assert rig.faulty.calls["write"] == before + 1
    assert pauses == [1], "two were served, and two had come"


@pytest.mark.usefixtures("slow")
def test_those_who_were_served_are_waited_for_beside_those_who_came_meanwhile(
    crowd: Crowd, background: Background, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or the images would fall apart into smaller and smaller ones. Two come while an image of two is on its way."""
    rig, counts = crowd.rig, list[int]()
    last = Gate()
    rig.faulty.before("write", lambda seen: last(seen) if seen.number == 2 else None)
    monkeypatch.setattr(shared_pads, "pause", lambda seconds: counts.append(queued(rig)))
    serving = background(lambda: crowd.serve(2))
    last.wait_for(1)
    late = [background(partial(rig.store.put, key, b"2")) for key in ("late", "later")]
    wait_until(lambda: queued(rig) == 2, lambda: f"{queued(rig)} values wait")
    last.open()
    for each in (serving, *late):
        each.result(PATIENCE)
    assert counts[:1] == [2], "two had come, but four belong together"


@pytest.mark.usefixtures("slow")
def test_the_first_image_of_the_next_pad_waits_for_those_who_were_served_by_the_one_before(
    crowd: Crowd, pauses: list[int]
) -> None:
    """Or it would take the first of them alone, and the others would wait for it."""
    crowd.serve(8)
    before = crowd.rig.faulty.addresses("write")
    crowd.rig.store.put("first", b"3")
    assert crowd.rig.store.get("later") == b"3"
    (written,) = crowd.rig.faulty.addresses("write")[len(before) :]
    assert written not in before
    assert pauses == [1, 2]


def test_nobody_waits_where_an_image_takes_no_time_or_served_one_alone(
    rig: StoreRig, crowd: Crowd, pauses: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_pads, "PATIENCE", 1e9)
    monkeypatch.setattr(shared_pads, "_SLOW", 1e9)
    crowd.serve(2)
    rig.store.put("fast", b"3")
    monkeypatch.setattr(shared_pads, "_SLOW", -1.0)
    rig.store.put("alone", b"3")
    rig.store.put("alone again", b"3")
    rig.store.put_many({"a": b"1", "b": b"2"})
    rig.store.put("one caller's values come together anyway", b"3")
    assert pauses == []


# -- the pad that comes next


@pytest.mark.usefixtures("slow")
def test_the_next_pad_is_reserved_while_the_last_image_of_those_who_share_one_is_on_its_way(crowd: Crowd) -> None:
    crowd.serve(2)
    assert reserved(crowd.rig) == 1
    last = crowd.rig.faulty.calls["write"] + 2

    def until_reserved(seen: Seen) -> None:
        if seen.number == last:
            wait_until(lambda: reserved(crowd.rig) == 2, lambda: "no pad is reserved while the image is on its way")

    crowd.rig.faulty.before("write", until_reserved)
    crowd.serve(5)
    assert crowd.rig.store.usage().pads.free == 1
    crowd.rig.faulty.before("reserve", permanent_failure)
    crowd.rig.store.put("next", b"2")
    crowd.rig.assert_sound(next=b"2", **crowd.values)


def permanent_failure(seen: Seen) -> None:
    raise permanent()


@pytest.mark.usefixtures("slow")
def test_a_pad_that_nobody_needs_yet_and_that_cannot_be_reserved_fails_nobody(crowd: Crowd) -> None:
    crowd.serve(2)
    crowd.rig.faulty.before("reserve", permanent_failure)
    crowd.serve(5)
    assert crowd.rig.faulty.calls["reserve"] == 2
    with pytest.raises(PutFailed, match="reserve"):
        crowd.rig.store.put("next", b"2")
    crowd.rig.mend()
    crowd.rig.store.put("next", b"2")
    crowd.rig.assert_sound(next=b"2", **crowd.values)


@pytest.mark.usefixtures("slow")
@pytest.mark.parametrize(
    "counted", [{"max_pads": 5}, {"confirm": lambda question: True}, {"on_event": lambda event: None}, {"max_duration": 1e6}]
)
def test_no_pad_is_reserved_ahead_in_the_name_of_a_caller_who_counts_pads_or_time(crowd: Crowd, counted: dict[str, Any]) -> None:
    crowd.serve(2)
    crowd.serve(5, partial(crowd.rig.store.put, **counted))
    assert reserved(crowd.rig) == 1


@pytest.mark.usefixtures("slow")
def test_no_pad_is_reserved_ahead_where_that_costs_money(crowd: Crowd, monkeypatch: pytest.MonkeyPatch) -> None:
    paid = replace(crowd.rig.faulty.properties, reservation_is_paid=True)
    monkeypatch.setattr(type(crowd.rig.faulty), "properties", property(lambda self: paid))
    crowd.serve(2)
    crowd.serve(5)
    assert reserved(crowd.rig) == 1


def test_no_pad_is_reserved_ahead_on_a_fast_network_or_for_one_caller(crowd: Crowd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_pads, "_SLOW", 1e9)
    crowd.serve(2)
    crowd.serve(5)
    assert reserved(crowd.rig) == 1
    monkeypatch.setattr(shared_pads, "_SLOW", -1.0)
    crowd.rig.store.put_many({f"w{n}": b"2" for n in range(9)})
    assert reserved(crowd.rig) == 2
    crowd.rig.store.put_many({f"x{n}": b"3" for n in range(9)})
    assert reserved(crowd.rig) == 3
