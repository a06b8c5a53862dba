"""What a failure leaves behind in a Store that goes on: announced pads, demand, claims, pads in doubt."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path

import pytest

from anthill_sync import Store
from anthill_sync.errors import AnthillError, PadLimitExceeded, PutFailed
from anthill_sync.journal import Journal
from anthill_sync.operation import Operation
from tests.store_tools import StoreRig, permanent
from tests.support import PATIENCE, Seen

from .scenarios import CHUNK, LARGE, ONE_THREAD, PAD, SMALL, crash_at, noise, stream


def wait_until(ready: Callable[[], bool]) -> None:
    """Return once ``ready`` says so."""
    deadline = time.monotonic() + PATIENCE
    while not ready():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.001)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    with Store.create(tmp_path / "home", pad_size=PAD) as store:
        store.put("other", SMALL)
    return tmp_path / "home"


def cut_short(store: Store, path: Path) -> None:
    """A put whose source shrinks after its first image: the pads announced for the rest are not used."""
    path.write_bytes(LARGE)

    def cut(event: object) -> None:
        if type(event).__name__ == "ScratchpadCommitComplete":
            path.write_bytes(b"")

    with pytest.raises(AnthillError, match="changed"):
        store.put("cut", path, on_event=cut)


def test_a_pad_announced_for_a_put_that_failed_is_announced_again_for_the_next(home: Path, tmp_path: Path) -> None:
    def act(store: Store) -> None:
        cut_short(store, tmp_path / "source")
        store.abandon()
        store.put("k", LARGE)

    crash_at(home, act, "network.confirm|after", 4)
    with Store.open(home, settings=ONE_THREAD) as store:
        store.put("k", LARGE)
        assert store["k"] == LARGE


def test_a_pad_limit_that_was_hit_leaves_no_demand_behind(home: Path) -> None:
    with Store.open(home) as store:
        with pytest.raises(PadLimitExceeded):
            store.put("k", bytes(30 * CHUNK), max_pads=3)
        before = store.usage().pads.total
        store.put("k", noise("one", CHUNK))
        assert store.usage().pads.total <= before + 2


def test_a_crash_between_naming_a_pad_and_reserving_it_is_taken_over(home: Path) -> None:
    journal = Journal(home)
    journal.take(0)
    journal.append([["writing", [journal.index.pads, journal.index.pads + 40]]])
    journal.give_up()
    journal.close()
    with Store.open(home) as store:
        store.put("k", SMALL)
        assert (store["k"], store["other"]) == (SMALL, SMALL)
        with suppress(KeyError):
            del store["k"]
        assert not store.check(read_data=True).problems


def in_thread(action: Callable[[], object]) -> Future[object]:
    """``action`` on a thread of its own."""
    future: Future[object] = Future()

    def run() -> None:
        try:
            future.set_result(action())
        except BaseException as error:  # noqa: BLE001 - told to the test's own thread
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def test_a_put_that_fails_at_its_pad_limit_does_not_hold_up_one_that_shares_its_pad(tmp_path: Path) -> None:
    """Both are planned into the same pad, which has no number yet; the one that was to ask for it gives up."""
    with Store.create(tmp_path / "home", pad_size=PAD) as store:
        planned, failed = threading.Event(), threading.Event()

        def refused(question: object) -> bool:
            assert planned.wait(PATIENCE)
            return True

        def patient(question: object) -> bool:
            planned.set()
            assert failed.wait(PATIENCE)
            return True

        first = in_thread(lambda: store.put("refused", SMALL, max_pads=0, confirm=refused))
        second = in_thread(lambda: store.put("patient", SMALL, confirm=patient))
        assert isinstance(first.exception(PATIENCE), PadLimitExceeded)
        failed.set()
        second.result(PATIENCE)
        assert list(store) == ["patient"]


def test_a_put_whose_source_fails_does_not_hold_up_one_that_shares_its_pad(tmp_path: Path) -> None:
    """The first claims the pad that both share, and loses its source before it comes to it; nobody else has asked for
    a pad, and the one that was reserved for the first goes to a third."""
    rig = StoreRig(tmp_path / "home", None, upload_threads=4)
    gone = tmp_path / "gone"
    gone.write_bytes(LARGE)
    over = threading.Event()

    def patient(question: object) -> bool:
        assert over.wait(PATIENCE)
        return True

    second = None

    def vanish(question: object) -> bool:
        nonlocal second
        second = in_thread(lambda: rig.store.put("patient", SMALL, confirm=patient))
        wait_until(lambda: len(rig.session.allocator.planner._uploads) == 2)
        gone.unlink()
        return True

    failed: list[str] = []
    rig.store.put_many({"gone": gone}, confirm=vanish, on_source_error=lambda key, error: failed.append(key))
    assert failed == ["gone"]
    rig.store.put("third", bytes(6 * CHUNK))
    over.set()
    assert second is not None
    second.result(PATIENCE)
    assert sorted(rig.store) == ["patient", "third"]
    rig.store.close()


def test_a_pad_in_doubt_takes_no_other_image_from_a_put_planned_before(tmp_path: Path) -> None:
    """One put fails on a shared pad; another was planned into that pad before, and comes to it only now."""
    rig = StoreRig(tmp_path / "home", None, upload_threads=8)
    rig.store.put("other", SMALL)
    gate = rig.faulty.hold("write")
    slow = in_thread(lambda: rig.store.put("slow", LARGE))
    gate.wait_for(1)
    rig.mend()
    tried: list[str] = []

    def refuse_once(seen: Seen) -> None:
        if seen.address == rig.address(0):
            tried.append(seen.address)
            if len(tried) == 1:
                raise permanent()

    rig.faulty.before("write", refuse_once)
    with pytest.raises(PutFailed):
        rig.store.put("fails", SMALL)
    gate.open()
    with pytest.raises(PutFailed, match="says no"):
        slow.result(PATIENCE)
    assert len(tried) == 1, "another image was sent to a pad in doubt"
    rig.mend()
    rig.store.put("slow", LARGE)
    rig.store.put("fails", SMALL)
    assert (rig.store["slow"], rig.store["fails"], rig.store["other"]) == (LARGE, SMALL, SMALL)
    rig.store.close()


def test_a_chunk_found_to_be_sent_has_its_pad_asked_for_before_another_thread_can_queue_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the pad is taken first and asked for later, and one too many is reserved."""
    rig = StoreRig(tmp_path / "home", None, upload_threads=1)
    rig.store.put("other", SMALL)
    rig.store.reserve(5)
    gate, supply = rig.faulty.hold("write"), rig.session.allocator.supply
    want, asked = supply.want, 0

    def overtaken(operation: Operation, count: int) -> None:
        nonlocal asked
        asked += count
        if asked == 4:  # the window is full of the first two; let them go, and the feeding thread find what is next
            gate.open()
            wait_until(lambda: operation.queued == 0)
        want(operation, count)

    monkeypatch.setattr(supply, "want", overtaken)
    rig.store.put("k", stream(noise("five", 5 * CHUNK + 50)), max_pads=0)
    assert asked == 5
    rig.store.close()
