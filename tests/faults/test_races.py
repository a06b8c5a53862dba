"""P4 and the lock's edges: processes racing for one store, readers beside a writer, a copied home, yesterday's home."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from anthill_sync import Store
from anthill_sync.errors import AnthillError, StoreLocked
from anthill_sync.index import MasterIndex
from tests.store_tools import StoreRig
from tests.support import PATIENCE

from .points import Point, Points, installed
from .racing import exit_code, forked
from .scenarios import LARGE, NEW, OLD, ONE_THREAD, PAD, SMALL, crash_at, noise, run, stream
from .test_crash_points import content
from .test_weak_spots import in_thread

ROOT = Path(__file__).parents[2]


# -- the lock


@pytest.fixture
def home(tmp_path: Path) -> Path:
    with Store.create(tmp_path / "home", pad_size=PAD) as store:
        store.put("k", OLD)
    return tmp_path / "home"


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[StoreRig]:
    rig = StoreRig(tmp_path / "home", None, upload_threads=4)
    yield rig
    rig.store.close()


def test_a_second_process_exits_75_and_names_the_first(rig: StoreRig) -> None:
    gate = rig.faulty.hold("write")
    put = in_thread(lambda: rig.store.put("k", LARGE))
    gate.wait_for(1)
    command = [sys.executable, "-m", "anthill_sync", "--home", str(rig.home), "rm", "k", "--ignore-missing", "--lock-wait", "0.2"]
    second = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert second.returncode == 75
    assert f"pid {os.getpid()}" in second.stderr
    gate.open()
    put.result(PATIENCE)
    assert content(rig.home) == {"k": LARGE}


def test_a_second_process_that_waits_comes_next_and_sees_what_the_first_did(rig: StoreRig) -> None:
    gate = rig.faulty.hold("write")
    put = in_thread(lambda: rig.store.put("k", LARGE))
    gate.wait_for(1)
    listen, tell = os.pipe()

    def second() -> None:
        with Store.open(rig.home, lock_wait=PATIENCE) as store:
            os.write(tell, b"1")
            store.put("seen", b"yes" if store.get("k") == LARGE else b"no")
            store.put("l", SMALL)
            store.put("seen", b"yes" if store.get("k") == LARGE else b"no")

    pid = forked(second)
    assert os.read(listen, 1)
    gate.open()
    put.result(PATIENCE)
    assert exit_code(pid) == 0
    assert content(rig.home) == {"k": LARGE, "l": SMALL, "seen": b"yes"}


# -- copied homes


def network_of(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def pads(tmp_path: Path) -> Path:
    """A network outside of any home."""
    return tmp_path / "pads"


@pytest.fixture
def today(tmp_path: Path, pads: Path) -> Path:
    """A home that has gone on since ``yesterday`` was copied from it."""
    home = tmp_path / "today"
    with Store.create(home, network=f"dir://{pads}", pad_size=PAD) as store:
        store.put("k", OLD)
        store.put("small", SMALL)
    shutil.copytree(home, tmp_path / "yesterday")
    with Store.open(home, settings=ONE_THREAD) as store:
        store.put("k", NEW)
        store.put("small", noise("newer", 1200))
        store.put("more", LARGE)
    return home


CHANGES: dict[str, Callable[[Store], object]] = {
    "put small": lambda store: store.put("l", SMALL),
    "put chunks": lambda store: store.put("l", LARGE),
    "put stream": lambda store: store.put("l", stream(LARGE)),
    "overwrite": lambda store: store.put("k", noise("other", 40000)),
    "remove": lambda store: store.delete("k"),
    "rename": lambda store: store.rename("small", "m"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_yesterdays_home_over_todays_pads_is_refused_and_overwrites_nothing(
    name: str, today: Path, pads: Path, tmp_path: Path
) -> None:
    before = network_of(pads)
    with Store.open(tmp_path / "yesterday", settings=ONE_THREAD) as store:
        with pytest.raises(AnthillError) as raised:
            CHANGES[name](store)
        assert raised.value.exit_code == 76 or raised.value.__cause__.exit_code == 76  # type: ignore[union-attr]
    assert network_of(pads) == before
    assert content(today) == {"k": NEW, "small": noise("newer", 1200), "more": LARGE}


def test_two_copies_of_a_home_that_write_in_turn_are_told_and_lose_nothing_acknowledged(tmp_path: Path, pads: Path) -> None:
    homes = [tmp_path / "one", tmp_path / "two"]
    with Store.create(homes[0], network=f"dir://{pads}", pad_size=PAD) as store:
        store.put("k", OLD)
    shutil.copytree(homes[0], homes[1])
    acknowledged: list[dict[str, bytes]] = [{"k": OLD}, {"k": OLD}]
    codes: list[int] = []
    for turn in range(8):
        key, value = f"turn/{turn}", noise(f"turn {turn}", 700 + 6000 * (turn % 3))
        with Store.open(homes[turn % 2], settings=ONE_THREAD) as store:
            try:
                store.put(key, value)
                acknowledged[turn % 2][key] = value
            except AnthillError as error:
                codes.append(error.exit_code)
    assert set(codes) == {76}
    for home, expected in zip(homes, acknowledged, strict=True):
        with Store.open(home) as store:
            for key, value in expected.items():
                assert store[key] == value


# -- whose image is it


def test_an_image_that_a_crashed_run_sent_is_adopted(tmp_path: Path) -> None:
    home = tmp_path / "home"
    Store.create(home, pad_size=PAD).close()
    crash_at(home, lambda store: store.put("k", SMALL), "network.write|after", 1)
    with installed(Points()) as points:
        run(home, lambda store: store.put("k", SMALL))
    assert any(point.is_a("record adopted|after") for point in points.seen)
    assert content(home) == {"k": SMALL}


@pytest.mark.parametrize("earlier", [{}, {"first": SMALL}], ids=["first image", "later image"])
def test_an_image_that_another_run_sent_to_a_pad_we_were_writing_is_refused(
    earlier: dict[str, bytes], tmp_path: Path, pads: Path
) -> None:
    home, other = tmp_path / "home", tmp_path / "other"
    Store.create(home, network=f"dir://{pads}", pad_size=PAD).close()
    run(home, lambda store: [store.put(key, value) for key, value in earlier.items()])
    crash_at(home, lambda store: store.put("k", SMALL), "network.write|before", 1)
    shutil.copytree(home, other)
    run(other, lambda store: store.put("theirs", LARGE))
    before = network_of(pads)
    with Store.open(home) as store:
        for _ in range(2):
            with pytest.raises(AnthillError) as raised:
                store.put("ours", SMALL)
            assert raised.value.exit_code == 76
    assert network_of(pads) == before
    assert content(other) == {**earlier, "theirs": LARGE}


def test_the_lock_of_a_killed_process_is_free(home: Path) -> None:
    ready, tell = os.pipe()

    def tell_and_wait(_: MasterIndex) -> None:
        os.write(tell, b"1")
        signal.pause()

    def hold() -> None:
        with Store.open(home) as store:
            store._session.mutate((), tell_and_wait)

    pid = forked(hold)
    assert os.read(ready, 1)
    with Store.open(home) as store:
        with pytest.raises(StoreLocked, match=f"pid {pid}"):
            store.put("l", SMALL)
        os.kill(pid, signal.SIGKILL)
        assert exit_code(pid) == -signal.SIGKILL
        store.put("l", SMALL)
    assert content(home) == {"k": OLD, "l": SMALL}


def test_a_process_that_waits_comes_in_when_the_writer_is_killed(home: Path) -> None:
    ready, tell = os.pipe()
    end, go = os.pipe()

    def killed(point: Point) -> NoReturn:
        os.write(tell, b"1")
        os.read(end, 1)
        os.kill(os.getpid(), signal.SIGKILL)
        raise SystemExit(1)

    def crash() -> None:
        with installed(Points(1, killed, "record committed|after")):
            run(home, lambda store: store.put("k", NEW))

    def wait() -> None:
        with Store.open(home, lock_wait=PATIENCE) as store:
            os.write(tell, b"2")
            store.put("l", SMALL)

    first = forked(crash)
    assert os.read(ready, 1) == b"1"
    second = forked(wait)
    assert os.read(ready, 1) == b"2"
    os.write(go, b"1")
    assert (exit_code(first), exit_code(second)) == (-signal.SIGKILL, 0)
    found = content(home)
    assert found.pop("k") in (OLD, NEW)
    assert found == {"l": SMALL}
