"""What ``put`` reads: a file, standard input, or the output of a command.

A pipe may stay silent for hours, and the put may fail meanwhile: so whoever waits for one yields ``b""`` now and then.
"""

from __future__ import annotations

import contextlib
import io
import os
import select
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

from .cli_output import system_failure
from .cli_signals import Signals, name_of
from .errors import IncompleteSource, InvalidArgument, SourceNotFound
from .settings import MIB

PIECE = MIB  # bytes read at once
POLL_SECONDS = 0.25  # between two looks at whether the put goes on
GRACE_SECONDS = 1.0  # for a command to end when it is asked to, before it is killed; P8 allows five in all
LINE = 8192  # bytes of a line that a command writes on stderr

Say = Callable[[str], object]


@contextlib.contextmanager
def source_of(source: str, *, allow_empty: bool) -> Iterator[Path | Iterator[bytes]]:
    """The path of a file; the bytes of ``-`` and of what else can only be read once, like a pipe."""
    if source == "-":
        if sys.stdin is None:
            raise SourceNotFound("standard input is closed")
        yield _whole(_pieces(sys.stdin.buffer), "standard input", allow_empty)
        return
    try:
        mode = os.stat(source).st_mode
    except OSError as error:
        raise SourceNotFound(f"{source}: {error.strerror}") from None
    if stat.S_ISDIR(mode):
        raise InvalidArgument(f"{source} is a directory: give -r to store what is in it")
    if stat.S_ISREG(mode):
        yield Path(source)
        return
    with open(source, "rb", buffering=0) as stream:
        yield _whole(_pieces(stream), source, allow_empty or not stat.S_ISFIFO(mode))


class Output:
    """The bytes a command writes on stdout; at their end ``IncompleteSource`` unless it ended with 0.

    It is started when they are first asked for: not while we wait for the store's lock, nor when ``--if-absent`` refuses.
    It has a session of its own, so a terminal's Ctrl-C reaches only us; its stdin is empty, and what it writes on stderr
    is ``say``'s. ``close`` ends it, with its group, unless it has ended by itself.
    """

    def __init__(self, command: Sequence[str], signals: Signals, say: Say) -> None:
        self.name = os.path.basename(command[0])
        self._command, self._signals, self._say = command, signals, say
        self._process: subprocess.Popen[bytes] | None = None
        self._listener = threading.Thread(target=self._listen, name="anthill-command", daemon=True)

    def __iter__(self) -> Iterator[bytes]:
        with self._signals.deferred():  # or it might run with nobody to end it
            self._process = process = _start(self._command)
        self._listener.start()
        assert process.stdout is not None
        yield from _pieces(process.stdout)
        while process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(POLL_SECONDS)
            yield b""
        self._listener.join(GRACE_SECONDS)  # no longer: a process that it left behind may hold its stderr for ever
        if process.returncode:
            raise IncompleteSource(f"{self.name} {_end_of(process.returncode)}; nothing was published")

    def close(self) -> None:
        """Nothing of it is left when this returns, unless it had ended by itself."""
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            _signal(process, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(GRACE_SECONDS)
            _signal(process, signal.SIGKILL)  # also when it has ended: others of its group may not have
            process.wait()
        assert process.stdout is not None
        process.stdout.close()

    def _listen(self) -> None:
        assert self._process is not None
        assert self._process.stderr is not None
        with self._process.stderr as lines:
            while line := lines.readline(LINE):
                self._say(line.rstrip(b"\r\n").decode(errors="backslashreplace"))


@contextlib.contextmanager
def output_of(command: Sequence[str], *, allow_empty: bool, signals: Signals, say: Say) -> Iterator[Iterator[bytes]]:
    """The bytes a command writes; it has ended when the ``with`` block has."""
    output = Output(command, signals, say)
    try:
        yield _whole(iter(output), output.name, allow_empty)
    finally:
        output.close()


def _start(command: Sequence[str]) -> subprocess.Popen[bytes]:
    pipe = subprocess.PIPE
    try:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, start_new_session=True)
    except OSError as error:
        raise system_failure(OSError(error.errno, error.strerror, command[0])) from None


def _end_of(code: int) -> str:
    return f"ended with exit code {code}" if code > 0 else f"was ended by {name_of(-code)}"


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # nobody is left; macOS says so by EPERM
        os.killpg(process.pid, number)


def _pieces(stream: IO[bytes]) -> Iterator[bytes]:
    """Whatever comes, as soon as it comes, and ``b""`` while nothing does."""
    try:
        descriptor = stream.fileno()
    except io.UnsupportedOperation:  # in memory
        yield from iter(lambda: stream.read(PIECE), b"")
        return
    while True:
        if not select.select([descriptor], [], [], POLL_SECONDS)[0]:
            yield b""
        elif piece := os.read(descriptor, PIECE):
            yield piece
        else:
            return


def _whole(pieces: Iterator[bytes], name: str, allow_empty: bool) -> Iterator[bytes]:
    """``pieces``, and ``IncompleteSource`` when they were nothing: a producer that failed looks like that."""
    empty = True
    for piece in pieces:
        empty = empty and not piece
        yield piece
    if empty and not allow_empty:
        raise IncompleteSource(f"{name} gave no bytes; nothing was published (--allow-empty stores an empty value)")
