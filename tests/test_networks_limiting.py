"""Rate limits: bytes per second over all threads, by the time of day, and a stop ends every wait."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest

from anthill_sync.errors import Interrupted
from anthill_sync.networks.base import Call, calling
from anthill_sync.networks.limiting import LimitedNetwork, RateLimit, limited
from anthill_sync.networks.memory import MemoryNetwork
from anthill_sync.settings import KIB, Settings, timetable
from tests.support import PATIENCE, FakeClock, FaultyNetwork, Heard, make_image, make_pad, run_threads

NOON = datetime(2026, 11, 21, 12)
PAD = 16 * KIB


class Rig:
    """A limited network on a clock of its own, which begins at noon."""

    def __init__(self, upload: str | None = None, download: str | None = None, begins: datetime = NOON) -> None:
        self.clock = FakeClock()
        self._begins, self._first = begins, self.clock.now
        self.faulty = FaultyNetwork(MemoryNetwork(PAD))
        self.network = LimitedNetwork(self.faulty, self._limit(upload), self._limit(download))

    def _limit(self, text: str | None) -> RateLimit | None:
        if text is None:
            return None
        return RateLimit(timetable(text), clock=self.clock, now=self.wall, sleep=self.clock.sleep)

    def wall(self) -> datetime:
        return self._begins + timedelta(seconds=self.passed)

    @property
    def passed(self) -> float:
        return self.clock.now - self._first

    def write(self, number: int, size: int = PAD) -> None:
        self.network.write(make_pad(number), make_image(bytes(size)))


def test_images_go_at_the_rate_and_the_first_one_at_once() -> None:
    rig = Rig(upload="4KiB")
    at = []
    for number in range(5):
        rig.write(number)
        at.append(rig.passed)
    assert at == pytest.approx([0, 4, 8, 12, 16])


def test_what_was_not_used_is_not_saved_up() -> None:
    rig = Rig(upload="4KiB")
    rig.write(1)
    rig.clock.now += 1000
    for number in range(2, 5):
        rig.write(number)
    assert rig.passed == pytest.approx(1000 + 2 * 4)


def test_only_the_bytes_count_not_the_calls() -> None:
    rig = Rig(upload="1KiB")
    for number in range(20):
        rig.network.reserve(make_pad(number))
        rig.write(number, 100)
        rig.network.confirm(make_pad(number), make_image(bytes(100)).digest)
    assert rig.passed == pytest.approx(19 * 100 / 1024)


def test_reading_counts_what_came_not_what_was_asked_for() -> None:
    rig = Rig(download="1KiB")
    rig.write(1, 2 * KIB)
    rig.write(2, 0)
    at = []
    for read in (partial(rig.network.read, make_pad(1)), partial(rig.network.read, make_pad(1), 0, 512)):
        read()
        read()
        at.append(rig.passed)
    rig.network.read(make_pad(2))
    rig.network.read(make_pad(1), 0, 1)
    assert [*at, rig.passed] == pytest.approx([2, 4.5, 5])


def test_up_and_down_are_counted_apart_and_one_may_be_free() -> None:
    rig = Rig(upload="1KiB", download="2KiB")
    rig.write(1, KIB)
    rig.network.read(make_pad(1))
    assert rig.passed == 0
    free = Rig(upload="1KiB")
    free.write(1, KIB)
    for _ in range(9):
        free.network.read(make_pad(1))
    assert free.passed == 0


def test_the_rate_changes_with_the_time_of_day_also_while_somebody_waits() -> None:
    """Until 12:00:10 1 KiB, then 4 KiB, from 12:01 on nothing holds anybody back."""
    rig = Rig(upload="00:00,1KiB 12:00,4KiB 12:01,off", begins=NOON - timedelta(seconds=10))
    at = []
    for number in range(18):
        rig.write(number)
        at.append(rig.passed)
    assert at[1] == pytest.approx(10 + 6 * KIB / (4 * KIB)), "ten seconds at the slow rate, the rest at the other one"
    assert at[2] == pytest.approx(at[1] + 4)
    assert at[-1] == pytest.approx(70), "and the one that waited when the limit ended went at once"
    assert [seconds for seconds in at if seconds < 70] == pytest.approx([0, *(11.5 + 4 * n for n in range(15))])


def test_a_clock_that_is_set_is_noticed_within_a_minute() -> None:
    rig = Rig(upload="08:00,1 20:00,off")
    rig.write(1)
    ahead = [timedelta()]
    limit = rig.network._upload
    assert limit is not None
    limit._now = lambda: rig.wall() + ahead[0]
    naps: list[float] = []

    def sleep(stop: threading.Event, seconds: float) -> None:
        naps.append(seconds)
        ahead[0] = timedelta(hours=9)
        rig.clock.now += seconds

    limit._sleep = sleep
    rig.write(2)
    assert naps == [60.0]


def test_the_rate_is_shared_by_all_threads() -> None:
    """Real threads and a real clock: 40 KiB at 200 KiB per second take a fifth of a second, whoever sends."""
    limit = RateLimit(timetable("200KiB"))
    faulty = FaultyNetwork(MemoryNetwork(PAD))
    network = LimitedNetwork(faulty, limit, None)
    image = make_image(bytes(2 * KIB))
    begun = limit._clock()
    run_threads([partial(network.write, make_pad(number), image) for number in range(21)])
    assert limit._clock() - begun >= 20 * 2 / 200
    assert faulty.done["write"] == 21
    assert faulty.peak["write"] <= 3, "they wait here, not inside"


def test_a_stop_ends_the_wait_and_nothing_is_sent() -> None:
    faulty = FaultyNetwork(MemoryNetwork(PAD))
    network = LimitedNetwork(faulty, RateLimit(timetable("1")), RateLimit(timetable("1")))
    heard = Heard()
    network.write(make_pad(1), make_image(bytes(PAD)))
    caught: list[BaseException] = []

    def blocked(act: Any) -> None:
        with calling(Call(heard.stop, lambda *retry: None)):
            try:
                act()
            except BaseException as error:  # noqa: BLE001 - looked at below
                caught.append(error)

    network.read(make_pad(1))
    acts = [partial(network.write, make_pad(2), make_image(b"x")), partial(network.read, make_pad(1), 0, 1)]
    threads = [threading.Thread(target=blocked, args=(act,), daemon=True) for act in acts]
    for thread in threads:
        thread.start()
    heard.stop.set()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert [type(error) for error in caught] == [Interrupted, Interrupted]
    assert (faulty.calls["write"], faulty.calls["read"]) == (1, 1)


def test_without_a_limit_there_is_no_wrapper() -> None:
    inner = MemoryNetwork(PAD)
    assert limited(inner, Settings()) is inner
    assert isinstance(limited(inner, Settings(limit_upload="1KiB")), LimitedNetwork)
    assert limited(inner, Settings(limit_download="off")).properties == inner.properties
