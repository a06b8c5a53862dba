"""What a person sees: bars, questions and pictures on a real pseudo-terminal."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from .cli_tools import LAUNCHER, PROGRAM, Gate, Shell, Terminal, environment, make_shell

NAMES = ["Reservation", "Upload", "Confirmed"]


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return make_shell(tmp_path / "home")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(os.urandom(400_000))
    return path


def command(shell: Shell, *arguments: object, program: list[str] = PROGRAM) -> list[str]:
    return [*program, "--home", str(shell.home), *map(str, arguments)]


def stacked(lines: list[str]) -> bool:
    """Three bars, each on its own line, in order."""
    return [line.split(":")[0].strip() for line in lines[-3:]] == NAMES


def held(shell: Shell, source: Path, gate: Gate) -> Terminal:
    """A put whose bars are on the screen and whose network waits."""
    terminal = Terminal(command(shell, "put", "k", source, program=LAUNCHER), gate.env)
    terminal.until(stacked)
    gate.wait()
    return terminal


def test_three_bars_on_three_lines_and_a_clean_screen_after_success(shell: Shell, source: Path, tmp_path: Path) -> None:
    gate = Gate(tmp_path / "gate", free=3)
    terminal = held(shell, source, gate)
    lines = terminal.until(lambda lines: stacked(lines) and "3/" in lines[-1])  # committed, while the rest waits
    assert "pad" in lines[0]
    assert "B/s" in lines[1]
    gate.open()
    assert terminal.end() == 0
    (line,) = terminal.lines()
    assert line.startswith("stored k: 390.6 KiB")
    assert shell.ok("get", "k").data == source.read_bytes()


def test_a_clean_screen_after_an_error(shell: Shell, source: Path) -> None:
    env = environment(FAIL="1", GATE_FREE="3")
    terminal = Terminal(command(shell, "put", "k", source, program=LAUNCHER), env, columns=200)
    assert terminal.end() == 69
    (line,) = terminal.lines()
    assert line.startswith("anthill: ")


def test_a_clean_screen_after_ctrl_c(shell: Shell, source: Path, tmp_path: Path) -> None:
    terminal = held(shell, source, Gate(tmp_path / "gate", free=3))
    terminal.until(lambda lines: stacked(lines) and "27/27" in lines[0] and "3/" in lines[-1])  # ^C drops unread output
    terminal.type(b"\x03")
    assert terminal.end() == -signal.SIGINT
    lines = [line.replace("^C", "").strip() for line in terminal.lines()]  # the terminal's own echo may stand anywhere
    assert [line for line in lines if line] == ["anthill: stopped by SIGINT"]


def test_quiet_shows_nothing(shell: Shell, source: Path) -> None:
    terminal = Terminal(command(shell, "-q", "put", "k", source), environment())
    assert terminal.end() == 0
    assert terminal.lines() == []


@pytest.mark.parametrize(("answer", "code"), [(b"y\n", 0), (b"n\n", 3), (b"\n", 3), (b"\x04", 3)])
def test_the_question_is_asked_on_a_terminal(shell: Shell, source: Path, answer: bytes, code: int) -> None:
    shell.ok("config", "confirm", "always")
    terminal = Terminal(command(shell, "put", "k", source), environment(), columns=200)
    lines = terminal.until(lambda lines: bool(lines) and "Reserve? [y/N]" in lines[-1])
    assert "to reserve for 390.6 KiB of data; 0 of 0 pads" in lines[-1]
    assert len(lines) == 1  # no bar beside it
    terminal.type(answer)
    assert terminal.end() == code
    assert shell.ok("ls").out == ("k\n" if code == 0 else "")


@pytest.mark.parametrize("value", [b"\x1b[2Jvalue", b"text and \xff", "text and \x9b2J".encode()])
def test_a_binary_value_is_not_written_onto_a_terminal(shell: Shell, value: bytes) -> None:
    shell.ok("put", "k", "-", stdin=value)
    terminal = Terminal(command(shell, "get", "k"), environment(), columns=200)
    assert terminal.end() == 64
    assert terminal.lines() == ["anthill: the value is binary and not written onto a terminal: name a file as DEST, or pipe it"]


def test_a_text_is_written_onto_a_terminal(shell: Shell) -> None:
    shell.ok("put", "k", "-", stdin="eins\n\tzwei und drei: ü\n".encode())
    terminal = Terminal(command(shell, "get", "k"), environment())
    assert terminal.end() == 0
    assert [line.strip() for line in terminal.lines()] == ["eins", "zwei und drei: ü"]


def test_no_bar_wipes_the_last_line_of_a_value(shell: Shell) -> None:
    shell.ok("put", "k", "-", stdin=b"first\nlast, without an end")
    terminal = Terminal(command(shell, "get", "k"), environment())
    assert terminal.end() == 0
    assert [line.strip() for line in terminal.lines()] == ["first", "last, without an end"]


def test_usage_draws_the_memory_map(shell: Shell, source: Path) -> None:
    shell.ok("put", "k", source)
    shell.ok("reserve", "10")
    terminal = Terminal(command(shell, "usage"), environment())
    assert terminal.end() == 0
    drawn = "".join(line for line in terminal.lines() if line.startswith("|"))
    assert "█" in drawn
    assert "·" in drawn


def test_the_lock_is_not_waited_for_on_a_terminal(shell: Shell, source: Path, tmp_path: Path) -> None:
    gate = Gate(tmp_path / "gate")
    first = held(shell, source, gate)
    second = Terminal(command(shell, "put", "other", source), environment())
    assert second.end() == 75
    gate.open()
    assert first.end() == 0
