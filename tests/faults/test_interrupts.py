"""Ctrl-C at any moment: ``KeyboardInterrupt`` is raised at the N-th moment at which the calling thread can hear of a signal.

Afterwards the same Store either goes on or says that it is closed, and never does damage; closing it frees the lock;
and a new one finds the old value or the new one.
"""

from __future__ import annotations

import faulthandler
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import anthill_sync
from anthill_sync import Store, durable, operation
from anthill_sync.errors import AnthillError
from tests.support import PATIENCE

from .conftest import Begin
from .scenarios import ONE_THREAD, SCENARIOS, SMALL, Act, Scenario
from .test_crash_points import Prepare, content, copy, prepared, spread

__all__ = ["prepared"]

SHORT, LONG = 60, 600  # interrupts of each scenario
PACKAGE = str(Path(anthill_sync.__file__).parent)
NAMES = ("put chunks", "put many", "put stream", "overwrite", "remove", "rename over", "checkpoint", "reserve", "take over")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durable, "sync", lambda fd: None)
    monkeypatch.setattr(durable, "sync_folder", lambda path: None)
    monkeypatch.setattr(operation, "GRACE_SECONDS", 5.0)


class Interrupter:
    """Profiles the calling thread; raises at its moment number ``at`` (0: never).

    A moment is where the interpreter looks for signals while it runs this package: a function begins, or a call of one
    has just returned. Not when a ``with`` has entered a lock, which newer Pythons tell profilers of: they do not look there.
    """

    def __init__(self, at: int) -> None:
        self.at, self.moments, self.where = at, 0, ""

    def profile(self, frame: FrameType, event: str, argument: Any) -> None:
        code = frame.f_code
        if event not in ("call", "return", "c_return") or not code.co_filename.startswith(PACKAGE) or code.co_name == "<genexpr>":
            return
        if event == "c_return" and argument.__name__ == "__enter__":
            return
        self.moments += 1
        if self.moments == self.at:
            self.where = f"{event} {Path(frame.f_code.co_filename).name}:{frame.f_lineno} {frame.f_code.co_name}"
            raise KeyboardInterrupt


def on_thread(action: Callable[[], object]) -> BaseException | None:
    """Run ``action`` on a thread of its own; what it raised. A hang is a failure."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            action()
        except BaseException as error:  # noqa: BLE001 - returned
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    if thread.is_alive():
        faulthandler.dump_traceback()
    assert not thread.is_alive(), "hangs"
    return raised[0] if raised else None


def interrupt(store: Store, do: Act, tracer: Interrupter) -> BaseException | None:
    """What ``do`` raised, done on a thread that ``tracer`` interrupts.

    The profiler is kept until the thread has ended: Python 3.11 calls it again after it has raised in what the collector
    closes while a call of it begins, and only we hold it then.
    """
    profile = tracer.profile

    def act() -> None:
        sys.setprofile(profile)
        try:
            do(store)
        finally:
            sys.setprofile(None)

    return on_thread(act)


def go_on(store: Store) -> None:
    """The same Store after the interrupt: it works, or says why it does not."""
    error = on_thread(lambda: store.put("after", SMALL))
    assert error is None or isinstance(error, AnthillError), repr(error)
    store.close()


def assert_unharmed(home: Path, scenario: Scenario) -> None:
    found = content(home)
    if found.pop("after", None) is None:
        with Store.open(home) as store:
            store.put("after", SMALL)
    scenario.assert_allowed(found)
    with Store.open(home, settings=ONE_THREAD) as store:
        scenario.act(store)
    assert content(home) == {**scenario.aim, "after": SMALL}


@pytest.mark.parametrize("name", NAMES)
def test_an_interrupt_at_any_moment_of_the_caller_does_no_damage(
    name: str, prepared: Prepare, tmp_path: Path, campaign: Begin
) -> None:
    scenario = next(each for each in SCENARIOS if each.name == name)
    template = prepared(scenario, 1).template
    home = copy(template, tmp_path / "home")
    with Store.open(home, settings=ONE_THREAD) as store:
        whole = Interrupter(0)
        interrupt(store, scenario.act, whole)
    with campaign("interrupts", name, short=SHORT, long=LONG) as run:
        for at in spread(whole.moments, run.goal):
            tracer = Interrupter(at)
            with run.case("KeyboardInterrupt", f"at moment {at} of {whole.moments}"):
                store = Store.open(copy(template, home), settings=ONE_THREAD)
                error = interrupt(store, scenario.act, tracer)
                assert tracer.where == "" or isinstance(error, (KeyboardInterrupt, AnthillError)), f"{tracer.where}: {error!r}"
                go_on(store)
                assert_unharmed(home, scenario)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # an interrupt in what closes a generator
@pytest.mark.parametrize("ask", [Store.usage, Store.check], ids=["usage", "check"])
def test_a_question_that_was_interrupted_at_any_moment_keeps_nobody_waiting(ask: Act, tmp_path: Path) -> None:
    """Also while somebody keeps the error, and with it every frame and generator that it passed."""
    store = Store.create(tmp_path / "home", settings=ONE_THREAD)
    store.put("k", SMALL)
    whole = Interrupter(0)
    interrupt(store, ask, whole)
    for at in range(1, whole.moments + 1):
        error = interrupt(store, ask, Interrupter(at))
        assert on_thread(lambda: store.put("k", SMALL)) is None, f"after {error!r} at moment {at}"
    store.close()  # not when it fails: this would wait too
