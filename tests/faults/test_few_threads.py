"""The system gives few threads, or none: a command works with those it has, on its own one if need be, or says that there
is none (75). It never hangs."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import pytest

from anthill_sync import Store, cli
from tests.cli_tools import Shell

from .commands import CASES, Case, assert_whole, place, template, words_of
from .scenarios import LARGE, SMALL
from .test_crash_points import content
from .test_file_faults import in_child

__all__ = ["place", "template"]

NOBODY = 54321  # a user id that nobody has


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.words)
def test_without_a_thread_a_command_works_or_says_that_there_is_none(
    case: Case, template: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And then it has changed nothing."""

    def none(thread: threading.Thread) -> NoReturn:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", none)
        result = Shell(place / "home")(*words_of(case, place)[2:])
    assert result.code in case.alone, result
    assert result.code != 75 or "can't start new thread" in result.err
    assert_whole(place)
    assert result.code != 75 or content(place / "home") == content(template / "home")


ACTS: dict[str, Callable[[Store], Any]] = {
    "put": lambda store: store.put("k", LARGE),
    "put many": lambda store: store.put_many({f"many/{number}": SMALL for number in range(30)}),
    "get": lambda store: store["k"],
    "remove": lambda store: store.delete("k"),
    "rename": lambda store: store.rename("k", "l"),
    "reserve": lambda store: store.reserve(5),
    "check": lambda store: store.check(read_data=True),
}


@pytest.mark.parametrize("most", range(4))
@pytest.mark.parametrize("name", ACTS)
def test_with_few_threads_the_work_is_done_by_those_there_are(
    name: str, most: int, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or by the calling thread. And a Store that could have none uses them again when it can."""
    started, real = 0, threading.Thread.start

    def few(thread: threading.Thread) -> None:
        nonlocal started
        if started == most:
            raise RuntimeError("can't start new thread")
        started += 1
        real(thread)

    with Store.open(place / "home") as store:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", few)
            ACTS[name](store)
        store.put("after", LARGE)
        assert store["after"] == LARGE
    content(place / "home")


@pytest.fixture
def another_users(template: Path) -> Iterator[Path]:
    """A copy of the place that belongs to a user without processes."""
    if os.getuid() != 0:
        pytest.skip("only root can become a user without other processes")
    folder = Path(tempfile.mkdtemp())
    shutil.copytree(template, folder / "place")
    subprocess.run(["chown", "-R", str(NOBODY), folder], check=True)
    yield folder / "place"
    shutil.rmtree(folder)


def test_a_put_keeps_to_a_real_limit_of_threads(another_users: Path) -> None:
    home, large = another_users / "home", another_users / "large"
    words = ["--home", str(home), "put", "k", str(large)]
    assert [in_child(partial(limited, limit, words)) for limit in (0, 1, 2, 3, 4, 100)] == [0] * 6
    assert content(home)["k"] == LARGE


def limited(processes: int, words: list[str]) -> int:
    """The command, of another user, who may have so many processes and threads."""
    os.setgid(NOBODY)
    os.setuid(NOBODY)
    resource.setrlimit(resource.RLIMIT_NPROC, (processes, processes))
    return cli.main(words)
