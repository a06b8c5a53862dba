"""Standard output and the operating system's errors, in the words of the exit codes."""

from __future__ import annotations

import codecs
import contextlib
import errno
import os
import re
import sys
from typing import Any

from .errors import AnthillError, InvalidArgument, LocalIOError, NoRoom, PermissionRefused, SourceNotFound
from .render import printable

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS}
_ABSENT = {errno.ENOENT, errno.ENOTDIR, errno.ENXIO}


_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")  # all but tab and line ends


class OutputClosed(Exception):
    """Whoever read our standard output went away."""


def system_failure(error: OSError) -> AnthillError:
    """The error of this package, with its exit code, for an error of the operating system."""
    name = "" if error.filename is None else printable(os.fsdecode(error.filename)) + ": "
    message = f"{name}{error.strerror or error}"
    if error.errno in _ABSENT:
        return SourceNotFound(message)
    if error.errno in _REFUSED:
        return PermissionRefused(message)
    return NoRoom(message) if error.errno in _NO_ROOM else LocalIOError(message)


class Output:
    """Standard output as a binary file: every write reaches the descriptor, or says why not.

    Text would depend on the locale; keys and values do not.
    """

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Write all of ``data``; ``OutputClosed`` when nobody reads it any more."""
        if sys.stdout is None:
            raise LocalIOError("standard output is closed")
        try:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            discard_rest()
            raise OutputClosed from None
        except OSError as error:
            discard_rest()
            raise _output_failure(error) from error
        return len(data)

    def flush(self) -> None:
        """Nothing is ever held back."""


class TerminalText(Output):
    """Standard output on a terminal: text only. Anything else could make the terminal do things."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Write all of ``data``; ``InvalidArgument``, before any of it is written, when it is not text."""
        try:
            plain = _CONTROL.search(self._decoder.decode(bytes(data))) is None
        except UnicodeDecodeError:
            plain = False
        if not plain:
            raise InvalidArgument("the value is binary and not written onto a terminal: name a file as DEST, or pipe it")
        return super().write(data)


def _output_failure(error: OSError) -> AnthillError:
    kind = NoRoom if error.errno in _NO_ROOM else LocalIOError
    return kind(f"standard output: {error.strerror}")


def discard_rest() -> None:
    """Let the interpreter's own flush at exit succeed, or it would print and change the exit code."""
    with contextlib.suppress(OSError, ValueError, AttributeError):  # no descriptor behind it, or no stdout at all
        descriptor = sys.stdout.fileno()
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, descriptor)
        os.close(nowhere)


def is_terminal(stream: Any) -> bool:
    """True for a stream that is there, open, and a terminal."""
    return stream is not None and not stream.closed and bool(stream.isatty())


def fill_standard_descriptors() -> None:
    """Occupy descriptors 0 to 2 where the parent closed them, so that no file of ours is taken for one."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number: this one
