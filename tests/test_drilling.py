"""``drill``: the loss of the home rehearsed; it finds what a recovery would lack, and changes nothing."""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from anthill_sync import Store, drilling
from anthill_sync.errors import InvalidArgument
from anthill_sync.lock import FileLock
from anthill_sync.recovery_home import make_from_pads
from anthill_sync.reports import RecoveryReport

from .cli_tools import Shell, make_shell, secret_file
from .support.servers import serve

PAD = 16384


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.create(tmp_path / "home", pad_size=PAD) as store:
        yield store


def fill(store: Store, count: int = 12) -> None:
    store.put_many([(f"k{number}", os.urandom(number * 5000)) for number in range(count)])


def files(folder: Path) -> dict[Path, tuple[int, bytes]]:
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}


def pad_file(store: Store, pad: int) -> Path:
    address = store._session.pads.name(pad).address
    (path,) = (path for path in (store.home / "pads").rglob("*") if path.is_file() and address.endswith(path.name))
    return path


def found(store: Store) -> set[tuple[str, str | None]]:
    return {(problem.kind, problem.key) for problem in store.drill(values=100).problems}


def test_a_whole_store_passes_and_nothing_is_changed(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(store)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    before = files(store.home)
    report = store.drill(values=5, seed=7)
    assert (report.problems, report.compared, len(report.opened)) == ((), 12, 5)
    assert report.bytes_read == sum(store.stat(key).size for key in report.opened)
    assert store.drill(values=5, seed=7).opened == report.opened
    assert files(store.home) == before
    assert list((tmp_path / "tmp").iterdir()) == []


def test_random_histories_pass(store: Store) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    for step in range(40):
        key = f"k{chance.randrange(8)}"
        act = chance.random()
        if key in store and act < 0.25:
            del store[key]
        elif key in store and act < 0.4:
            store.rename(key, f"k{chance.randrange(8)}x", force=True)
        else:
            store[key] = chance.randbytes(chance.choice([0, 100, 9000, 40_000]))
        if step % 10 == 9:
            report = store.drill(values=3)
            assert (report.problems, report.compared) == ((), len(store))


def test_an_empty_store_passes(store: Store) -> None:
    assert store.drill().compared == 0


def test_a_lost_pad_is_a_difference_for_every_value_on_it(store: Store) -> None:
    fill(store)
    pad = (store.stat("k7").blocks or ())[0].pad
    pad_file(store, pad).unlink()
    lost = {("value", key) for key in store if any(block.pad == pad for block in store.stat(key).blocks or ())}
    assert ("value", "k7") in lost
    assert lost <= found(store)


def test_a_damaged_block_is_found_by_opening_it(store: Store) -> None:
    fill(store)
    block = (store.stat("k7").blocks or ())[0]
    path = pad_file(store, block.pad)
    data = bytearray(path.read_bytes())
    data[block.offset + 500] ^= 1
    path.write_bytes(data)
    assert ("value", "k7") in found(store)


def test_a_network_without_any_pad_is_a_difference(store: Store) -> None:
    fill(store)
    for path in (store.home / "pads").rglob("*"):
        if path.is_file():
            path.unlink()
    report = store.drill()
    assert [problem.kind for problem in report.problems] == ["drill"]


def test_an_older_state_of_the_network_is_a_difference(store: Store) -> None:
    store["k"] = b"old"
    before = files(store.home / "pads")
    store["k"] = b"new value"
    for path, (_, data) in before.items():
        path.write_bytes(data)
    assert ("value", "k") in found(store)


def test_a_value_that_the_live_index_does_not_have_is_a_difference(store: Store) -> None:
    fill(store, 3)
    before = files(store.home / "pads")
    del store["k1"]
    for path, (_, data) in before.items():
        path.write_bytes(data)
    assert ("value", "k1") in found(store)


def test_what_others_change_meanwhile_is_not_compared(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(store)
    real = make_from_pads

    def meanwhile(*arguments: object) -> RecoveryReport:
        report = real(*arguments)  # type: ignore[arg-type]
        with Store.open(store.home) as other:
            other["k3"] = os.urandom(20_000)
            del other["k4"]
            other["new"] = b"1"
            other.trim()
        return report

    monkeypatch.setattr(drilling, "make_from_pads", meanwhile)
    report = store.drill(values=100)
    assert (report.problems, report.compared) == ((), 10)


def test_a_drill_waits_for_nobody(store: Store) -> None:
    fill(store, 3)
    other = FileLock(store.home / "lock")
    other.acquire(0)
    assert store.drill().problems == ()
    other.release()


def test_a_drill_on_a_pad_server_sends_nothing(tmp_path: Path) -> None:
    with serve(tmp_path / "data") as server, Store.create(tmp_path / "home", network=server.url, pad_size=PAD) as store:
        fill(store, 5)
        before = files(tmp_path / "data")
        report = store.drill()
        assert (report.problems, report.compared) == ((), 5)
        assert files(tmp_path / "data") == before


def test_fewer_than_no_values_are_refused(store: Store) -> None:
    with pytest.raises(InvalidArgument):
        store.drill(values=-1)


# -- the command


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    shell = make_shell(tmp_path / "home")
    for number in range(4):
        shell.ok("put", f"k{number}", "-", stdin=os.urandom(20_000))
    return shell


def test_the_command_is_silent_when_all_is_well_and_65_when_not(shell: Shell) -> None:
    assert shell.ok("drill").out == ""
    assert shell.ok("drill", "--json", "--values", "2").json["compared"] == 4
    with Store.open(shell.home) as store:
        pad_file(store, (store.stat("k2").blocks or ())[0].pad).unlink()
    result = shell("drill")
    assert result.code == 65
    assert "value, key k2: " in result.out


def test_a_wrapped_key_is_enough(shell: Shell, tmp_path: Path) -> None:
    words = secret_file(tmp_path / "words", "secret\n")
    shell.ok("key", "passphrase", "--new-passphrase-file", words)
    assert shell("drill").code == 78
    assert shell.ok("drill", "--json", "--passphrase-file", words).json["compared"] == 4
