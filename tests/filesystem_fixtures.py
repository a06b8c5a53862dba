"""Fixtures of the tests of ``anthill_sync.filesystem``: ``pytest_plugins = ["tests.filesystem_fixtures"]``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from anthill_sync import Store
from anthill_sync.filesystem import AnthillFileSystem
from tests.filesystem_tools import over
from tests.store_tools import StoreRig

pytest_plugins = ["tests.store_fixtures"]


@pytest.fixture
def files(rig: StoreRig) -> AnthillFileSystem:
    """A filesystem on the store of ``rig``, which watches what is sent."""
    return over(rig.store)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The home of a store that is found without being named; fsspec remembers no filesystem of another test."""
    Store.create(tmp_path / "home", pad_size=16 * 1024).close()
    monkeypatch.setenv("ANTHILL_HOME", str(tmp_path / "home"))
    AnthillFileSystem.clear_instance_cache()
    yield tmp_path / "home"
    AnthillFileSystem.clear_instance_cache()
