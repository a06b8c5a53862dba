"""What all pieces of work share."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

Answer = dict[str, Any]


def timed(action: Callable[[], object]) -> float:
    """Seconds that ``action`` takes, begun when the disk has no older work."""
    os.sync()
    began = time.perf_counter()
    action()
    return time.perf_counter() - began
