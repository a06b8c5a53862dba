"""``put --dry-run`` says what the put would do, and does none of it."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from anthill_sync import Store
from anthill_sync.errors import InvalidArgument, KeyExists, PadLimitExceeded
from anthill_sync.lock import FileLock

from .cli_tools import LAUNCHER, Shell, environment, make_shell


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return make_shell(tmp_path / "home")


def state(folder: Path) -> dict[Path, tuple[int, bytes]]:
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}


def test_a_dry_run_names_what_the_put_then_stores_and_reserves(shell: Shell, tmp_path: Path) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    for number in range(6):
        tree = tmp_path / f"tree{number}"
        tree.mkdir()
        for name in range(chance.randrange(1, 9)):
            (tree / f"{name}.{chance.choice('oc')}").write_bytes(os.urandom(chance.choice([0, 10, 5000, 16000, 60_000])))
        words = ("put", f"t{number}", tree, "-r", "--exclude", "*.o", "--json")
        said = shell.ok(*words, "--dry-run").json
        done = shell.ok(*words).json
        assert {(v["key"], v["size"]) for v in said["values"]} == {(v["key"], v["size"]) for v in done["values"]}
        assert (said["pads_needed"], said["at_most"]) == (max((v["pads_reserved"] for v in done["values"]), default=0), False)
        again = shell.ok(*words, "-n").json
        assert (again["values"], again["unchanged"], again["pads_needed"]) == ([], len(done["values"]), 0)


def test_a_dry_run_changes_nothing(shell: Shell, tmp_path: Path) -> None:
    shell.ok("put", "k", "-", stdin=b"old")
    (tmp_path / "file").write_bytes(os.urandom(100_000))
    before = state(shell.home)
    shell.ok("put", "-n", "k", tmp_path / "file")
    shell.ok("put", "-n", "tree", tmp_path, "-r")
    assert shell("put", "-n", "k", tmp_path / "file", "--if-absent").code == 3
    assert state(shell.home) == before


def test_a_dry_run_waits_for_nobody(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"1")
    other = FileLock(shell.home / "lock")
    other.acquire(0)
    shell.ok("put", "-n", "k", tmp_path / "file", "--lock-wait", "0")
    assert shell("put", "k", tmp_path / "file", "--lock-wait", "0").code == 75
    other.release()


def test_a_dry_run_for_people_lists_sizes_keys_and_what_it_takes(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(40_000))
    assert shell.ok("put", "-n", "k", tmp_path / "file").out == (
        "40000  k\n"
        "would store 1 value of 39.1 KiB, 0 unchanged\n"
        "3 pads (48.0 KiB) to reserve for 39.1 KiB of data; 0 of 0 pads and 0 B are free\n"
    )


def test_a_stream_is_not_read_for_a_dry_run(shell: Shell) -> None:
    result = shell.ok("put", "-n", "k", "-", "--json", stdin=b"never read")
    assert result.json["values"] == [{"key": "k", "size": None}]
    assert (result.json["at_most"], result.json["data_size"]) == (True, None)
    assert "?  k" in shell.ok("put", "-n", "k", "-").out


def test_a_command_is_not_run_for_a_dry_run(shell: Shell, tmp_path: Path) -> None:
    result = shell.ok("put", "-n", "k", "--json", "--from-command", "--", "touch", tmp_path / "started")
    assert (result.json["values"], result.json["at_most"]) == ([{"key": "k", "size": None}], True)
    assert not (tmp_path / "started").exists()


def test_a_dry_run_ends_as_the_put_would(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "good").write_bytes(bytes(40_000))
    with open(os.fsencode(tmp_path / "tree") + b"/\xff", "wb"):
        pass
    for words, code in (
        (("t", tmp_path / "tree", "-r"), 4),
        (("t", tmp_path / "tree", "-r", "--exclude", "good", "--exclude", "[!a-z]"), 0),
        (("t", tmp_path / "tree"), 64),
        (("t", tmp_path / "nowhere"), 66),
        (("a//b", tmp_path / "tree" / "good"), 64),
        (("u", tmp_path / "tree" / "good", "--max-pads", "0"), 73),
        (("t", tmp_path / "tree" / "good", "--exclude", "x"), 64),
        (("t", tmp_path / "tree", "-r", "--exclude-from", tmp_path / "nowhere"), 66),
    ):
        assert (shell("put", *words, "--dry-run").code, shell("put", *words).code) == (code, code), words


def test_a_dry_run_asks_nothing_where_the_network_charges(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"1")
    result = shell.run("put", "-n", "k", tmp_path / "file", program=LAUNCHER, env=environment(PAID="1"))
    assert (result.code, result.err) == (0, "")


def test_a_dry_run_is_told_to_nobody(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"1")
    shell.ok("put", "-n", "k", tmp_path / "file")
    assert not (shell.home / "last-run.json").exists()
    assert shell("put", "-n", "k", tmp_path / "file", "--metrics-file", tmp_path / "m.prom").code == 64


# -- in Python


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "home", pad_size=16384)


def test_an_estimate_of_an_update_is_an_upper_bound(store: Store) -> None:
    store.put("k", b"x" * 100_000)
    for value in (b"x" * 100_000, os.urandom(100_000)):
        question, moved = store.estimate({"k": 100_000}), store.put("k", value).transfer
        assert moved is not None
        assert question.at_most
        assert question.needed >= moved.pads_reserved


def test_an_estimate_leaves_the_memory_map_as_it_was(store: Store) -> None:
    store.put("k", b"1")
    before = store.usage()
    store.estimate({"a": 10, "b": 100_000, "c": None})
    assert store.usage() == before
    assert store.check().problems == ()
    store.put("a", b"x" * 10)
    assert store.check().problems == ()


def test_an_estimate_raises_what_the_put_would(store: Store) -> None:
    store.put("k", b"1")
    with pytest.raises(KeyExists):
        store.estimate({"k": 1}, if_absent=True)
    with pytest.raises(PadLimitExceeded):
        store.estimate({"new": 100_000}, max_pads=3)
    with pytest.raises(InvalidArgument):
        store.estimate({"/": 1})
