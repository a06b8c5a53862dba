"""The garbage collector at rest while an index is read: a hundred thousand objects that stay, none of them in a cycle. Looking
for cycles among them again and again takes a third of the time.

It is the whole process's, so it rests for that time only, a second for a million values, and wakes up in a forked child.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager

_resting = False


@contextmanager
def at_rest() -> Iterator[None]:
    """No collection inside the ``with``, while no other thread that was in here too has left; where nobody collects nothing
    changes."""
    global _resting
    if not (gc.isenabled() or _resting):
        yield
        return
    _resting = True
    try:
        try:
            gc.disable()
            yield
        finally:
            _wake()
    finally:  # an interrupt may come in the other one, and garbage would pile up for as long as the process lives
        _wake()


def _wake() -> None:
    global _resting
    gc.enable()
    _resting = False


def _wake_in_child() -> None:
    if _resting:
        _wake()


os.register_at_fork(after_in_child=_wake_in_child)
