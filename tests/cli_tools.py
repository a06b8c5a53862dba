"""Running ``anthill`` in tests: in this process, as a process of its own, and on a pseudo-terminal."""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pyte

from anthill_sync.cli import main

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = [sys.executable, "-m", "anthill_sync"]
LAUNCHER = [sys.executable, str(ROOT / "tests" / "cli_launcher.py")]
PATIENCE = 30.0  # seconds until a test gives up; never waited for in full when all is well


@dataclass(frozen=True)
class Result:
    """How one command ended."""

    code: int
    data: bytes
    err: str

    @property
    def out(self) -> str:
        return self.data.decode()

    @property
    def json(self) -> Any:
        """The one object on stdout."""
        return json.loads(self.out)

    @property
    def error(self) -> Any:
        """The last line on stderr, an object like all lines before it."""
        return [json.loads(line) for line in self.err.splitlines()][-1]


def environment(**more: str) -> dict[str, str]:
    """What cron gives a command, and where the package is."""
    return {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), **more}


class _Stdin(io.TextIOWrapper):
    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data))


def call(*arguments: object, stdin: bytes = b"") -> Result:
    """Run the command in this process, with its own standard streams."""
    out, err = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.StringIO()
    with patch.object(sys, "stdin", _Stdin(stdin)), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(argument) for argument in arguments])
        out.flush()
    return Result(code, out.buffer.getvalue(), err.getvalue())


def spawn(*arguments: object, program: list[str] = PROGRAM, env: Mapping[str, str] | None = None, **how: Any) -> Any:
    """Start the command as a process of its own."""
    command = [*program, *map(str, arguments)]
    return subprocess.Popen(command, env=environment() if env is None else env, cwd=how.pop("cwd", "/"), **how)


def run(*arguments: object, stdin: bytes = b"", **how: Any) -> Result:
    """Run the command as a process of its own, without a terminal."""
    pipe = subprocess.PIPE
    with spawn(*arguments, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True, **how) as process:
        data, err = process.communicate(stdin, timeout=PATIENCE)
    return Result(process.returncode, data, err.decode())


@dataclass(frozen=True)
class Shell:
    """Commands on one store."""

    home: Path

    def __call__(self, *arguments: object, stdin: bytes = b"") -> Result:
        """In this process."""
        return call("--home", self.home, *arguments, stdin=stdin)

    def ok(self, *arguments: object, stdin: bytes = b"") -> Result:
        """In this process, and it has to succeed without a word on stderr."""
        result = self(*arguments, stdin=stdin)
        assert (result.code, result.err) == (0, ""), result
        return result

    def run(self, *arguments: object, **how: Any) -> Result:
        """As a process of its own, without a terminal."""
        return run("--home", self.home, *arguments, **how)


def make_shell(home: Path, *options: object) -> Shell:
    """A new store with small pads."""
    shell = Shell(home)
    shell.ok("init", "--pad-size", "16KiB", *options)
    return shell


def secret_file(path: Path, text: str) -> Path:
    """A file that only its owner may read."""
    path.touch(mode=0o600)
    path.write_text(text)
    return path


def until(condition: Callable[[], object], what: str) -> None:
    """Wait for another process, not longer than it takes."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.005)


class Gate:
    """Lets the launcher's network write a number of pads, then holds it until ``open``."""

    def __init__(self, folder: Path, *, free: int = 0, **more: str) -> None:
        folder.mkdir()
        self.folder = folder
        self.env = environment(GATE=str(folder), GATE_FREE=str(free), **more)

    def wait(self) -> int:
        """Return once a write is held: the id of its process."""
        until((self.folder / "held").exists, "a write to be held")
        return int((self.folder / "held").read_text())

    def open(self) -> None:
        """Let everything through."""
        (self.folder / "open").touch()


class Terminal:
    """A process on a pseudo-terminal of a real size, and what is on its screen."""

    def __init__(self, command: list[str], env: Mapping[str, str], *, columns: int = 100, rows: int = 24) -> None:
        self.screen = pyte.Screen(columns, rows)
        self._drawer = pyte.ByteStream(self.screen)
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.process = subprocess.Popen(
            command,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={"TERM": "xterm", "LANG": "C.UTF-8", **env},
            preexec_fn=lambda: (os.setsid(), fcntl.ioctl(0, termios.TIOCSCTTY, 0)),  # type: ignore[func-returns-value]
        )
        os.close(slave)

    def lines(self) -> list[str]:
        """What stands on the screen, without empty lines."""
        return [line.rstrip() for line in self.screen.display if line.strip()]

    def read(self) -> bool:
        """Draw what has come; False at the end."""
        ready, _, _ = select.select([self.master], [], [], 0.02)
        try:
            data = os.read(self.master, 65536) if ready else b""
        except OSError:  # Linux: everyone has closed the other side
            return False
        self._drawer.feed(data)
        return bool(data) or not ready

    def until(self, condition: Callable[[list[str]], bool]) -> list[str]:
        """Draw until the screen fulfils ``condition``."""
        end = time.monotonic() + PATIENCE
        while not condition(self.lines()):
            assert self.read(), f"ended with {self.lines()}"
            assert time.monotonic() < end, self.lines()
        return self.lines()

    def type(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def end(self) -> int:
        """Draw to the end; the exit status as ``subprocess`` gives it."""
        end = time.monotonic() + PATIENCE
        while self.read():
            assert time.monotonic() < end, self.lines()
            if self.process.poll() is not None and not select.select([self.master], [], [], 0)[0]:
                break
        os.close(self.master)
        return self.process.wait(PATIENCE)
