"""The commands ``repair`` and ``recover``: words, JSON and exit codes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from anthill_sync import Store

from .cli_tools import Result, Shell, make_shell, run

KIB = 1024
FIELDS = {
    *("format", "keys", "changed", "damage", "lost", "older", "moved", "abandoned"),
    *("damaged_pads", "emptied_pads", "rolled_back_pads", "pads", "kept"),
}


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """A store with a value of three chunks and a small one."""
    made = make_shell(tmp_path / "home")
    (tmp_path / "large").write_bytes(os.urandom(40 * KIB))
    made.ok("put", "large", tmp_path / "large")
    made.ok("put", "small", "-", stdin=b"1")
    return made


def damage_index(home: Path) -> None:
    """One letter of the snapshot's sum."""
    path = home / "index.json"
    data = bytearray(path.read_bytes())
    data[-10] ^= 1
    path.write_bytes(data)


def pad_file(home: Path, key: str, chunk: int) -> Path:
    with Store.open(home) as store:
        pad = (store.stat(key).blocks or ())[chunk].pad
        address = store._session.pads.name(pad).address
    return home / "pads" / address[:2] / address


def flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


def assert_silent(result: Result) -> None:
    assert (result.code, result.out, result.err) == (0, "", ""), result


def test_on_a_sound_store_both_do_nothing_and_say_nothing(shell: Shell) -> None:
    index = (shell.home / "index.json").read_bytes()
    for command in ("recover", "repair"):
        assert_silent(shell.run(command))
        assert "nothing" in shell.run("-v", command).err
        answer = shell.ok(command, "--json").json
        assert set(answer) == FIELDS
        assert (answer["keys"], answer["changed"], answer["kept"]) == (["large", "small"], False, [])
    assert (shell.home / "index.json").read_bytes() == index


def test_recover_mends_a_damaged_index_in_silence(shell: Shell, tmp_path: Path) -> None:
    damage_index(shell.home)
    result = shell("get", "large")
    assert result.code == 65
    assert "'anthill recover' rebuilds the index" in result.err
    assert shell("check").code == 65
    assert_silent(shell.run("recover"))
    assert shell.ok("get", "large").data == (tmp_path / "large").read_bytes()
    assert (shell.home / "index.json.kept-1").exists()
    shell.ok("check", "--read-data")


def test_recover_tells_what_it_did_in_json(shell: Shell) -> None:
    damage_index(shell.home)
    answer = shell.ok("recover", "--json").json
    assert set(answer) == FIELDS
    assert (answer["keys"], answer["changed"], answer["lost"]) == (["large", "small"], True, [])
    assert answer["kept"] == [str(shell.home / "index.json.kept-1"), str(shell.home / "index.journal.kept-1")]
    assert "index.json" in answer["damage"]


def test_recover_ends_with_4_and_names_what_is_not_whole(shell: Shell) -> None:
    flip(pad_file(shell.home, "large", 1), -1)
    for name in ("index.json", "index.journal"):
        (shell.home / name).unlink()
    result = shell.run("recover")
    assert (result.code, result.out) == (4, "")
    assert "key large" in result.err
    assert "anthill repair" in result.err
    assert result.err.splitlines()[-1].startswith("anthill: not everything is whole")
    again = shell.run("recover", "--json")
    assert (again.code, again.json["lost"], again.error["code"]) == (4, ["large"], 4)
    assert shell.ok("get", "small").data == b"1"
    assert shell.run("repair").code == 4
    assert_silent(shell.run("repair"))


def test_repair_moves_what_can_be_read_in_silence_but_for_what_was_wrong(shell: Shell, tmp_path: Path) -> None:
    flip(pad_file(shell.home, "small", 0), -1)
    result = shell("put", "other", "-", stdin=b"2")
    assert result.code == 65
    result = shell.run("repair", "--json")
    assert (result.code, result.json["moved"], result.json["lost"]) == (0, ["large", "small"], [])
    assert '"note"' in result.err
    assert "pad" in result.err
    assert shell.ok("get", "large").data == (tmp_path / "large").read_bytes()
    shell.ok("put", "other", "-", stdin=b"2")
    shell.ok("check", "--read-data")


def test_repair_lists_what_it_drops_and_ends_with_4(shell: Shell) -> None:
    flip(pad_file(shell.home, "large", 0), 300)
    assert shell("check", "--read-data").code == 65
    result = shell.run("repair")
    assert result.code == 4
    lines = result.err.splitlines()
    assert lines[0].startswith("block, pad ")
    assert lines[1] == "lost, key large: no version is whole; the key is dropped"
    assert shell.ok("ls").out == "small\n"
    shell.ok("check", "--read-data")
    assert_silent(shell.run("repair"))


def test_a_new_home_is_made_from_key_and_url(shell: Shell, tmp_path: Path) -> None:
    new = tmp_path / "new"
    pads, key = shell.home / "pads", tmp_path / "key"
    shutil.copy(shell.home / "key", key)
    options = ("--network", f"dir://{pads}", "--key-file", key)
    answer = run("--home", new, "recover", *options, "--set", "attempts=3", "--json")
    assert (answer.code, answer.json["keys"], answer.err) == (0, ["large", "small"], "")
    made = Shell(new)
    assert made.ok("get", "large").data == (tmp_path / "large").read_bytes()
    assert "attempts = 3" in made.ok("config").out
    assert_silent(made.run("recover", *options))


def test_options_that_cannot_be_have_the_right_codes(shell: Shell, tmp_path: Path) -> None:
    nothing = run("--home", tmp_path / "nothing", "recover")
    assert nothing.code == 78
    assert f"anthill --home {tmp_path / 'nothing'} recover --network URL --key-file FILE" in nothing.err
    assert run("--home", tmp_path / "nothing", "repair").code == 78
    other = ("--network", "dir:///somewhere/else")
    assert shell("recover", *other).code == 73
    assert shell("recover", "--slot", "-1").code == 64
    assert run("--home", tmp_path / "nothing", "recover", "--network", "memory://x").code == 64
    assert run("--home", tmp_path / "nothing", "recover", "--network", "nonsense://x").code == 78
    gone = run("--home", tmp_path / "nothing", "recover", *other, "--key-file", shell.home / "key")
    assert gone.code == 69
    wrong = run("--home", tmp_path / "nothing", "recover", "--network", f"dir://{shell.home / 'pads'}", "--slot", "1",
                "--key-file", shell.home / "key")  # fmt: skip
    assert wrong.code == 78
    assert "no pad of this key in slot 1" in wrong.err
    assert not (tmp_path / "nothing").exists()


def test_recover_of_a_damaged_configuration(shell: Shell) -> None:
    (shell.home / "config.json").write_bytes(b"{")
    result = shell("ls")
    assert result.code == 65
    assert "anthill recover" in result.err
    assert_silent(shell.run("recover"))
    assert shell.ok("ls").out == "large\nsmall\n"
    assert (shell.home / "config.json.kept-1").read_bytes() == b"{"
