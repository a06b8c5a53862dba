"""Filesystems in threads, processes, caches and pickles; and what they may be told."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
import pytest

from anthill_sync import Store
from anthill_sync.errors import ConfigurationError, InvalidArgument, NoStore, WrongPassphrase
from anthill_sync.filesystem import AnthillFileSystem
from tests.store_tools import chunks_of
from tests.support import PATIENCE, run_threads

pytest_plugins = ["tests.filesystem_fixtures"]


def test_a_filesystem_has_one_store_and_fsspec_hands_it_out_again(home: Path) -> None:
    files = fsspec.filesystem("anthill")
    assert files.store is files.store
    assert fsspec.filesystem("anthill") is files
    assert fsspec.url_to_fs("anthill://a/b") == (files, "a/b")
    assert fsspec.filesystem("anthill", read_only=True).store is not files.store
    assert fsspec.filesystem("anthill", home=str(home)).home == files.home == home
    assert pickle.loads(pickle.dumps(files)) is files


def test_threads_may_share_a_filesystem_or_have_their_own(home: Path) -> None:
    """fsspec gives each thread another one; their stores take turns."""
    shared = fsspec.filesystem("anthill")

    def write(number: int) -> None:
        files = shared if number % 2 else fsspec.filesystem("anthill")
        files.pipe_file(f"a/{number}", chunks_of(number))

    run_threads([lambda number=number: write(number) for number in range(10)])  # type: ignore[misc]
    assert len(shared.find("a")) == 10
    assert shared.store.check(read_data=True).problems == ()


def test_threads_of_a_new_process_open_its_store_once(home: Path) -> None:
    files = fsspec.filesystem("anthill")
    files._stores.clear()  # as after a fork
    stores = run_threads([lambda: files.store] * 20)
    assert len(set(map(id, stores))) == 1
    files.pipe_file("a", b"1")


def use_in_child(files: AnthillFileSystem) -> tuple[int, Any]:
    """The work of another process."""
    files.pipe_file("from child", b"1")
    return os.getpid(), files.cat_file("a")


def use_inherited(files: AnthillFileSystem) -> None:
    """What a forked process got was not pickled, and is the parent's."""
    assert use_in_child(files) == (os.getpid(), b"value")
    assert fsspec.filesystem("anthill") is not files


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_another_process_opens_the_store_for_itself(home: Path, method: str) -> None:
    files = fsspec.filesystem("anthill")
    files.pipe_file("a", b"value")
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(method)) as pool:
        pid, value = pool.submit(use_in_child, files).result(PATIENCE * 3)
    assert (pid != os.getpid(), value) == (True, b"value")
    assert files.cat_file("from child") == b"1"


def test_a_forked_process_uses_what_it_inherited(home: Path) -> None:
    files = fsspec.filesystem("anthill")
    files.pipe_file("a", b"value")
    child = multiprocessing.get_context("fork").Process(target=use_inherited, args=(files,))
    child.start()
    child.join(PATIENCE * 2)
    assert child.exitcode == 0
    assert files.cat_file("from child") == b"1"


# -- options


def test_no_passphrase_is_kept_anywhere(tmp_path: Path) -> None:
    with Store.create(tmp_path / "home", passphrase="topsecret", pad_size=16 * 1024) as store:
        store["a"] = b"1"
    files = fsspec.filesystem("anthill", home=str(tmp_path / "home"), passphrase="topsecret")
    assert files.cat_file("a") == b"1"
    data = pickle.dumps(files)
    for shown in (data.decode("latin-1"), files.to_json(), repr(files.storage_options), repr(vars(files)), repr(files)):
        assert "topsecret" not in shown
    other = fsspec.filesystem("anthill", home=str(tmp_path / "home"), passphrase="topsecret", skip_instance_cache=True)
    assert other.cat_file("a") == b"1"
    AnthillFileSystem.clear_instance_cache()
    with pytest.raises(ConfigurationError, match="passphrase"):
        pickle.loads(data)
    with pytest.raises(WrongPassphrase):
        fsspec.filesystem("anthill", home=str(tmp_path / "home"), passphrase="wrong")
    assert fsspec.filesystem("anthill", home=str(tmp_path / "home"), passphrase="topsecret").cat_file("a") == b"1"


def test_settings_with_secrets_are_refused_and_not_shown(home: Path) -> None:
    settings = {"objects.secret_access_key": "topsecret", "proxy": "http://ann:topsecret@proxy:1", "attempts": 2}
    with pytest.raises(InvalidArgument, match=r"objects\.secret_access_key, proxy may hold a secret") as caught:
        fsspec.filesystem("anthill", settings=settings)
    assert "topsecret" not in str(caught.value)
    assert fsspec.filesystem("anthill", settings={"attempts": 2}).store.settings.attempts == 2


def test_options_that_nobody_knows_are_refused(home: Path) -> None:
    with pytest.raises(InvalidArgument, match="hom"):
        fsspec.filesystem("anthill", hom="elsewhere")
    with pytest.raises(NoStore):
        fsspec.filesystem("anthill", home=str(home / "elsewhere"))
    files = fsspec.filesystem("anthill", asynchronous=True, use_listings_cache=False, skip_instance_cache=True)
    assert files.ls("") == []


def test_fsspec_is_not_needed_by_anything_else() -> None:
    code = """
import sys
sys.modules["fsspec"] = None
import anthill_sync, anthill_sync.store, anthill_sync.cli
assert all(getattr(anthill_sync, name) for name in anthill_sync.__all__)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=PATIENCE)
