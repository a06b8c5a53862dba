"""What moves the data of a store is built when it is needed: once, and never left running."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any

import pytest

from anthill_sync import Store, machine
from anthill_sync.errors import StoreClosed
from tests.store_tools import StoreRig
from tests.support import PATIENCE

pytest_plugins = ["tests.store_fixtures"]


def test_threads_that_ask_at_once_get_the_same_machine(
    rig: StoreRig, background: Callable[[Callable[[], Any]], Future[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[machine.Machine] = []

    class Slow(machine.Machine):
        def __init__(self, *arguments: Any) -> None:
            time.sleep(0.05)
            super().__init__(*arguments)
            made.append(self)

    monkeypatch.setattr(machine, "Machine", Slow)
    with Store.open(rig.store.home) as store:
        together = threading.Barrier(8)

        def ask(name: str) -> object:
            together.wait(PATIENCE)
            return getattr(store._session, name)

        names = ("pipeline", "pads", "allocator", "downloader") * 2
        asked = [background(partial(ask, name)) for name in names]
        answers = [each.result(PATIENCE) for each in asked]
        assert len(made) == 1
        assert answers == [getattr(made[0], name) for name in names]


def test_listing_builds_no_machine_and_one_built_after_the_end_takes_no_work(rig: StoreRig) -> None:
    with Store.open(rig.store.home) as store:
        assert list(store) == []
        assert store._session._built is None
        session = store._session
    with pytest.raises(StoreClosed):
        session.pipeline.download(lambda: None)
