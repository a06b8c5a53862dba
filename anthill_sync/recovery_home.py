"""``recover`` where no store is, or where ``config.json`` is damaged: what a store is, from key, slot and network alone."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from . import durable
from .config import CONFIG_NAME, EMBEDDED_NETWORK, KEY_NAME, Config, make_home, read_config, write_config
from .creating import connect, probe
from .errors import ConfigurationError, IndexDamaged, LocalIOError, NoRoom, NoStore
from .journal import JOURNAL_NAME, LOCK_NAME, SNAPSHOT_NAME
from .keys import MasterKey, read_key_file
from .lock import check_flock
from .networks import normalise_url
from .networks.base import Network
from .pads import Pads
from .pipeline import Pipeline
from .recovery import recover
from .recovery_scan import Found, Scan, pad_size_of, scan
from .reports import RecoveryReport
from .sealing import Sealer
from .session import Session
from .settings import CHUNK_MARGIN, MAX_PAD_SIZE, Settings, resolve


def recover_home(
    home: Path,
    why: str,
    *,
    network: str | None,
    key_file: Path | None,
    slot: int,
    passphrase: str | None,
    settings: Mapping[str, Any] | None,
    lock_wait: float,
) -> RecoveryReport:
    """Rebuild the index of the store in ``home``, or make that store from its pads; see ``Store.recover``."""
    config = _readable_config(home, why)
    if config is not None:
        _check_same(home, config, network, key_file, slot)
        resolved = resolve(config.settings, settings)
        return _recover(home, config, read_key_file(config.key_path(home), passphrase), resolved, lock_wait)
    url = _url(home, network)
    if slot < 0:
        raise ConfigurationError(f"slot {slot}: a slot is a whole number from 0")
    resolved = resolve(settings or {})
    named = None if key_file is None or key_file.absolute() == home / KEY_NAME else str(key_file.absolute())
    wanted = Config(url, MAX_PAD_SIZE, MAX_PAD_SIZE - CHUNK_MARGIN, slot, {}, named, settings or {})
    key = read_key_file(wanted.key_path(home), passphrase)
    return make_from_pads(home, wanted, key, resolved, lock_wait)


def _readable_config(home: Path, why: str) -> Config | None:
    try:
        return read_config(home, why)
    except (NoStore, IndexDamaged):
        return None


def _check_same(home: Path, config: Config, network: str | None, key_file: Path | None, slot: int) -> None:
    """An existing store is never turned into another one."""
    other = [
        network is not None and normalise_url(network, Path.cwd()) != normalise_url(config.network, home.absolute()),
        key_file is not None and key_file.absolute() != config.key_path(home).absolute(),
        slot not in (0, config.slot),
    ]
    if any(other):
        raise NoRoom(
            f"{home} holds a store with another network, key file or slot; without these options its index is rebuilt, "
            "and for the other store choose another --home"
        )


def _url(home: Path, network: str | None) -> str:
    if network is not None:
        return normalise_url(network, Path.cwd())
    if (home / EMBEDDED_NETWORK.removeprefix("dir:")).is_dir():
        return EMBEDDED_NETWORK
    command = f"anthill --home {shlex.quote(str(home))} recover --network URL --key-file FILE [--slot N]"
    raise ConfigurationError(f"no readable store in {home}; make it from its pads with: {command}")


def make_from_pads(home: Path, wanted: Config, key: MasterKey, settings: Settings, lock_wait: float) -> RecoveryReport:
    """The index first; ``config.json`` last, because it says that the store exists."""
    network = connect(home, wanted, settings)
    try:
        found = _look(network, key, wanted, settings)
        size = pad_size_of(found, network.properties.pad_size)
    finally:
        network.close()
    config = replace(wanted, pad_size=size, chunk_size=size - CHUNK_MARGIN, store=key.store_id(wanted.slot).hex())
    config = replace(config, facts=probe(home, config, key, settings, check_empty=False))
    make_home(home)
    try:
        check_flock(home / LOCK_NAME)
        fresh = not any(
            (home / name).exists() for name in (SNAPSHOT_NAME, JOURNAL_NAME)
        )  # else a process that still has the store open may be writing
        report = _recover(home, config, key, settings, lock_wait, found if fresh else None)
        if (home / CONFIG_NAME).exists():
            kept = durable.keep(home / CONFIG_NAME)
            report = replace(report, kept=(*report.kept, str(kept)))
    except OSError as error:
        raise LocalIOError(f"{home}: {error.strerror}") from error
    write_config(home, config)
    return replace(report, changed=True)


def _look(network: Network, key: MasterKey, config: Config, settings: Settings) -> Scan:
    pipeline = Pipeline(settings)
    try:
        found = scan(Pads(network, key, config.slot, Sealer(key, config.slot)), pipeline, 0)
    finally:
        pipeline.close()
    if found.found.count(Found.ABSENT) == found.pads:
        raise ConfigurationError(
            f"no pad of this key in slot {config.slot} is on {config.network}; nothing was made. Are key file, slot and network "
            "the right ones?"
        )
    return found


def _recover(
    home: Path, config: Config, key: MasterKey, settings: Settings, lock_wait: float, found: Scan | None = None
) -> RecoveryReport:
    network = connect(home, config, settings)
    session = Session(home, config, key, settings, network, lock_wait=lock_wait, read_only=False)
    try:
        return recover(session, found)
    finally:
        session.close()
