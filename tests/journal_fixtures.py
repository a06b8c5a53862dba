"""Fixtures of the journal's tests: ``pytest_plugins = ["tests.journal_fixtures"]``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from anthill_sync.journal import Journal, create_files


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
