"""The key file: a copy is proved on the store itself, and its passphrase changes in one step or not at all."""

from __future__ import annotations

import fcntl
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from anthill_sync import Store, durable
from anthill_sync.config import read_config
from anthill_sync.errors import ConfigurationError, LocalIOError, TryAgain, WrongKey, WrongPassphrase
from anthill_sync.keyfile import change_passphrase, open_with
from anthill_sync.keys import MasterKey, encode_key, encode_wrapped_key, is_wrapped, read_key_file
from anthill_sync.settings import resolve

PAD = 16 * 1024
KEY = MasterKey(bytes(range(32)))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    with Store.create(tmp_path / "home", pad_size=PAD) as store:
        store["k"] = b"x" * 100_000
    return tmp_path / "home"


def tried(home: Path, key: MasterKey, **known: Any) -> int | None:
    return open_with(home, replace(read_config(home), **known), resolve({}), key)


# -- proof


def test_the_store_s_own_key_opens_it(home: Path) -> None:
    assert tried(home, read_key_file(home / "key", None)) == 0


def test_another_key_does_not_open_it(home: Path) -> None:
    with pytest.raises(WrongKey, match="another store"):
        tried(home, KEY)


def test_where_the_store_s_id_is_not_known_the_pads_tell(home: Path) -> None:
    assert tried(home, read_key_file(home / "key", None), store=None) == 0
    with pytest.raises(WrongKey, match="pads 0, 1, 2"):
        tried(home, KEY, store=None)


def test_one_damaged_pad_does_not_refute_the_right_key(home: Path) -> None:
    key = read_key_file(home / "key", None)
    address = key.pad(0, 0).address
    (damaged,) = (home / "pads").rglob(f"*{address[8:]}*")
    damaged.write_bytes(b"rubbish" * 100)
    assert tried(home, key) == 1


def test_a_store_that_holds_nothing_knows_its_key_by_the_id_only(tmp_path: Path) -> None:
    home = tmp_path / "empty"
    Store.create(home, pad_size=PAD).close()
    assert tried(home, read_key_file(home / "key", None)) is None
    with pytest.raises(WrongKey):
        tried(home, KEY)
    with pytest.raises(ConfigurationError, match="nothing is stored"):
        tried(home, read_key_file(home / "key", None), store=None)


def test_a_proof_changes_nothing(home: Path) -> None:
    before = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    tried(home, read_key_file(home / "key", None))
    assert {path: path.read_bytes() for path in home.rglob("*") if path.is_file()} == before


# -- the passphrase


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "key"
    made.touch(mode=0o600)
    made.write_text(encode_key(KEY))
    return made


def test_a_passphrase_is_set_changed_and_removed_and_the_key_stays_the_same(path: Path) -> None:
    change_passphrase(path, None, "one")
    assert read_key_file(path, "one") == KEY
    change_passphrase(path, "one", "two")
    assert read_key_file(path, "two") == KEY
    with pytest.raises(WrongPassphrase):
        read_key_file(path, "one")
    change_passphrase(path, "two", None)
    assert path.read_text() == encode_key(KEY)
    assert [each.name for each in path.parent.iterdir()] == ["key"]
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_wrong_old_passphrase_changes_nothing(path: Path) -> None:
    path.write_text(encode_wrapped_key(KEY, "one"))
    before = path.read_bytes()
    with pytest.raises(WrongPassphrase):
        change_passphrase(path, "guess", "two")
    assert path.read_bytes() == before


@pytest.mark.parametrize("step", ["open_new", "write_all", "sync", "rename"])
def test_a_failure_at_any_step_leaves_the_old_file(path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    def failing(*arguments: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(durable, step, failing)
    with pytest.raises(LocalIOError, match="as it was"):
        change_passphrase(path, None, "new")
    assert path.read_text() == encode_key(KEY)


def test_the_old_file_stays_until_the_new_one_opens(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that forgets what it was told to keep."""
    write = durable.write_all
    monkeypatch.setattr(durable, "write_all", lambda fd, data: write(fd, bytes(data)[:-9]))
    with pytest.raises(Exception, match="key"):
        change_passphrase(path, None, "new")
    assert path.read_text() == encode_key(KEY)
    assert [each.name for each in path.parent.iterdir()] == ["key"]


def test_another_key_in_the_new_file_is_noticed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = encode_wrapped_key(MasterKey.generate(), "new").encode()
    write = durable.write_all
    monkeypatch.setattr(durable, "write_all", lambda fd, data: write(fd, other))
    with pytest.raises(LocalIOError, match="does not read back"):
        change_passphrase(path, None, "new")
    assert path.read_text() == encode_key(KEY)


def test_two_changes_at_once_do_not_mix(path: Path) -> None:
    with path.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(TryAgain):
            change_passphrase(path, None, "new")
    change_passphrase(path, None, "new")


def test_a_change_of_a_file_that_was_replaced_meanwhile_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_file = os.open

    def late(*arguments: object, **options: object) -> int:
        fd = open_file(*arguments, **options)  # type: ignore[arg-type]
        if arguments[0] == path and not is_wrapped(path.read_text()):
            durable.replace_file(path, encode_wrapped_key(KEY, "theirs").encode())
        return fd

    monkeypatch.setattr(os, "open", late)
    with pytest.raises(TryAgain):
        change_passphrase(path, None, "ours")
    monkeypatch.undo()
    assert read_key_file(path, "theirs") == KEY


def test_a_symlink_to_the_key_stays_one(path: Path) -> None:
    link = path.with_name("link")
    link.symlink_to(path)
    change_passphrase(link, None, "new")
    assert link.is_symlink()
    assert read_key_file(path, "new") == KEY


def test_a_key_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no key file"):
        change_passphrase(tmp_path / "none", None, "new")
