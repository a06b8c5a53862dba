"""What shares an image: those who were served together and come again at once, on a slow network."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest

from anthill_sync import shared_pads
from tests.store_tools import StoreRig

pytest_plugins = ["tests.store_fixtures"]

Background = Callable[[Callable[[], Any]], Future[Any]]


def queued(rig: StoreRig) -> int:
    shared = rig.session.allocator.writer.shared
    with rig.session.allocator.supply.lock:
        return sum(map(len, shared._uploads.values()))


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


def test_the_next_image_waits_while_those_who_were_served_come_again(
    rig: StoreRig, pauses: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_pads, "_SLOW", -1.0)
    monkeypatch.setattr(shared_pads, "PATIENCE", 1e9)
    rig.store.put_many({"a": b"1", "b": b"2"})
    before = rig.faulty.calls["write"]
    rig.store.put("first", b"3")
    assert rig.store.get("later") == b"3"
    assert rig.faulty.calls["write"] == before + 1
    assert pauses == [1, 2], "the second pause brought nothing, and ended it"


def test_nobody_waits_where_an_image_takes_no_time_or_served_one_alone(
    rig: StoreRig, pauses: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_pads, "PATIENCE", 1e9)
    rig.store.put_many({"a": b"1", "b": b"2"})
    rig.store.put("fast", b"3")
    monkeypatch.setattr(shared_pads, "_SLOW", -1.0)
    rig.store.put("alone", b"3")
    rig.store.put("alone again", b"3")
    assert pauses == []
