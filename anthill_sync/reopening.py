"""A store that is open from the start or, out of a pickle, when it is first used: in another process, perhaps."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from .creating import open_session
from .errors import InvalidArgument, StoreClosed
from .session import Session

if TYPE_CHECKING:
    from typing_extensions import Self

    from .reader import Reader

_MAY_HOLD_SECRETS = ("objects.", "proxy")  # settings whose names begin so: credentials, a URL with a password


def without_secrets(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those that may be kept, pickled and shown."""
    return {name: settings[name] for name in settings if not name.startswith(_MAY_HOLD_SECRETS)}


@dataclass(frozen=True)
class Opening:
    """Everything ``Store.open`` was told but the passphrase, which is nowhere kept."""

    home: Path
    why: str = "it was named"  # that home
    lock_wait: float = 0.0  # seconds
    read_only: bool = False
    settings: Mapping[str, Any] | None = None

    def open(self, passphrase: str | None = None) -> Session:
        """Open the store."""
        return open_session(self.home, self.why, passphrase, self.settings, lock_wait=self.lock_wait, read_only=self.read_only)

    def for_another_process(self) -> Opening:
        """The same without settings that may hold a secret: there they come from ``config.json`` or the environment."""
        return replace(self, settings=without_secrets(self.settings or {}))


class Openable:
    """What a ``Store`` is besides its values."""

    def __init__(self, session: Session, opening: Opening | None = None) -> None:
        """Use ``Store.open`` or ``Store.create``."""
        self._prepare(opening or Opening(session.home), session)

    def _prepare(self, opening: Opening, session: Session | None = None) -> None:
        self._opening = opening
        self._opening_lock = threading.Lock()  # guards _opened, of a store that is opened when it is first used
        self._opened = session
        self._closed = False

    def __reduce__(self) -> tuple[Any, ...]:
        """A pickle has home and options, no secret, and is opened, with the key file, when it is first used."""
        if self._opened is not None:
            _check_can_move(self._opened)
        return _unpickled, (type(self), self._opening.for_another_process())

    @property
    def home(self) -> Path:
        return self._opening.home

    @property
    def _session(self) -> Session:
        if self._opened is None:
            with self._opening_lock:
                if self._closed:
                    raise StoreClosed("the Store is closed")
                if self._opened is None:
                    self._opened = self._opening.open()
        return self._opened

    @property
    def _reader(self) -> Reader:
        from .reader import Reader  # here: who lists keys reads no value

        return Reader(self._session)

    def close(self) -> None:
        """Close the store. Mutations running in other threads are stopped and get 4 seconds. Safe to repeat."""
        with self._opening_lock:
            self._closed = True
        if self._opened is not None:
            self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def _unpickled(kind: type[Openable], opening: Opening) -> Openable:
    store = kind.__new__(kind)
    store._prepare(opening)
    return store


def _check_can_move(session: Session) -> None:
    """``InvalidArgument`` for a store that is in this process only."""
    if session.network.properties.scheme == "memory":
        raise InvalidArgument("the pads of a memory:// store are in this process only: it cannot be pickled")
