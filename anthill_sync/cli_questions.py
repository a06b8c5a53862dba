"""The one question a command may ask: may pads be reserved?"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Protocol

from .errors import ConfigurationError, InvalidArgument
from .render import human_size, plural

if TYPE_CHECKING:
    from .events import ConfirmReservation
    from .store import Store


class Asked(Protocol):
    """What the command line said that matters for the answer."""

    yes: bool
    max_pads: int | None

    @property
    def can_ask(self) -> bool:
        """A person is there to ask."""

    def clear_screen(self) -> None:
        """Make room for a question."""


def answer_reservation(question: ConfirmReservation, store: Store, asked: Asked) -> bool:
    """True where the settings, ``--yes`` or the person at the terminal agree; nobody to ask is 78."""
    from .config import read_config

    policy = store.settings.confirm
    paid = bool(read_config(store.home).facts.get("reservation_is_paid"))
    if policy == "never" or (policy == "paid" and not paid):
        return True
    if paid and question.data_size is None and asked.max_pads is None:
        raise InvalidArgument("a stream on a network that charges needs --max-pads: its size is not known")
    if asked.yes:
        return True
    if not asked.can_ask:
        raise ConfigurationError(f"{describe(question)}; nobody to ask without a terminal: give --yes")
    asked.clear_screen()
    return _ask(f"{describe(question)}. Reserve? [y/N] ")


def describe(question: ConfirmReservation) -> str:
    """What would be reserved, what is there, and the cost when known."""
    bound = "at most " if question.at_most else ""
    size = "" if question.data_size is None else f" for {human_size(question.data_size)} of data"
    cost = "" if question.estimated_cost is None else f", cost {question.estimated_cost}"
    return (
        f"{bound}{plural(question.needed, 'pad')} ({human_size(question.needed_bytes)}) to reserve{size}; "
        f"{question.free_pads} of {plural(question.total_pads, 'pad')} and {human_size(question.free_bytes)} are free{cost}"
    )


def _ask(text: str) -> bool:
    sys.stderr.write(text)
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")
