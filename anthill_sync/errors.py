"""One hierarchy of errors; every class knows the exit code the command line ends with.

All of them pickle, so they cross process pools and queues. ``context`` carries the named facts a
script may want (``key``, ``pad``, ``step``, ``attempts``, ``resume``); it never holds a secret.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def _rebuild(kind: type[AnthillError], message: str, state: dict[str, Any]) -> AnthillError:
    error = kind(message)
    error.__dict__.update(state)
    return error


class AnthillError(Exception):
    """Base of every error this package raises on purpose."""

    exit_code = 70

    def __init__(self, message: str, **context: Any) -> None:
        super().__init__(message)
        self.message = message
        self.published: dict[str, Any] = {}  # entries that a put_many had published before it failed
        self.context: Mapping[str, Any] = {k: v for k, v in context.items() if v is not None}

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message, dict(self.__dict__))


# -- a condition the caller set was not met (3), or only a part was done (4)


class ConditionNotMet(AnthillError):
    """The command was understood and refused to act because of the caller's own condition."""

    exit_code = 3


class KeyExists(ConditionNotMet):
    """``if_absent`` was given, or a rename without force, and the key has a value."""


class OperationCancelled(ConditionNotMet):
    """The question ``ConfirmReservation`` was answered no."""


class PartialFailure(AnthillError):
    """Some of several things could not be done; the rest is done."""

    exit_code = 4


# -- the caller's input (64, 66)


class InvalidArgument(AnthillError, ValueError):
    """A key, size, range or option that cannot mean anything."""

    exit_code = 64


class KeyNotFound(AnthillError, KeyError):
    """No value under this key."""

    exit_code = 66


class SourceNotFound(AnthillError):
    """The source file is not there or cannot be read as a file."""

    exit_code = 66


class IncompleteSource(AnthillError):
    """The source gave nothing, or said at its end that what it gave is not whole. Nothing was published."""

    exit_code = 66


# -- stored state (65)


class Damaged(AnthillError):
    """Stored bytes are not what was written. Nothing was overwritten."""

    exit_code = 65


class IndexDamaged(Damaged):
    """The index snapshot, the journal, the configuration or the key file does not verify."""


class BlockDamaged(Damaged):
    """A block, a pad's header or a pad's table does not open."""


# -- this machine (73, 74)


class NoRoom(AnthillError):
    """A disk, a quota or ``max_pads`` leaves no room; or the destination may not be written."""

    exit_code = 73


class PadLimitExceeded(NoRoom):
    """More pads would be reserved than ``max_pads`` allows."""


class DestinationExists(NoRoom):
    """The destination is there and overwriting it was not asked for."""


class LocalIOError(AnthillError):
    """An input or output error of this machine, as the operating system reported it."""

    exit_code = 74


class StoreClosed(AnthillError):
    """The Store was closed, or closed itself after a failed journal write, whose exit code it then has."""

    exit_code = 74

    def __init__(self, message: str, failure: AnthillError | None = None, **context: Any) -> None:
        super().__init__(message, **context)
        if failure is not None:
            self.exit_code = failure.exit_code


# -- later (75)


class TryAgain(AnthillError):
    """Nothing is wrong with the request; running it again can succeed."""

    exit_code = 75


class StoreLocked(TryAgain):
    """Another run holds the store's lock."""


class SourceChanged(TryAgain):
    """The source changed while it was read; nothing was published."""


class ValueChanged(TryAgain):
    """The value was replaced while it was being read, after output had begun or three times over."""


class Interrupted(TryAgain):
    """The operation was stopped from outside before it ended."""


class RewriteFailed(TryAgain):
    """The change is made, but pads that still hold its old manifests could not all be rewritten."""


# -- the network; translated once, at each network's border


class NetworkError(AnthillError):
    """Base of what a network reports."""

    exit_code = 69


class TransientNetworkError(NetworkError):
    """May succeed when repeated. ``retry_after`` is in seconds, None where the network gave none;
    ``slow_down`` is True where the network asked all of us to send less (429, 503)."""

    exit_code = 75

    def __init__(self, message: str, retry_after: float | None = None, slow_down: bool = False, **context: Any) -> None:
        super().__init__(message, **context)
        self.retry_after = retry_after
        self.slow_down = slow_down


class PermanentNetworkError(NetworkError):
    """Repeating the same call cannot succeed."""


class NetworkNotFound(PermanentNetworkError):
    """The network is definitely not there."""


class PadNotFound(PermanentNetworkError):
    """No pad of this address was ever reserved or written."""

    exit_code = 65


class PadConflict(PermanentNetworkError):
    """The pad holds another image than the one this store wrote last: another writer."""

    exit_code = 76


class ProtocolError(PermanentNetworkError):
    """The other side does not follow the protocol, or is not who it should be."""

    exit_code = 76


class AccessDenied(PermanentNetworkError):
    """The network refuses these credentials."""

    exit_code = 77


class OutOfSpace(PermanentNetworkError):
    """The network has no room left (disk full, quota)."""

    exit_code = 73


class StorageFailure(PermanentNetworkError):
    """The embedded directory's own disk reports an input or output error."""

    exit_code = 74


# -- the other side of the store (76, 77, 78)


class AnotherWriter(AnthillError):
    """A pad holds an image that this store's index does not explain. Nothing was written."""

    exit_code = 76


class RolledBack(AnthillError):
    """The index or a pad is older than a state already seen."""

    exit_code = 76


class PermissionRefused(AnthillError):
    """File permissions or a passphrase do not allow this."""

    exit_code = 77


class WrongPassphrase(PermissionRefused):
    """The passphrase does not open the key file."""


class WrongKey(PermissionRefused):
    """A whole key, but not that of this store."""


class ConfigurationError(AnthillError):
    """Configuration: no store, bad URL, unknown setting, a question with nobody to ask."""

    exit_code = 78


class NoStore(ConfigurationError):
    """There is no store at this path."""


class UnknownFormat(ConfigurationError):
    """A format version this program does not know."""


class UsedAfterFork(AnthillError):
    """A Store belongs to the process that opened it."""


class NestedMutation(AnthillError):
    """A mutation was started from inside a callback or source of the same Store."""

    exit_code = 64


class PutFailed(AnthillError):
    """A put stopped at its first persistent failure.

    ``context`` names ``key``, ``pad``, ``step`` (reserve, read source, write, confirm, ...),
    ``attempts``, ``done`` and ``total`` (chunks) and ``resume`` (True: running it again goes on where
    it stopped). ``__cause__`` is the first failure and gives the exit code.
    """

    def __init__(self, message: str, exit_code: int = 75, **context: Any) -> None:
        super().__init__(message, **context)
        self.exit_code = exit_code


class OutOfTime(PutFailed):
    """``max_duration`` is over. What was committed stays, and the same call goes on from there."""
