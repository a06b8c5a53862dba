"""How much memory a command that moves whole pads holds at most."""

from __future__ import annotations

import gc
from contextlib import suppress

_M_ARENA_MAX = -8  # of mallopt(3)
_ARENAS = 2
_NEW_OBJECTS = 50_000  # about 5 MiB, between two looks for cycles; Python's own number is 700


def share_heaps() -> None:
    """Let all threads allocate from the same few heaps. glibc would give each its own, and keep in each what a pad took:
    60 MiB of 250 in a get of 2 GiB, at the same speed. Before the first thread; other C libraries need nothing."""
    from ctypes import CDLL  # here: commands that read the index only should start quickly

    with suppress(AttributeError, OSError):
        CDLL(None).mallopt(_M_ARENA_MAX, _ARENAS)


def collect_seldom() -> None:
    """Look for cycles among new objects seldom: of 10,000 small files a fifth of the time went into looking at what is
    needed until the command ends."""
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS, *gc.get_threshold()[1:])
