"""What cron relies on, for every command there is: success says nothing on stderr, and nobody is ever asked.

The commands are those of the program. A new one fails here until it is told how it succeeds.
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from anthill_sync.cli import app
from anthill_sync.cli_tree import commands

from .cli_tools import PATIENCE, PROGRAM, Shell, environment, make_shell, secret_file

EVERY = [each.name for each in commands(app) if each.path and not each.commands]
Words = tuple[object, ...]
COUNT = itertools.count()


class Place:
    """A store with something of everything, and what commands may work with."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.shell: Shell = make_shell(folder / "home")
        self.tree = folder / "tree"
        self.tree.mkdir()
        (self.tree / "file").write_bytes(os.urandom(50_000))
        self.shell.ok("put", "k", self.tree / "file")
        self.shell.ok("put", "other", "-", stdin=b"1")
        self.secret = secret_file(folder / "secret", "words\n")


# How each command succeeds, in every way that prints or could ask.
HOW: dict[str, Callable[[Place], list[Words]]] = {
    "init": lambda p: [("init", "--home", p.folder / f"new{next(COUNT)}", "--pad-size", "16KiB")],
    "config": lambda p: [("config",), ("config", "attempts"), ("config", "attempts", "3")],
    "put": lambda p: [
        ("put", "new", p.tree / "file"),
        ("put", "t", p.tree, "-r", "--exclude", "x"),
        ("put", "new", p.tree / "file", "-n"),
        ("put", "new", p.tree / "file", "--json"),
    ],
    "get": lambda p: [("get", "k"), ("get", "k", p.folder / "out"), ("get", "k", p.folder / "tree2", "-r")],
    "ls": lambda p: [("ls",), ("ls", "-l"), ("ls", "--pending"), ("ls", "nothing")],
    "stat": lambda p: [("stat", "k"), ("stat", "k", "--max-age", "1d")],
    "mv": lambda p: [("mv", "other", "another")],
    "rm": lambda p: [("rm", "other"), ("rm", "nothing", "--ignore-missing")],
    "usage": lambda p: [("usage",), ("usage", "--svg", p.folder / "map.svg")],
    "resume": lambda p: [("resume",)],
    "abandon": lambda p: [("abandon",)],
    "reserve": lambda p: [("reserve", "2")],
    "trim": lambda p: [("trim",)],
    "check": lambda p: [
        ("check",),
        ("check", "--read-data"),
        ("check", "--sample", "50"),
        ("check", "--read-data", "--max-duration", "1m"),
    ],
    "drill": lambda p: [("drill",), ("drill", "--json")],
    "repair": lambda p: [("repair",)],
    "recover": lambda p: [("recover",)],
    "key export": lambda p: [("key", "export")],
    "key verify": lambda p: [("key", "verify", p.shell.home / "key")],
    "key passphrase": lambda p: [("key", "passphrase", "--new-passphrase-file", p.secret)],
    "serve": lambda p: [("serve", "--listen", "127.0.0.1:0", "--data", p.folder / "pads")],
    "completion": lambda p: [("completion", shell) for shell in ("bash", "zsh", "fish")],
}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_it_is_known_of_every_command_how_it_succeeds() -> None:
    assert sorted(HOW) == sorted(EVERY)


def ended(place: Place, words: Words, stdin: int | None, script: str = "") -> subprocess.CompletedProcess[bytes]:
    """One command as cron would start it; ``serve`` is ended when it serves."""
    command = [*PROGRAM, "--home", str(place.shell.home), *map(str, words)]
    if script:
        command = ["/bin/sh", "-c", script, *command]
    pipe = subprocess.PIPE
    how = {"env": environment(), "stdout": pipe, "stderr": pipe, "cwd": "/", "start_new_session": True}
    with subprocess.Popen(command, stdin=stdin, **how) as process:  # type: ignore[call-overload]
        try:
            if words[0] == "serve":
                assert process.stdout.readline().startswith(b"http://")
                process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=PATIENCE)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def assert_success(done: subprocess.CompletedProcess[bytes], words: Words) -> None:
    expected = -signal.SIGTERM if words[0] == "serve" else 0
    assert done.returncode == expected, (words, done)


@pytest.mark.parametrize("name", EVERY)
def test_success_without_a_terminal_says_nothing_on_stderr(place: Place, name: str) -> None:
    for words in HOW[name](place):
        done = ended(place, words, subprocess.DEVNULL)
        assert_success(done, words)
        assert done.stderr == b"", words


@pytest.fixture
def open_pipe() -> Iterator[int]:
    """Stdin of somebody who never says anything, and never hangs up."""
    read_end, write_end = os.pipe()
    yield read_end
    os.close(read_end)
    os.close(write_end)


@pytest.fixture(scope="module")
def careful(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A store in which everything that can be asked would be: each reservation, and the passphrase."""
    place = Place(tmp_path_factory.mktemp("careful"))
    place.shell.ok("config", "confirm", "always")
    place.shell.ok("key", "passphrase", "--new-passphrase-file", place.secret)
    return place


@pytest.mark.parametrize("stdin", ["closed", "/dev/null", "an open pipe"])
@pytest.mark.parametrize("name", EVERY)
def test_nobody_is_asked_whatever_stdin_is(careful: Place, open_pipe: int, name: str, stdin: str) -> None:
    """The command ends by itself: it neither waits for an answer nor takes what is there for one."""
    words = HOW[name](careful)[0]
    script = 'exec "$0" "$@" <&-' if stdin == "closed" else ""
    done = ended(careful, words, {"closed": None, "/dev/null": subprocess.DEVNULL, "an open pipe": open_pipe}[stdin], script)
    needs_no_key = name in ("init", "config", "key export", "serve", "completion")
    assert done.returncode == (-signal.SIGTERM if name == "serve" else 0 if needs_no_key else 78), done
    if done.returncode == 78:
        assert b"passphrase" in done.stderr
    assert len(done.stderr.splitlines()) == (0 if needs_no_key else 1)


@pytest.mark.parametrize("words", [("put", "new", "FILE"), ("reserve", "1")])
def test_a_question_without_anybody_is_78_whatever_stdin_is(place: Place, open_pipe: int, words: tuple[str, ...]) -> None:
    place.shell.ok("config", "confirm", "always")
    command = tuple(str(place.tree / "file") if word == "FILE" else word for word in words)
    for stdin in (subprocess.DEVNULL, open_pipe):
        done = ended(place, command, stdin)
        assert (done.returncode, b"nobody to ask" in done.stderr) == (78, True)
    done = ended(place, (*command, "--yes"), open_pipe)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_value_from_a_pipe_is_waited_for_and_nothing_else(place: Place, open_pipe: int) -> None:
    """The only thing that reads stdin is what was told to: ``-``."""
    command = [*PROGRAM, "--home", str(place.shell.home), "put", "piped", "-"]
    with subprocess.Popen(command, env=environment(), stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(b"x" * 100_000)
        process.stdin.close()
        assert process.wait(PATIENCE) == 0
    assert len(place.shell.ok("get", "piped").data) == 100_000
