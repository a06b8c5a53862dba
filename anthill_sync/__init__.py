"""anthill_sync: a private, mutable key-value store for plain synchronous Python.

The words, in the order the data flows:

- *key*, *value*: the user's name (str) and bytes. A value is cut into *chunks*; one sealed chunk is a *block*.
- *pad*: one scratchpad, a record of at most ``pad_size`` bytes on the *network*, always replaced whole. Its name there
  is its *address*, its version its *counter*, its whole bytes its *image*.
- *extent*: ``(pad, offset, length)``, where one block lies. The ``MemoryMap`` knows which are free; the
  ``MemoryAllocator`` plans, *reserves* pads, and writes.
- *commit*: the network has confirmed a pad's new image and the index records it. *Publish*: the one record that makes a
  new value the current one.
- ``MasterIndex``: key -> published value, the pads, ``pending_uploads``; changed through the *journal* only.
- *run*: one process's time as writer of a store. *Data id*: names one attempt at one put.

Importing this package starts nothing and imports no HTTP library.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any

if sys.platform == "win32":
    raise ImportError("anthill_sync needs POSIX file locks and runs on Linux and macOS only, not on Windows.")

if TYPE_CHECKING:
    from .errors import (
        AnthillError,
        ConditionNotMet,
        Damaged,
        KeyNotFound,
        NetworkError,
        OperationCancelled,
        PutFailed,
        StoreLocked,
        TryAgain,
    )
    from .reports import CheckReport, DrillReport, Problem, RecoveryReport, Usage
    from .store import Store
    from .summaries import Entry, Pending, ResumeReport

__version__ = "0.1.0"

_HOMES = {
    "Store": "store",
    **dict.fromkeys(("Entry", "Pending", "ResumeReport"), "summaries"),
    **dict.fromkeys(("CheckReport", "DrillReport", "Problem", "RecoveryReport", "Usage"), "reports"),
    **dict.fromkeys(
        (
            "AnthillError",
            "ConditionNotMet",
            "Damaged",
            "KeyNotFound",
            "NetworkError",
            "OperationCancelled",
            "PutFailed",
            "StoreLocked",
            "TryAgain",
        ),
        "errors",
    ),
}

__all__ = [
    "AnthillError",
    "CheckReport",
    "ConditionNotMet",
    "Damaged",
    "DrillReport",
    "Entry",
    "KeyNotFound",
    "NetworkError",
    "OperationCancelled",
    "Pending",
    "Problem",
    "PutFailed",
    "RecoveryReport",
    "ResumeReport",
    "Store",
    "StoreLocked",
    "TryAgain",
    "Usage",
]

logging.getLogger("anthill_sync").addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: ``import anthill_sync`` itself costs next to nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
