"""Interrupted puts, usage and check, silence, JSON lines, locks and questions, on a real store."""

from __future__ import annotations

import json
import os
import re
import stat
from pathlib import Path
from typing import Any

import pytest

from .cli_tools import LAUNCHER, PROGRAM, Gate, Shell, environment, make_shell, spawn

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
    answer = shell.ok("check", "--read-data", "--json").json
    assert (answer["format"], answer["problems"], answer["blocks_read"], answer["seed"]) == (1, [], 3, None)
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


# -- silence


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
