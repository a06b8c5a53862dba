"""How much memory a command that moves whole pads holds at most."""

from __future__ import annotations

from contextlib import suppress

_M_ARENA_MAX = -8  # of mallopt(3)
_ARENAS = 2


def share_heaps() -> None:
    """Let all threads allocate from the same few heaps. glibc would give each its own, and keep in each what a pad took:
    60 MiB of 250 in a get of 2 GiB, at the same speed. Before the first thread; other C libraries need nothing."""
    from ctypes import CDLL  # here: commands that read the index only should start quickly

    with suppress(AttributeError, OSError):
        CDLL(None).mallopt(_M_ARENA_MAX, _ARENAS)
