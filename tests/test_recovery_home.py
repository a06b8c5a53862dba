"""A store from key, slot and network alone: where none is, or where ``config.json`` is damaged."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from anthill_sync import Store
from anthill_sync.config import read_config
from anthill_sync.errors import (
    AnthillError,
    ConfigurationError,
    IndexDamaged,
    NetworkNotFound,
    NoRoom,
    WrongPassphrase,
)
from anthill_sync.keys import MasterKey, encode_key
from anthill_sync.settings import CHUNK_MARGIN, DEFAULT_PAD_SIZE
from tests.recovery_tools import facts
from tests.store_tools import CHUNK, PAD, chunks_of
from tests.support.servers import serve

VALUES = {"a": chunks_of(1, 2, 3) + b"rest", "b": b"small", "c": b"", "d/e": chunks_of(4)}


@pytest.fixture(params=["dir", "http"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A network that several homes may use."""
    pads = tmp_path / "pads"
    pads.mkdir(mode=0o700)
    if request.param == "dir":
        yield f"dir://{pads}"
        return
    with serve(pads) as server:
        yield server.url


def made(home: Path, url: str | None, *, slot: int = 0, key: Path | None = None, pad_size: int = PAD) -> Path:
    """A store with VALUES; its home."""
    with Store.create(home, network=url, slot=slot, key_file=key, pad_size=pad_size) as store:
        store.put_many(VALUES)
        store.put("b", b"smaller")
        store.delete("c")
    return home


LEFT = {**{key: value for key, value in VALUES.items() if key != "c"}, "b": b"smaller"}


def assert_works(home: Path) -> None:
    """Like any other store: it puts, resumes and proves."""
    with Store.open(home) as store:
        assert dict(store) == LEFT
        assert store.check(read_data=True).problems == ()
        store.put("new", chunks_of(7) + b"x")
        store.put("a", chunks_of(1, 9, 3) + b"rest")
    with Store.open(home) as store:
        assert store["new"] == chunks_of(7) + b"x"
        assert store["a"] == chunks_of(1, 9, 3) + b"rest"
        assert store.check(read_data=True).problems == ()


@pytest.mark.parametrize("slot", [0, 3])
def test_key_slot_and_url_are_enough_to_get_everything_back(url: str, slot: int, tmp_path: Path) -> None:
    old, key = made(tmp_path / "old", url, slot=slot), tmp_path / "key"
    shutil.copy(old / "key", key)
    with Store.open(old) as store:
        before = facts(store._session.index())
    shutil.rmtree(old)
    report = Store.recover(tmp_path / "new", network=url, key_file=key, slot=slot)
    assert (report.keys, report.changed, report.given_up) == (tuple(sorted(LEFT)), True, False)
    with Store.open(tmp_path / "new") as store:
        assert facts(store._session.index()) == before
    config = read_config(tmp_path / "new")
    assert (config.pad_size, config.chunk_size, config.slot, config.key_file) == (PAD, CHUNK, slot, str(key))
    assert config.facts["pad_size"] == (PAD if url.startswith("dir") else DEFAULT_PAD_SIZE)
    assert_works(tmp_path / "new")


def test_a_recovered_store_refuses_the_key_of_another(tmp_path: Path) -> None:
    old, key = made(tmp_path / "old", None), tmp_path / "key"
    shutil.copy(old / "key", key)
    Store.recover(tmp_path / "new", network=f"dir://{old / 'pads'}", key_file=key)
    assert read_config(tmp_path / "new").store == read_config(old).store
    key.write_text(encode_key(MasterKey.generate()))
    with pytest.raises(ConfigurationError, match="the key of another store"):
        Store.open(tmp_path / "new")


def test_the_home_and_its_files_are_private(url: str, tmp_path: Path) -> None:
    old = made(tmp_path / "old", url)
    Store.recover(tmp_path / "new", network=url, key_file=old / "key")
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "new").iterdir()} == {0o600}


def test_without_a_full_chunk_any_pad_size_serves_that_holds_the_images(tmp_path: Path) -> None:
    (tmp_path / "pads").mkdir()
    url = f"dir://{tmp_path / 'pads'}"
    for number, (pad_size, value, found) in enumerate(
        [(PAD, b"small", DEFAULT_PAD_SIZE), (2 * DEFAULT_PAD_SIZE, bytes(DEFAULT_PAD_SIZE + 5000), None)]
    ):
        key = tmp_path / f"key{number}"
        with Store.create(tmp_path / f"old{number}", network=url, key_file=key, pad_size=pad_size) as store:
            store["k"] = value
        home = tmp_path / f"new{number}"
        Store.recover(home, network=url, key_file=key)
        size = read_config(home).pad_size
        assert size == (found or len(value) + CHUNK_MARGIN + 1)
        with Store.open(home) as store:
            assert store["k"] == value
            store["l"] = bytes(3 * size)
            assert store.check(read_data=True).problems == ()
            assert store["l"] == bytes(3 * size)


