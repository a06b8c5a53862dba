"""The commands, one by one, on a real store."""

from __future__ import annotations

import json
import os
import re
import shlex
import stat
from pathlib import Path
from typing import Any

import pytest

from .cli_tools import LAUNCHER, PROGRAM, Gate, Shell, call, environment, make_shell, run, spawn

KIB = 1024
ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return make_shell(tmp_path / "home")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Three chunks."""
    path = tmp_path / "source"
    path.write_bytes(os.urandom(40 * KIB))
    return path


def interrupt(shell: Shell, tmp_path: Path, key: str, source: Path) -> None:
    """A put of ``key`` that the network lets down after one pad."""
    env = environment(FAIL="1", GATE_FREE="1", ANTHILL_ATTEMPTS="1")
    assert shell.run("put", key, source, program=LAUNCHER, env=env).code == 69


# -- init and config


def test_init_tells_the_key_the_danger_and_the_line_for_cron(tmp_path: Path) -> None:
    home = tmp_path / "a home"
    result = call("init", "--home", home)
    assert (result.code, result.err) == (0, "")
    assert f"key: {home / 'key'}\n" in result.out
    assert "loses everything" in result.out
    cron = next(line for line in result.out.splitlines() if line.startswith("in cron: "))
    assert shlex.split(cron)[2:5] == ["anthill", "--home", str(home)]
    assert stat.S_IMODE((home / "key").stat().st_mode) == 0o600


def test_init_takes_network_pad_size_key_slot_and_settings(tmp_path: Path) -> None:
    (tmp_path / "network").mkdir()
    options = ("--network", f"dir://{tmp_path}/network", "--key-file", tmp_path / "key", "--slot", "3")
    shell = make_shell(tmp_path / "home", *options, "--set", "upload_threads=2", "--set", "objects.region=here")
    assert shell.ok("config", "upload_threads").out == "2\n"
    assert shell.ok("config", "objects.region").out == "here\n"
    assert shell.ok("config", "pad_size").out == "16384\n"
    assert shell.ok("config", "slot").out == "3\n"
    assert (tmp_path / "key").exists()
    shell.ok("put", "a", "-", stdin=b"value")
    assert any((tmp_path / "network").rglob("*"))


def test_init_over_a_store_changes_nothing(shell: Shell) -> None:
    key = (shell.home / "key").read_bytes()
    assert shell("init").code == 73
    assert (shell.home / "key").read_bytes() == key


def test_a_memory_network_is_for_python_only(tmp_path: Path) -> None:
    assert call("init", "--home", tmp_path / "home", "--network", "memory://x").code == 78
    assert not (tmp_path / "home").exists()


def test_config_tells_every_setting_its_value_and_where_it_comes_from(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    shell.ok("config", "attempts", "7")
    monkeypatch.setenv("ANTHILL_READ_TIMEOUT", "5")
    lines = shell.ok("config").out.splitlines()
    assert "attempts = 7  (config.json)" in lines
    assert "read_timeout = 5  (ANTHILL_READ_TIMEOUT)" in lines
    assert "upload_threads = 20  (default)" in lines
    assert "slot = 0  (fixed by init)" in lines


def test_config_refuses_what_is_unknown_or_senseless(shell: Shell) -> None:
    assert shell("config", "no_such_setting").code == 78
    assert shell("config", "no_such_setting", "1").code == 78
    assert shell("config", "attempts", "none").code == 78
    assert shell.ok("config", "attempts").out == "5\n"


def test_config_does_not_show_secrets(shell: Shell) -> None:
    shell.ok("config", "objects.aws_secret_access_key", "hunter2")
    shell.ok("config", "proxy", "http://me:hunter2@proxy:3128")
    assert "hunter2" not in shell.ok("config").out
    assert "hunter2" not in shell.ok("config", "proxy").out
    assert "objects.aws_secret_access_key = (set, not shown)" in shell.ok("config").out


# -- options before and after


def test_common_options_stand_before_or_after_the_command(shell: Shell, tmp_path: Path) -> None:
    shell.ok("put", "key", "-", stdin=b"v")
    assert call("--home", shell.home, "ls").out == "key\n"
    assert call("ls", "--home", shell.home).out == "key\n"
    assert call("--home", tmp_path / "wrong", "ls", "--home", shell.home).out == "key\n"


def test_home_comes_from_the_environment(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHILL_HOME", str(shell.home))
    assert call("ls").code == 0


def test_no_store_names_the_path_and_the_way_to_make_one(tmp_path: Path) -> None:
    result = call("--home", tmp_path / "nothing", "ls")
    assert result.code == 78
    assert str(tmp_path / "nothing") in result.err
    assert "init" in result.err


def test_the_log_file_holds_what_happened_and_no_secret(shell: Shell, tmp_path: Path) -> None:
    log = tmp_path / "log"
    shell.ok("put", "secret-name", "-", "--log-file", log, stdin=b"secret-value")
    shell.ok("--log-file", log, "ls")
    assert log.exists()
    assert b"secret" not in log.read_bytes()


def test_a_log_file_that_cannot_be_written_is_an_error(shell: Shell, tmp_path: Path) -> None:
    assert shell("ls", "--log-file", tmp_path / "no" / "log").code == 66


# -- passphrases


def test_a_wrapped_key_opens_with_the_file_the_setting_and_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pass").write_text("correct horse\nsecond line\n")
    (tmp_path / "wrong").write_text("battery staple\n")
    shell = make_shell(tmp_path / "home", "--passphrase-file", tmp_path / "pass")
    assert shell("ls").code == 78
    assert shell("ls", "--passphrase-file", tmp_path / "wrong").code == 77
    shell.ok("--passphrase-file", tmp_path / "pass", "ls")
    monkeypatch.setenv("ANTHILL_PASSPHRASE_FILE", str(tmp_path / "pass"))
    shell.ok("ls")
    monkeypatch.delenv("ANTHILL_PASSPHRASE_FILE")
    shell.ok("config", "passphrase_file", tmp_path / "pass")
    shell.ok("ls")
    assert b"correct horse" not in (tmp_path / "home" / "config.json").read_bytes()


# -- put and get


def test_a_file_and_stdin_come_back_as_they_were(shell: Shell, source: Path, tmp_path: Path) -> None:
    shell.ok("put", "file", source)
    shell.ok("put", "piped", "-", stdin=b"\0binary\xff")
    assert shell.ok("get", "file").data == source.read_bytes()
    assert shell.ok("get", "piped", "-").data == b"\0binary\xff"
    shell.ok("get", "file", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == source.read_bytes()


def test_a_part_of_a_value_can_be_read(shell: Shell, source: Path) -> None:
    shell.ok("put", "k", source)
    assert shell.ok("get", "k", "--offset", "15KiB", "--length", "100").data == source.read_bytes()[15 * KIB :][:100]
    assert shell.ok("get", "k", "--offset", "40000").data == source.read_bytes()[40000:]


def test_put_json_tells_what_was_moved(shell: Shell, source: Path) -> None:
    answer = shell.ok("put", "k", source, "--json").json
    assert set(answer) == {"format", "key", "size", "version", "pads_written", "pads_reserved", "bytes_sent", "seconds"}
    assert (answer["format"], answer["key"], answer["size"]) == (1, "k", 40 * KIB)
    assert answer["pads_written"] >= 3
    assert answer["pads_reserved"] >= 3
    assert answer["bytes_sent"] >= 40 * KIB


def test_put_if_absent_keeps_what_is_there(shell: Shell) -> None:
    shell.ok("put", "k", "-", "--if-absent", stdin=b"old")
    result = shell("put", "k", "-", "--if-absent", "--json", stdin=b"new")
    assert result.code == 3
    assert (result.error["code"], result.error["key"]) == (3, "k")
    assert shell.ok("get", "k").data == b"old"


def test_put_of_a_directory_needs_r(shell: Shell, tmp_path: Path) -> None:
    result = shell("put", "k", tmp_path)
    assert result.code == 64
    assert "-r" in result.err


def test_max_pads_is_a_hard_cap(shell: Shell, source: Path) -> None:
    assert shell("put", "k", source, "--max-pads", "1").code == 73
    assert shell.ok("usage", "--json").json["pads"]["total"] == 0


def test_get_does_not_overwrite_without_force(shell: Shell, tmp_path: Path) -> None:
    shell.ok("put", "k", "-", stdin=b"new")
    there = tmp_path / "there"
    there.write_bytes(b"old")
    assert shell("get", "k", there).code == 73
    assert there.read_bytes() == b"old"
    shell.ok("get", "k", there, "--force")
    assert there.read_bytes() == b"new"


def test_get_into_a_device_writes_to_it_and_does_not_replace_it(shell: Shell) -> None:
    shell.ok("put", "k", "-", stdin=b"v")
    shell.ok("get", "k", "/dev/null", "--force")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_get_onto_a_directory_is_refused(shell: Shell, tmp_path: Path) -> None:
    shell.ok("put", "k", "-", stdin=b"v")
    assert shell("get", "k", tmp_path, "--force").code == 73


def test_get_json_needs_a_file(shell: Shell, tmp_path: Path) -> None:
    version = shell.ok("put", "k", "-", "--json", stdin=b"v").json["version"]
    answer = shell.ok("get", "k", tmp_path / "out", "--json").json
    assert answer == {"format": 1, "key": "k", "size": 1, "version": version, "seconds": answer["seconds"]}
    assert shell("get", "k", "--json").code == 64


def test_a_failed_get_leaves_no_file(shell: Shell, tmp_path: Path) -> None:
    assert shell("get", "nothing", tmp_path / "out").code == 66
    assert sorted(p.name for p in tmp_path.iterdir()) == ["home"]


# -- ls, stat, mv, rm


def test_ls_is_in_byte_order_and_below_a_prefix(shell: Shell) -> None:
    for key in ("b", "a/z", "a/é", "a", "ab", "a/Z"):
        shell.ok("put", key, "-", stdin=b"v")
    assert shell.ok("ls").out.splitlines() == ["a", "a/Z", "a/z", "a/é", "ab", "b"]
    assert shell.ok("ls", "a").out.splitlines() == ["a", "a/Z", "a/z", "a/é"]
    assert shell.ok("ls", "a/").out == shell.ok("ls", "a").out
    assert shell.ok("ls", "nothing").out == ""


def test_ls_json_and_long_name_size_version_time_and_pads(shell: Shell, source: Path) -> None:
    version = shell.ok("put", "k", source, "--json").json["version"]
    (entry,) = shell.ok("ls", "--json").json["keys"]
    assert entry == {"key": "k", "size": 40 * KIB, "version": version, "modified": entry["modified"], "pads": entry["pads"]}
    assert ISO.fullmatch(entry["modified"])
    assert shell.ok("ls", "-l").out.split() == [str(40 * KIB), str(version), entry["modified"], str(entry["pads"]), "k"]


def test_stat_tells_blocks_and_attributes(shell: Shell, source: Path) -> None:
    shell.ok("put", "k", source)
    answer = shell.ok("stat", "k", "--json").json
    assert set(answer) == {"format", "key", "size", "version", "modified", "pads", "attributes", "blocks"}
    assert [block["chunk"] for block in answer["blocks"]] == [0, 1, 2]
    assert all(set(block) == {"chunk", "pad", "offset", "length"} for block in answer["blocks"])
    assert "size: 40960\n" in shell.ok("stat", "k").out


def test_mv_renames_and_needs_force_over_a_value(shell: Shell) -> None:
    shell.ok("put", "a", "-", stdin=b"1")
    shell.ok("put", "b", "-", stdin=b"2")
    assert shell("mv", "a", "b").code == 3
    answer = shell.ok("mv", "a", "b", "--force", "--json").json
    assert answer == {"format": 1, "keys": ["b"], "old": "a", "new": "b", "version": answer["version"]}
    assert shell.ok("ls").out == "b\n"
    assert shell.ok("get", "b").data == b"1"


def test_rm_is_all_or_nothing(shell: Shell) -> None:
    for key in ("a", "b"):
        shell.ok("put", key, "-", stdin=b"v")
    assert shell("rm", "a", "missing", "b").code == 66
    assert shell.ok("ls").out == "a\nb\n"
    assert shell.ok("rm", "a", "missing", "b", "--ignore-missing", "--json").json == {"format": 1, "keys": ["a", "b"]}
    assert shell.ok("ls").out == ""


def test_rm_r_removes_the_key_and_all_below_it(shell: Shell) -> None:
    for key in ("a", "a/x", "a/y/z", "ab", "c/1"):
        shell.ok("put", key, "-", stdin=b"v")
    assert shell("rm", "-r", "a", "missing").code == 66
    assert shell.ok("rm", "-r", "a", "c", "--json").json == {"format": 1, "keys": ["a", "a/x", "a/y/z", "c/1"]}
    assert shell.ok("ls").out == "ab\n"


# -- interrupted puts


def test_an_interrupted_put_is_listed_and_resumed(shell: Shell, source: Path, tmp_path: Path) -> None:
    interrupt(shell, tmp_path, "k", source)
    (pending,) = shell.ok("ls", "--pending", "--json").json["pending"]
    assert pending == {"key": "k", "done": pending["done"], "total": 3, "source": str(source)}
    assert f"k  {source}" in shell.ok("ls", "--pending").out
    assert shell.ok("ls", "other", "--pending").out == ""
    assert shell.ok("resume", "--json").json == {"format": 1, "keys": ["k"], "left": []}
    assert shell.ok("get", "k").data == source.read_bytes()


def test_resume_names_what_it_cannot_finish_and_the_put_to_run(shell: Shell, source: Path, tmp_path: Path) -> None:
    interrupt(shell, tmp_path, "my key", source)
    source.unlink()
    result = shell("resume")
    assert result.code == 4
    assert f"anthill put 'my key' {source}" in result.err
    answer = shell("resume", "--json")
    assert answer.code == 4
    assert [left["key"] for left in answer.json["left"]] == ["my key"]
    assert answer.error["code"] == 4


def test_abandon_gives_the_put_up_and_frees_its_pads(shell: Shell, source: Path, tmp_path: Path) -> None:
    interrupt(shell, tmp_path, "k", source)
    assert shell.ok("abandon", "--json").json == {"format": 1, "keys": ["k"]}
    assert shell.ok("ls", "--pending").out == ""
    assert shell.ok("usage", "--json").json["pads"]["used"] == 0


# -- usage, reserve, trim, check


def test_usage_json_counts_pads_and_bytes(shell: Shell, source: Path) -> None:
    shell.ok("put", "k", source)
    answer = shell.ok("usage", "--json").json
    assert {"format", "pads", "bytes", "keys", "network", "slot"} <= set(answer)
    assert set(answer["pads"]) == {"total", "used", "free", "reserved"}
    assert set(answer["bytes"]) == {"stored", "live", "free", "gaps"}
    assert (answer["keys"], answer["slot"], answer["bytes"]["stored"]) == (1, 0, 40 * KIB)
    assert "keys: 1\n" in shell.ok("usage").out
    assert "memory map" not in shell.ok("usage").out


def test_reserve_and_trim_change_free_pads(shell: Shell, source: Path) -> None:
    assert shell.ok("reserve", "5", "--json").json == {"format": 1, "reserved": 5}
    assert shell.ok("usage", "--json").json["pads"]["free"] == 5
    shell.ok("put", "k", source)
    shell.ok("rm", "k")
    assert set(shell.ok("trim", "--json").json) == {"format", "emptied"}
    shell.ok("check")


def damage(home: Path, data_only: bool = True) -> None:
    """One byte of every block on the embedded network."""
    for path in (home / "pads").rglob("*"):
        if path.is_file() and path.stat().st_size > 2000:
            data = bytearray(path.read_bytes())
            data[500] ^= 1
            path.write_bytes(data)


def test_check_is_silent_when_all_is_well_and_65_when_not(shell: Shell, source: Path) -> None:
    shell.ok("put", "k", source)
    assert shell.ok("check", "--read-data", "--json").json == {"format": 1, "problems": [], "blocks_read": 3, "seed": None}
    assert shell.ok("check", "--sample", "100%", "--json").json["blocks_read"] == 3
    assert shell.ok("check").out == ""
    damage(shell.home)
    result = shell("check", "--read-data", "--json")
    assert result.code == 65
    assert set(result.json["problems"][0]) == {"kind", "pad", "key", "detail"}
    assert result.json["problems"][0]["key"] == "k"
    assert result.error["code"] == 65
    assert "key k" in shell("check", "--read-data").out


def test_a_sample_can_be_drawn_again(shell: Shell, source: Path) -> None:
    shell.ok("put", "k", source)
    seed = shell.ok("check", "--sample", "50", "--json").json["seed"]
    assert isinstance(seed, int)
    assert shell.ok("check", "--sample", "50", "--seed", seed, "--json").json["seed"] == seed


# -- speed and silence


def test_ls_of_ten_thousand_keys_takes_less_than_two_fifths_of_a_second(tmp_path: Path) -> None:
    import time

    from anthill_sync.store import Store

    with Store.create(tmp_path / "home") as store:
        store.put_many({f"some/key/{n:05}": b"value" for n in range(10_000)})
    times = []
    for _ in range(3):
        began = time.perf_counter()
        result = run("--home", tmp_path / "home", "ls")
        times.append(time.perf_counter() - began)
        assert len(result.out.splitlines()) == 10_000
    assert min(times) < 0.4


def test_without_a_terminal_success_is_silent_on_stderr(shell: Shell, source: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "file").write_bytes(b"x")
    os.mkfifo(tree / "fifo")
    env = {"PATH": "/usr/bin:/bin", "PYTHONPATH": environment()["PYTHONPATH"]}
    for arguments in (
        ("put", "k", source),
        ("put", "t", tree, "-r"),
        ("get", "k", tmp_path / "out"),
        ("get", "t", tmp_path / "outs", "-r"),
        ("ls", "-l"),
        ("stat", "k"),
        ("mv", "k", "k2"),
        ("reserve", "3"),
        ("usage",),
        ("resume",),
        ("abandon",),
        ("check", "--read-data"),
        ("rm", "k2"),
        ("trim",),
    ):
        result = shell.run(*arguments, env=env)
        assert (result.code, result.err) == (0, ""), arguments


def test_verbose_and_plain_speak_without_a_terminal(shell: Shell, source: Path) -> None:
    assert "stored k" in shell.run("-v", "put", "k", source).err
    assert shell.run("put", "k", "-", "--progress", "plain", stdin=b"other").err.startswith(("reserved", "uploaded"))


def test_with_json_stderr_holds_json_lines_only(shell: Shell, source: Path) -> None:
    result = shell.run("put", "k", source, "--json", "--progress", "json", "-vv")
    assert result.code == 0
    events = [json.loads(line) for line in result.err.splitlines()]
    names = [event["event"] for event in events if "event" in event]
    assert {"ReservingScratchpads", "ReservationProgress", "StartingUpload", "UploadProgress"} <= set(names)
    assert names[-1] == "StoreComplete"
    assert json.loads(result.out)["key"] == "k"


def test_json_and_bars_exclude_each_other(shell: Shell, source: Path) -> None:
    result = shell("put", "k", source, "--json", "--progress", "bars")
    assert (result.code, result.error["code"]) == (64, 64)
    assert shell.ok("ls").out == ""


def test_an_error_in_json_names_key_and_whether_it_can_be_resumed(shell: Shell, source: Path) -> None:
    env = environment(FAIL="1", GATE_FREE="1")
    result = shell.run("put", "k", source, "--json", program=LAUNCHER, env=env)
    assert (result.code, result.out) == (69, "")
    assert (result.error["code"], result.error["key"], result.error["resume"]) == (69, "k", True)
    assert set(result.error) == {"error", "code", "key", "pad", "resume"}


def test_a_bug_is_one_line_that_names_the_log(shell: Shell, tmp_path: Path) -> None:
    result = shell.run("usage", program=LAUNCHER, env=environment(BUG="1"))
    log = shell.home / "anthill.log"
    assert (result.code, len(result.err.splitlines())) == (70, 1)
    assert str(log) in result.err
    assert "ZeroDivisionError" in log.read_text()
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    result = shell.run("usage", "--log-file", tmp_path / "log", program=LAUNCHER, env=environment(BUG="1"))
    assert str(tmp_path / "log") in result.err
    assert "Traceback" in (tmp_path / "log").read_text()


# -- the lock


def test_lock_wait_waits_for_the_other_run(shell: Shell, source: Path, tmp_path: Path) -> None:
    gate = Gate(tmp_path / "gate")
    with spawn("--home", shell.home, "put", "first", source, program=LAUNCHER, env=gate.env) as first:
        gate.wait()
        refused = shell.run("put", "second", "-", "--lock-wait", "0", stdin=b"v")
        with spawn("--home", shell.home, "put", "third", source, program=PROGRAM) as third:  # no terminal: waits
            gate.open()
            assert (first.wait(30), third.wait(30)) == (0, 0)
    assert refused.code == 75
    assert str(first.pid) in refused.err
    assert shell.ok("ls").out == "first\nthird\n"


# -- questions


def test_a_question_with_nobody_to_ask_is_78_and_reserves_nothing(shell: Shell, source: Path) -> None:
    shell.ok("config", "confirm", "always")
    result = shell.run("put", "k", source)
    assert result.code == 78
    assert "--yes" in result.err
    assert shell.ok("usage", "--json").json["pads"]["total"] == 0
    shell.ok("put", "k", source, "--yes")


def paid(shell: Shell, *arguments: Any, **how: Any) -> Any:
    return shell.run(*arguments, program=LAUNCHER, env=environment(PAID="1"), **how)


@pytest.fixture
def paid_shell(tmp_path: Path) -> Shell:
    shell = Shell(tmp_path / "paid")
    assert paid(shell, "init", "--pad-size", "16KiB").code == 0
    return shell


def test_a_network_that_charges_needs_yes(paid_shell: Shell, source: Path) -> None:
    assert paid(paid_shell, "put", "k", source).code == 78
    assert paid(paid_shell, "put", "k", source, "-y").code == 0
    assert paid(paid_shell, "reserve", "3").code == 78
    assert paid(paid_shell, "reserve", "3", "--yes").code == 0


def test_a_stream_to_a_network_that_charges_needs_max_pads(paid_shell: Shell) -> None:
    data = os.urandom(40 * KIB)
    result = paid(paid_shell, "put", "k", "-", "--yes", stdin=data)
    assert result.code == 64
    assert "--max-pads" in result.err
    assert paid(paid_shell, "put", "k", "-", "--yes", "--max-pads", "9", stdin=data).code == 0


def test_a_network_that_charges_is_not_asked_about_with_confirm_never(paid_shell: Shell, source: Path) -> None:
    paid_shell.ok("config", "confirm", "never")
    assert paid(paid_shell, "put", "k", source).code == 0
