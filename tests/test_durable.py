"""The one seam below every file of a store: what it promises by itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from anthill_sync import durable
from tests.support import record_durable


def test_a_kept_file_has_its_other_name_for_good_before_keep_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else power loss may bring what replaces the file, and not the name it was kept under."""
    (tmp_path / "index.json").write_bytes(b"old")
    calls = record_durable(monkeypatch)
    kept = durable.keep(tmp_path / "index.json")
    assert kept.read_bytes() == (tmp_path / "index.json").read_bytes() == b"old"
    assert calls[-1] == ("sync_folder", tmp_path)
