"""What ``get`` leaves behind survives power loss: synced before it takes its name, its folder after it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from anthill_sync import Store, durable
from anthill_sync.destinations import FileDestination
from anthill_sync.trees import plan
from anthill_sync.trees_restore import Restorer
from tests.support import record_durable


@pytest.mark.parametrize("overwrite", [True, False])
def test_a_file_is_synced_then_named_then_its_folder_is_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overwrite: bool
) -> None:
    destination = FileDestination(tmp_path / "out", overwrite=overwrite)
    destination.write(memoryview(b"value"), 0)
    calls = record_durable(monkeypatch)
    destination.finish()
    naming = ("rename", tmp_path / "out") if overwrite else ("remove", destination._temporary)
    assert calls[0][0] == "sync"
    assert calls[1:] == [naming, ("sync_folder", tmp_path)]
    assert (tmp_path / "out").read_bytes() == b"value"


def test_every_file_and_folder_of_a_restored_tree_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store.create(tmp_path / "home") as store:
        store.put_many({"tree/a": b"1", "tree/below/b": b"2"})
        synced: set[int] = set()

        def watched(fd: int) -> None:
            synced.add(os.fstat(fd).st_ino)

        monkeypatch.setattr(durable, "sync", watched)
        monkeypatch.setattr(os, "fsync", watched)
        Restorer(store, tmp_path / "out").run(plan(store.entries("tree"), "tree"))
    names = ["a", "below/b", "", "below"]
    assert {name for name in names if (tmp_path / "out" / name).stat().st_ino not in synced} == set()
