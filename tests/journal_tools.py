"""What the journal's tests share: ``pytest_plugins = ["tests.journal_tools"]``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from anthill_sync.index import MasterIndex, Record
from anthill_sync.journal import Journal, create_files
from anthill_sync.lines import snapshot_lines


def state(index: MasterIndex) -> bytes:
    """Everything an index knows."""
    return b"".join(snapshot_lines(index))


def run_of(number: int) -> Record:
    """The record of this run."""
    return ["run", number, number.to_bytes(16, "big").hex()]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A directory with an empty index."""
    create_files(tmp_path)
    return tmp_path


@pytest.fixture
def opened(home: Path) -> Iterator[Callable[[], Journal]]:
    """Opens journals of ``home``; all are closed at the end."""
    journals: list[Journal] = []

    def another() -> Journal:
        journals.append(Journal(home))
        return journals[-1]

    yield another
    for each in journals:
        each.close()


def seen(home: Path) -> bytes:
    """The state a reader finds."""
    reader = Journal(home)
    try:
        reader.refresh()
        return state(reader.index)
    finally:
        reader.close()
