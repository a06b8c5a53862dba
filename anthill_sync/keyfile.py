"""A store's key file: whether a copy of the key opens the store, and another passphrase around it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from . import durable
from .config import Config
from .creating import connect
from .errors import BlockDamaged, ConfigurationError, LocalIOError, PadNotFound, PermissionRefused, TryAgain, WrongKey
from .index import PadStatus
from .keys import MasterKey, encode_key, encode_wrapped_key, read_key_file
from .lock import try_flock
from .session import Session
from .settings import Settings

_PADS_TRIED = 3  # one that opens is proof enough; a single damaged one is no proof of the opposite


def open_with(home: Path, config: Config, settings: Settings, key: MasterKey) -> int | None:
    """The number of a pad of the store in ``home`` that ``key`` finds and opens; None where nothing was ever stored, and
    the store's id alone tells that it is the right one.

    ``WrongKey`` when it is another store's, or opens none of the pads tried; ``ConfigurationError`` when nothing was ever
    stored and the id is not known either. Reads only.
    """
    if config.store not in (None, key.store_id(config.slot).hex()):
        raise WrongKey(f"this is the key of another store or slot, not of the one in {home}")
    session = Session(home, config, key, settings, connect(home, config, settings), lock_wait=0, read_only=True)
    try:
        status = session.index().status
        tried = list(islice((pad for pad, each in enumerate(status) if each == PadStatus.COMMITTED), _PADS_TRIED))
        opened = next((pad for pad in tried if _opens(session, pad)), None)
    finally:
        session.close()
    if not tried and config.store is not None:
        return None
    if not tried:
        raise ConfigurationError(f"nothing is stored in {home} yet, so there is nothing that a key could open")
    if opened is None:
        raise WrongKey(
            f"this key opens none of the pads {', '.join(map(str, tried))} of the store in {home}: it is the key of another "
            "store or slot, or these pads are damaged (anthill check --read-data tells)"
        )
    return opened


def _opens(session: Session, pad: int) -> bool:
    """A pad's name and its table's seal both derive from the key."""
    try:
        header, packed = session.pads.read_header(pad)
        if header is None:
            return False
        session.pads.read_table(pad, header, packed)
    except (PadNotFound, BlockDamaged):
        return False
    return True


def change_passphrase(path: Path, old: str | None, new: str | None) -> None:
    """Wrap the key in the file ``path`` with ``new`` (None: not at all) instead of ``old``, in one step.

    The old file stays in place until the new one was read back and opened. ``TryAgain`` when another process is doing
    the same. Copies of the old file still open with the old passphrase: the key in it is the same.
    """
    path = path.resolve()  # a symlink stays one
    try:
        with _claimed(path):
            key = read_key_file(path, old)
            text = encode_key(key) if new is None else encode_wrapped_key(key, new)
            durable.replace_file(path, text.encode("ascii"), prove=lambda written: _check_same(written, new, key))
    except PermissionError as error:
        raise PermissionRefused(f"{path}: {error.strerror}; the key file is as it was") from error
    except OSError as error:
        raise LocalIOError(f"{path}: {error.strerror}; the key file is as it was, or is the new one") from error


@contextmanager
def _claimed(path: Path) -> Iterator[None]:
    """Nobody else replaces the file meanwhile. The lock is on the file itself, which the rename replaces: whoever comes
    too late holds a lock on a file that is gone."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise ConfigurationError(f"there is no key file at {path}") from None
    try:
        if not try_flock(fd) or not os.path.samestat(os.fstat(fd), os.stat(path)):
            raise TryAgain(f"another process is changing the passphrase of {path}")
        yield
    finally:
        os.close(fd)


def _check_same(written: Path, passphrase: str | None, key: MasterKey) -> None:
    if read_key_file(written, passphrase) != key:
        raise LocalIOError(f"{written} does not read back as it was written; the key file is as it was")
