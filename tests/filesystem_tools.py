"""Filesystems on stores, for tests."""

from __future__ import annotations

import os

from anthill_sync import Store
from anthill_sync.filesystem import AnthillFileSystem


def over(store: Store) -> AnthillFileSystem:
    """A filesystem on a store that is open already."""
    made = AnthillFileSystem(store.home, skip_instance_cache=True)
    made.store.close()
    made._stores[os.getpid()] = store
    return made


def everything(files: AnthillFileSystem) -> dict[str, bytes]:
    """All values by their names."""
    return {name: files.cat_file(name) for name in files.find("")}