def test_a_damaged_configuration_is_kept_beside_and_made_anew(tmp_path: Path) -> None:
    home = made(tmp_path / "home", None)
    (home / "config.json").write_bytes(b'{"format": 1, "networ')
    with pytest.raises(IndexDamaged, match="'anthill recover --network"):
        Store.open(home)
    report = Store.recover(home)  # its own pads are where they always are
    assert (home / "config.json.kept-1").read_bytes() == b'{"format": 1, "networ'
    assert str(home / "config.json.kept-1") in report.kept
    assert read_config(home).network == "dir:pads"
    assert_works(home)


def test_a_home_that_lost_its_configuration_keeps_its_sound_index(tmp_path: Path) -> None:
    home = made(tmp_path / "home", None)
    (home / "config.json").unlink()
    index = (home / "index.json").read_bytes()
    report = Store.recover(home)
    assert report.kept == ()
    assert (home / "index.json").read_bytes() == index
    with Store.open(home) as store:
        assert all(block.fingerprint != bytes(16) for block in store._session.index().values["a"].blocks())
    assert_works(home)


def test_a_home_without_a_store_is_told_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="recover --network URL --key-file FILE") as caught:
        Store.recover(tmp_path / "nothing")
    assert caught.value.exit_code == 78
    assert not (tmp_path / "nothing").exists()


def test_a_store_that_is_there_is_never_turned_into_another(url: str, tmp_path: Path) -> None:
    home, other = made(tmp_path / "home", None), made(tmp_path / "other", url)
    before = {path: path.read_bytes() for path in home.iterdir() if path.is_file()}
    different: list[dict[str, Any]] = [{"network": url}, {"key_file": other / "key"}, {"slot": 2}]
    for options in different:
        with pytest.raises(NoRoom, match="another --home") as caught:
            Store.recover(home, **options)
        assert caught.value.exit_code == 73
    assert {path: path.read_bytes() for path in home.iterdir() if path.is_file()} == before
    same = Store.recover(home, network=f"dir://{home / 'pads'}", key_file=home / "key")
    assert not same.changed


def test_the_wrong_key_slot_or_network_make_nothing(url: str, tmp_path: Path) -> None:
    home = made(tmp_path / "home", url)
    other = made(tmp_path / "other", None)
    for key, slot, error in ((other / "key", 0, "no pad of this key"), (home / "key", 1, "in slot 1")):
        with pytest.raises(ConfigurationError, match=error):
            Store.recover(tmp_path / "new", network=url, key_file=key, slot=slot)
    with pytest.raises(AnthillError):
        Store.recover(tmp_path / "new", network=url, key_file=tmp_path / "none")
    with pytest.raises(AnthillError):
        Store.recover(tmp_path / "new", network=url, key_file=home / "key", slot=-1)
    with pytest.raises(NetworkNotFound):
        Store.recover(tmp_path / "new", network=f"dir://{tmp_path}/none", key_file=home / "key")
    assert not (tmp_path / "new").exists()


def test_a_wrapped_key_needs_its_passphrase(url: str, tmp_path: Path) -> None:
    with Store.create(tmp_path / "old", network=url, pad_size=PAD, passphrase="right") as store:
        store["k"] = b"v"
    with pytest.raises(WrongPassphrase):
        Store.recover(tmp_path / "new", network=url, key_file=tmp_path / "old" / "key", passphrase="wrong")
    Store.recover(tmp_path / "new", network=url, key_file=tmp_path / "old" / "key", passphrase="right")
    with Store.open(tmp_path / "new", passphrase="right") as store:
        assert store["k"] == b"v"


def test_settings_given_are_kept(tmp_path: Path) -> None:
    old = made(tmp_path / "old", None)
    Store.recover(tmp_path / "new", network=f"dir://{old / 'pads'}", key_file=old / "key", settings={"attempts": 9})
    assert read_config(tmp_path / "new").settings == {"attempts": 9}


def test_killed_before_the_configuration_it_is_finished_by_running_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = made(tmp_path / "old", None)
    url, key = f"dir://{old / 'pads'}", old / "key"

    def killed(home: Path, config: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("anthill_sync.recovery_home.write_config", killed)
        with pytest.raises(KeyboardInterrupt):
            Store.recover(tmp_path / "new", network=url, key_file=key)
    with pytest.raises(ConfigurationError):
        Store.open(tmp_path / "new")
    Store.recover(tmp_path / "new", network=url, key_file=key)
    assert_works(tmp_path / "new")


def test_no_home_is_made_where_flock_excludes_nobody(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = made(tmp_path / "old", url)
    monkeypatch.setattr(fcntl, "flock", lambda fd, operation: None)
    with pytest.raises(ConfigurationError, match="flock does not work"):
        Store.recover(tmp_path / "new", network=url, key_file=old / "key")
    assert not (tmp_path / "new" / "config.json").exists()
