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
    """No collection inside the ``with``; where nobody collects, or another thread is in here already, nothing changes."""
    global _resting
    if not gc.isenabled():
        yield
        return
    _resting = True
    try:
        gc.disable()
        yield
    finally:
        _wake()


def _wake() -> None:
    global _resting
    if _resting:
        _resting = False
        gc.enable()


os.register_at_fork(after_in_child=_wake)
