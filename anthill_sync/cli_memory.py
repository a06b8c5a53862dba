"""How much memory a command that moves whole pads holds at most."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_M_ARENA_MAX = -8  # of mallopt(3)
_ARENAS = 2
_NEW_OBJECTS = 50_000  # about 5 MiB, between two looks for cycles; Python's own number is 700


def share_heaps() -> None:
    """Let all threads allocate from the same few heaps. glibc would give each its own, and keep in each what a pad took:
    60 MiB of 250 in a get of 2 GiB, at the same speed. Before the first thread; other C libraries need nothing."""
    from ctypes import CDLL  # here: commands that read the index only should start quickly

    with suppress(AttributeError, OSError):
        CDLL(None).mallopt(_M_ARENA_MAX, _ARENAS)


@contextmanager
def collecting_seldom() -> Iterator[None]:
    """Look for cycles among new objects seldom: of 10,000 small files a fifth of the time went into looking at what is
    needed until the command ends. Only inside the ``with``: the number is the whole process's, which may go on."""
    before = gc.get_threshold()
    gc.set_threshold(_NEW_OBJECTS, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
