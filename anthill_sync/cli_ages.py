"""Whether a value is recent enough: what a monitor asks."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from .errors import ConditionNotMet, KeyNotFound
from .render import human_duration, timestamp

if TYPE_CHECKING:
    from .store import Store
    from .summaries import Entry

_CLOCK_ERROR = 60.0  # seconds that this machine's clock may have been set back without a word


def recent(store: Store, key: str, limit: float, now: datetime) -> Entry:
    """The value's entry; ``ConditionNotMet`` says which it is when the value is absent, older than ``limit`` seconds, or
    of a time that has not come yet and proves nothing."""
    try:
        entry = store.stat(key)
    except KeyNotFound as error:
        raise ConditionNotMet(str(error), key=key) from error
    age = (now - entry.modified).total_seconds()
    if age > limit:
        raise ConditionNotMet(f"{key!r} is {human_duration(age)} old, older than {human_duration(limit)}", key=key)
    if age < -_CLOCK_ERROR:
        raise ConditionNotMet(
            f"{key!r} was stored at {timestamp(entry.modified)}, which is still to come: look at the clock", key=key
        )
    return entry
