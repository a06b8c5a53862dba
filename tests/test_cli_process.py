"""``anthill`` among other processes: signals, pipes, cron, shells."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from .cli_tools import LAUNCHER, PATIENCE, PROGRAM, Gate, Shell, environment, make_shell, spawn

MIB = 1024 * 1024
QUIET: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return make_shell(tmp_path / "home")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(os.urandom(200_000))
    return path


def held_put(shell: Shell, source: Path, gate: Gate, *options: str, **how: Any) -> subprocess.Popen[bytes]:
    """A put that has begun and waits for its network."""
    process: subprocess.Popen[bytes] = spawn(
        "--home", shell.home, "put", "k", source, *options, program=LAUNCHER, env=gate.env, **{**QUIET, **how}
    )
    gate.wait()
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_put_by_that_signal_and_it_can_be_resumed(
    shell: Shell, source: Path, tmp_path: Path, number: signal.Signals
) -> None:
    process = held_put(shell, source, Gate(tmp_path / "gate", free=2))
    process.send_signal(number)
    out, err = process.communicate(timeout=5)  # P8: Ctrl-C within five seconds
    assert process.returncode == -number
    assert (out, err.decode()) == (b"", f"anthill: stopped by {number.name}\n")
    assert [p["key"] for p in shell.ok("ls", "--pending", "--json").json["pending"]] == ["k"]
    shell.ok("resume")
    assert shell.ok("get", "k").data == source.read_bytes()


def test_a_signal_in_json_is_the_last_line(shell: Shell, source: Path, tmp_path: Path) -> None:
    process = held_put(shell, source, Gate(tmp_path / "gate"), "--json")
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=PATIENCE)
    assert err.decode() == ('{"error": "stopped by SIGTERM", "code": 143, "key": null, "pad": null, "resume": false}\n')


def test_signals_ignored_at_start_stay_ignored(shell: Shell, source: Path, tmp_path: Path) -> None:
    gate = Gate(tmp_path / "gate")
    process = held_put(shell, source, gate, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    process.send_signal(signal.SIGHUP)
    gate.open()
    assert process.communicate(timeout=PATIENCE) == (b"", b"")
    assert process.returncode == 0


def test_ctrl_c_stops_a_shell_loop_too(shell: Shell, source: Path, tmp_path: Path) -> None:
    gate = Gate(tmp_path / "gate")
    command = shlex.join([*LAUNCHER, "--home", str(shell.home), "put", "k", str(source)])
    script = f"for n in 1 2 3; do {command}; done; echo survived"
    loop = subprocess.Popen(["bash", "-c", script], env=gate.env, start_new_session=True, **QUIET)
    gate.wait()
    os.killpg(loop.pid, signal.SIGINT)  # what a terminal does
    out, err = loop.communicate(timeout=PATIENCE)
    assert out == b""
    assert err.count(b"stopped by SIGINT") == 1
    assert loop.returncode == -signal.SIGINT


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_shells_see_the_usual_codes(shell: Shell, source: Path, tmp_path: Path, number: int, code: int) -> None:
    gate = Gate(tmp_path / "gate")
    script = shlex.join([*LAUNCHER, "--home", str(shell.home), "put", "k", str(source)]) + '; echo "code $?"'
    process = subprocess.Popen(["bash", "-c", script], env=gate.env, start_new_session=True, **QUIET)
    os.kill(gate.wait(), number)
    out, _ = process.communicate(timeout=PATIENCE)
    assert out.decode() == f"code {code}\n"


def test_a_signal_while_reading_stdin_ends_the_put(shell: Shell) -> None:
    with spawn("--home", shell.home, "put", "k", "-", "-vv", stdin=subprocess.PIPE, **QUIET) as process:
        process.stdin.write(b"x" * 100_000)  # more than a pipe holds: once it is written, reading has begun
        process.stdin.flush()
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE)
    assert process.returncode == -signal.SIGTERM


def test_a_reader_that_goes_away_is_141_and_nothing_else(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(os.urandom(MIB))
    shell.ok("put", "big", tmp_path / "big")
    command = shlex.join([*PROGRAM, "--home", str(shell.home), "get", "big"])
    script = f'{command} | head -c 10 >/dev/null; echo "${{PIPESTATUS[0]}}"'
    result = subprocess.run(["bash", "-c", script], env=environment(), capture_output=True, timeout=PATIENCE)
    assert (result.stdout, result.stderr) == (b"141\n", b"")


def test_a_full_disk_behind_stdout_is_73(shell: Shell) -> None:
    shell.ok("put", "k", "-", stdin=b"value")
    with open("/dev/full", "wb") as full:
        for arguments in (("get", "k"), ("ls",)):
            with spawn("--home", shell.home, *arguments, stdout=full, stderr=subprocess.PIPE) as process:
                err = process.stderr.read().decode()
            assert process.returncode == 73
            assert err == "anthill: standard output: No space left on device\n"


def test_closed_standard_streams_are_no_bug(shell: Shell, source: Path) -> None:
    command = shlex.join([*PROGRAM, "--home", str(shell.home)])
    for arguments, code in (("put k %s" % shlex.quote(str(source)), 0), ("ls", 74), ("put other -", 66)):  # noqa: UP031
        result = subprocess.run(["/bin/sh", "-c", f"exec {command} {arguments} <&- >&- 2>&-"], env=environment())
        assert result.returncode == code, arguments
    assert shell.ok("get", "k").data == source.read_bytes()


def test_everything_works_with_an_empty_environment(shell: Shell, tmp_path: Path) -> None:
    key = "schlüssel/日本"
    command = shlex.join(["env", "-i", "PATH=/usr/bin:/bin", f"PYTHONPATH={environment()['PYTHONPATH']}", *PROGRAM])
    script = f"cd / && printf value | {command} --home {shlex.quote(str(shell.home))} put {shlex.quote(key)} - && "
    script += f"{command} --home {shlex.quote(str(shell.home))} ls"
    result = subprocess.run(["/bin/sh", "-c", script], capture_output=True, timeout=PATIENCE)
    assert (result.returncode, result.stderr.decode(), result.stdout.decode()) == (0, "", key + "\n")


def test_a_pipe_from_one_store_to_another(shell: Shell, source: Path, tmp_path: Path) -> None:
    other = make_shell(tmp_path / "other")
    shell.ok("put", "k", source)
    get = shlex.join([*PROGRAM, "--home", str(shell.home), "get", "k"])
    put = shlex.join([*PROGRAM, "--home", str(other.home), "put", "copy", "-"])
    result = subprocess.run(["bash", "-o", "pipefail", "-c", f"{get} | {put}"], env=environment(), capture_output=True)
    assert (result.returncode, result.stderr) == (0, b"")
    assert other.ok("get", "copy").data == source.read_bytes()


def test_a_named_pipe_is_a_source_and_a_destination(shell: Shell, source: Path) -> None:
    command = shlex.join([*PROGRAM, "--home", str(shell.home)])
    script = f"{command} put k <(cat {shlex.quote(str(source))}) 2>&1; {command} put k2 /dev/stdin < {shlex.quote(str(source))}"
    script += f"; {command} get k /dev/stdout | cmp - {shlex.quote(str(source))}"
    result = subprocess.run(["bash", "-c", script], env=environment(), capture_output=True, timeout=PATIENCE)
    assert (result.returncode, result.stdout, result.stderr) == (0, b"", b"")
    assert shell.ok("get", "k2").data == source.read_bytes()
