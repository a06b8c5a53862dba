"""A retrying network over a faulty one, and a listener to its retries."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from anthill_sync.errors import TransientNetworkError
from anthill_sync.networks.base import Call, Network
from anthill_sync.networks.memory import MemoryNetwork
from anthill_sync.networks.retrying import RetryingNetwork
from anthill_sync.settings import Settings

from .networks import FakeClock, FaultyNetwork


class Heard:
    """A ``Call`` whose retries are kept."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.retries: list[tuple[str, str, int, float, str, int]] = []
        self.call = Call(self.stop, lambda *retry: self.retries.append(retry))


class Rig:
    """A retrying network over a faulty one, on a clock of its own, without chance in its waits."""

    def __init__(self, properties: dict[str, Any] | None = None, **settings: Any) -> None:
        self.clock = FakeClock()
        memory = MemoryNetwork(16 * 1024)
        if properties:
            memory._properties = replace(memory.properties, **properties)
        self.faulty = FaultyNetwork(memory)
        self.network = self.over(self.faulty, Settings(**settings))

    def over(self, inner: Network, settings: Settings, **hooks: Any) -> RetryingNetwork:
        defaults = {"sleep": self.clock.sleep, "clock": self.clock, "jitter": lambda upper: upper}
        return RetryingNetwork(inner, settings, **{**defaults, **hooks})


def busy(**facts: Any) -> Callable[[], TransientNetworkError]:
    return lambda: TransientNetworkError("busy", **facts)
