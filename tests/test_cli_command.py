"""``put --from-command``, and empty pipes: a value is what a producer says is whole, or it is not stored."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from .cli_tools import LAUNCHER, PATIENCE, Gate, Result, Shell, environment, make_shell, spawn, until

KIB = 1024
QUIET: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    made = make_shell(tmp_path / "home")
    made.ok("put", "k", "-", stdin=b"old")
    return made


def sh(script: str) -> tuple[str, ...]:
    return ("--from-command", "--", "sh", "-c", script)


def refused(shell: Shell, result: Result, *words: str) -> None:
    """The put ended with 66, said why, and the old value is there."""
    assert result.code == 66
    assert all(word in result.err for word in words), result.err
    assert shell.ok("get", "k").data == b"old"


# -- what a command writes is the value, once it has ended with 0


def test_what_a_command_writes_is_the_value(shell: Shell) -> None:
    code = "import sys; sys.stdout.buffer.write(bytes(range(256)) * 1000)"
    assert shell.run("put", "k", "--from-command", "--", sys.executable, "-c", code) == Result(0, b"", "")
    assert shell.ok("get", "k").data == bytes(range(256)) * 1000


def test_the_words_behind_the_dashes_are_the_commands_own(shell: Shell) -> None:
    shell.ok("put", "k", "--from-command", "--", "printf", "%s|", "-r", "--json", "--help", "a b", "--")
    assert shell.ok("get", "k").out == "-r|--json|--help|a b|--|"


def test_a_command_reads_nothing_from_us_and_has_no_terminal(shell: Shell) -> None:
    shell.ok("put", "k", *sh("cat; echo end; (: </dev/tty) 2>/dev/null || echo none"), stdin=b"ours")
    assert shell.ok("get", "k").out == "end\nnone\n"


def test_what_it_writes_after_closing_a_part_of_its_output_counts_until_the_end(shell: Shell) -> None:
    shell.ok("put", "k", *sh("printf one; sleep 0.3; (sleep 0.3; printf three) & printf two"))
    assert shell.ok("get", "k").out == "onetwothree"


@pytest.mark.parametrize("size", [1, 100 * KIB])
def test_a_command_that_fails_publishes_nothing_and_its_code_is_said(shell: Shell, size: int) -> None:
    refused(shell, shell("put", "k", *sh(f"head -c {size} /dev/zero; exit 7")), "sh ended with exit code 7")
    refused(shell, shell("put", "k", *sh(f"head -c {size} /dev/zero; kill -9 $$")), "sh was ended by SIGKILL")
    failed = shell("put", "k", "--json", *sh(f"head -c {size} /dev/zero; exit 9"))
    assert (failed.error["code"], failed.data) == (66, b"")
    assert "9" in failed.error["error"]


def test_a_command_that_closes_its_output_and_then_fails_publishes_nothing(shell: Shell) -> None:
    refused(shell, shell("put", "k", *sh("echo whole; exec >&-; sleep 0.6; exit 5")), "exit code 5")


def test_a_command_that_cannot_be_started_says_so(shell: Shell, tmp_path: Path) -> None:
    refused(shell, shell("put", "k", "--from-command", "--", "no-such-command"), "no-such-command", "No such file")
    (tmp_path / "file").write_text("")
    denied = shell("put", "k", "--from-command", "--", tmp_path / "file")
    assert (denied.code, str(tmp_path / "file") in denied.err) == (77, True)


def test_what_a_command_says_is_passed_on_line_by_line(shell: Shell) -> None:
    assert shell.run("put", "k", *sh("echo one >&2; echo value; printf 'two\\033[2J' >&2")).err == "one\ntwo\\x1b[2J\n"
    noted = shell.run("put", "k", "--json", *sh("echo words >&2; echo value; exit 3"))
    assert (noted.code, noted.err.splitlines()[0]) == (66, '{"note": "words"}')
    assert noted.error["code"] == 66


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("put", "k"), "SOURCE"),
        (("put", "k", "--from-command"), "COMMAND"),
        (("put", "k", "a", "b"), "'b'"),
        (("put", "-r", "k", "--from-command", "true"), "-r"),
    ],
)
def test_what_does_not_go_together_is_said(shell: Shell, arguments: tuple[str, ...], word: str) -> None:
    result = shell(*arguments)
    assert (result.code, word in result.err) == (64, True)


def test_a_command_is_not_even_started_when_nothing_would_be_stored(shell: Shell, tmp_path: Path) -> None:
    assert shell("put", "k", "--if-absent", *sh(f"touch {tmp_path}/started; echo v")).code == 3
    gate = Gate(tmp_path / "gate")
    with spawn(
        "--home", shell.home, "put", "a", "-", program=LAUNCHER, env=gate.env, **{**QUIET, "stdin": subprocess.PIPE}
    ) as other:
        other.stdin.write(b"x")
        other.stdin.close()
        gate.wait()
        assert shell.run("put", "b", "--lock-wait", "0", *sh(f"touch {tmp_path}/started; echo v")).code == 75
        gate.open()
        assert other.wait(PATIENCE) == 0
    assert not (tmp_path / "started").exists()


# -- and it does not outlive us


STUBBORN = "trap '' TERM; (trap '' TERM; echo $$ >child; exec sleep 1000) & echo $$ >group; head -c 100000 /dev/zero; {rest}"


def is_gone(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.fixture
def place(tmp_path: Path) -> Path:
    folder = tmp_path / "place"
    folder.mkdir()
    return folder


def group_of(place: Path) -> int:
    until(lambda: (place / "group").exists() and (place / "group").read_text().strip(), "the command to start")
    return int((place / "group").read_text())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_command_and_its_whole_group(shell: Shell, place: Path, number: signal.Signals) -> None:
    command = sh(f"cd {shlex.quote(str(place))}; {STUBBORN.format(rest='sleep 1000')}")
    with spawn("--home", shell.home, "put", "k", *command, **QUIET) as process:
        group = group_of(place)
        process.send_signal(number)
        assert process.wait(5.0) == -number
    until(lambda: is_gone(group), "the command's group to end")
    assert shell.ok("get", "k").data == b"old"


@pytest.mark.parametrize("rest", ["sleep 1000", "cat /dev/zero"])
def test_a_put_that_fails_ends_the_command_also_while_that_is_silent(shell: Shell, place: Path, rest: str) -> None:
    command = sh(f"cd {shlex.quote(str(place))}; {STUBBORN.format(rest=rest)}")
    with spawn("--home", shell.home, "put", "k", *command, program=LAUNCHER, env=environment(FAIL="1"), **QUIET) as process:
        group = group_of(place)
        assert process.wait(PATIENCE) == 69
    until(lambda: is_gone(group), "the command's group to end")


def test_a_put_whose_stdin_stays_silent_ends_when_it_has_failed(shell: Shell) -> None:
    how = {**QUIET, "stdin": subprocess.PIPE}
    with spawn("--home", shell.home, "put", "k", "-", program=LAUNCHER, env=environment(FAIL="1"), **how) as process:
        process.stdin.write(bytes(40 * KIB))
        process.stdin.flush()
        assert process.wait(PATIENCE) == 69
        process.stdin.close()


def test_a_command_that_leaves_something_running_on_purpose_may(shell: Shell, place: Path) -> None:
    shell.ok("put", "k", *sh(f"sleep 1000 >/dev/null 2>&1 & echo $! >{shlex.quote(str(place))}/left; echo value"))
    left = int((place / "left").read_text())
    os.kill(left, signal.SIGKILL)
    assert shell.ok("get", "k").out == "value\n"


# -- nothing is not a value


def test_zero_bytes_from_stdin_or_a_command_or_a_pipe_are_refused(shell: Shell) -> None:
    refused(shell, shell("put", "k", "-"), "standard input", "--allow-empty")
    refused(shell, shell("put", "k", "--from-command", "--", "true"), "true", "--allow-empty")
    script = f"{shlex.quote(sys.executable)} -m anthill_sync --home {shlex.quote(str(shell.home))} put k <(true)"
    done = subprocess.run(
        ["bash", "-c", script], env=environment(), capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert (done.returncode, "--allow-empty" in done.stderr) == (66, True)
    assert shell.ok("get", "k").data == b"old"


@pytest.mark.parametrize("source", [("-",), ("--from-command", "--", "true")])
def test_an_empty_value_is_stored_when_that_is_said(shell: Shell, source: tuple[str, ...]) -> None:
    shell.ok("put", "--allow-empty", "k", *source)
    assert shell.ok("get", "k").data == b""


def test_an_empty_file_is_a_value(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    shell.ok("put", "k", tmp_path / "empty")
    shell.ok("put", "k2", "/dev/null")
    assert shell.ok("get", "k").data == shell.ok("get", "k2").data == b""
