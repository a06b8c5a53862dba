"""What ``init`` refuses to make a store of."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest

from anthill_sync import Store
from anthill_sync.errors import ConfigurationError, NoRoom


def test_no_store_is_made_where_flock_excludes_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "flock", lambda fd, operation: None)
    with pytest.raises(ConfigurationError, match="flock does not work"):
        Store.create(tmp_path / "home")
    assert not (tmp_path / "home" / "config.json").exists()


def test_a_key_with_data_on_the_network_makes_no_second_store(tmp_path: Path) -> None:
    with Store.create(tmp_path / "home", network=f"dir:{tmp_path}/pads") as store:
        store["k"] = b"v"
    with pytest.raises(NoRoom, match="--slot 1") as caught:
        Store.create(tmp_path / "second", network=f"dir:{tmp_path}/pads", key_file=store.key_path)
    assert caught.value.exit_code == 73
    assert not (tmp_path / "second" / "config.json").exists()
