"""``Store``: a private, mutable mapping from names to bytes on storage that is not trusted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar, overload

from .config import default_home as _default_home
from .entries import check_key, check_prefix, detail_of, entry_of, pending_of, under, value_of
from .errors import AnthillError, InvalidArgument, KeyNotFound
from .late import Late
from .opens import Opens
from .reopening import Openable, Opening
from .settings import Settings

if TYPE_CHECKING:
    from . import creating, opening, putting, removing
    from .events import Confirm, ConfirmReservation, OnEvent
    from .reader import OnProgress
    from .reports import CheckReport, DrillReport, Problem, RecoveryReport, Usage
    from .sources import SourceLike
    from .summaries import Entry, Pending, ResumeReport
else:  # who only lists keys waits for none of them
    creating, opening = Late("creating"), Late("opening")
    putting, removing = Late("putting"), Late("removing")

D = TypeVar("D")


def default_home() -> Path:
    """Where a store is when nothing names another place: ``$ANTHILL_HOME``, else the user data directory."""
    return _default_home()[0]


class Store(Openable, MutableMapping[str, bytes]):
    """An open store. From many threads, not across ``fork``; every error is an ``AnthillError`` with ``exit_code``.

    Mutations of different keys run at once and share pads and syncs; those of one key keep their order. ``in``,
    ``len``, iteration, ``clear`` and ``==`` (identity) read the index only.
    """

    @classmethod
    def create(
        cls,
        home: str | Path | None = None,
        *,
        network: str | None = None,
        key_file: Path | None = None,
        slot: int = 0,
        pad_size: int | None = None,
        passphrase: str | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> Store:
        """Make a store and open it. ``network``: a URL, None for a directory inside the home. ``pad_size`` in bytes. An
        existing ``key_file`` is used, never overwritten; ``passphrase`` wraps a new one, or opens the existing one."""
        place = default_home() if home is None else Path(home).absolute()
        wanted: dict[str, Any] = {"network": network, "key_file": key_file, "slot": slot, "pad_size": pad_size}
        creating.create(place, **wanted, passphrase=passphrase, settings=settings)
        return cls.open(place, passphrase=passphrase)

    @classmethod
    def _open_store(
        cls,
        home: str | Path | None = None,
        *,
        passphrase: str | None = None,
        lock_wait: float = 0.0,
        read_only: bool = False,
        settings: Mapping[str, Any] | None = None,
    ) -> Store:
        """Open a store. ``lock_wait``: seconds a mutation waits for another process's lock. ``settings`` override the
        environment and ``config.json``. Nothing is locked, and no thread runs, until a mutation needs it."""
        place, why = _default_home() if home is None else (Path(home).absolute(), "it was named")
        opening = Opening(place, why, lock_wait, read_only, settings)
        return cls(opening.open(passphrase), opening)

    open = Opens(lambda kind: kind._open_store, lambda store: opening.ValueOpener(store._session, store._reader))

    @classmethod
    def recover(
        cls,
        home: str | Path | None = None,
        *,
        network: str | None = None,
        key_file: Path | None = None,
        slot: int = 0,
        passphrase: str | None = None,
        settings: Mapping[str, Any] | None = None,
        lock_wait: float = 0.0,
    ) -> RecoveryReport:
        """Rebuild a store's index from its pads, and from what is still sound of the index; a sound index stays as it is.
        Where no store is, or ``config.json`` is damaged, ``network``, ``key_file`` and ``slot`` say which pads; a store
        that is there is never turned into another one. Files that are replaced stay beside under names of their own."""
        from . import recovery_home

        place, why = _default_home() if home is None else (Path(home).absolute(), "it was named")
        return recovery_home.recover_home(
            place,
            why,
            network=network,
            key_file=key_file,
            slot=slot,
            passphrase=passphrase,
            settings=settings,
            lock_wait=lock_wait,
        )

    @property
    def key_path(self) -> Path:
        """The key file: losing it loses everything."""
        return self._session.config.key_path(self.home)

    @property
    def network_url(self) -> str:
        return self._session.config.network

    @property
    def settings(self) -> Settings:
        return self._session.settings

    # -- putting

    def put(
        self,
        key: str,
        source: SourceLike,
        *,
        if_absent: bool = False,
        confirm: Confirm | None = None,
        on_event: OnEvent | None = None,
        max_pads: int | None = None,
        attributes: Mapping[str, Any] | None = None,
        max_duration: float | None = None,
    ) -> Entry:
        """Store the bytes of ``source`` (bytes-like, a path, a binary file, an iterable of bytes) under ``key``; when it
        returns they survive power loss. A failed put leaves the old value; the same put again resumes. After
        ``max_duration`` seconds nothing new is sent, and ``OutOfTime`` is raised."""
        by_key = {key: attributes} if attributes else None
        options = putting.PutOptions(if_absent, confirm, on_event, max_pads, by_key, max_duration=max_duration)
        return putting.put_many(self._session, [(key, source)], options)[key]

    def put_many(
        self,
        items: Mapping[str, SourceLike] | Iterable[tuple[str, SourceLike]],
        *,
        if_absent: bool = False,
        confirm: Confirm | None = None,
        on_event: OnEvent | None = None,
        max_pads: int | None = None,
        attributes: Mapping[str, Mapping[str, Any]] | None = None,
        on_source_error: Callable[[str, AnthillError], object] | None = None,
        max_duration: float | None = None,
    ) -> dict[str, Entry]:
        """Store many values in one pipeline, small ones packed together; each is published on its own. On failure the
        error's ``published`` has those that were. ``on_source_error`` hears of a source that cannot be read or that
        changed (perhaps on a worker's thread), and the others go on without it."""
        options = putting.PutOptions(if_absent, confirm, on_event, max_pads, attributes, on_source_error, max_duration)
        return putting.put_many(self._session, items, options)

    def estimate(
        self,
        sizes: Mapping[str, int | None],
        *,
        if_absent: bool = False,
        max_pads: int | None = None,
        attributes: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> ConfirmReservation:
        """What a put of values of these sizes in bytes (None: a stream) would ask to reserve now, and what is free. Waits
        for nobody and changes nothing; raises what such a put would raise before it reserves anything."""
        options = putting.PutOptions(if_absent, max_pads=max_pads, attributes=attributes)
        return putting.estimate(self._session, sizes, options)

    def pending(self) -> list[Pending]:
        """Interrupted puts, in byte order of their keys."""
        return [pending_of(key, pending) for key, pending in sorted(self._session.index().pending_uploads.items())]

    def resume(
        self,
        *keys: str,
        confirm: Confirm | None = None,
        on_event: OnEvent | None = None,
        max_duration: float | None = None,
    ) -> ResumeReport:
        """Finish interrupted puts (all when none is named) whose source file can be read; the report names the others."""
        return putting.resume(self._session, keys, confirm=confirm, on_event=on_event, max_duration=max_duration)

    def abandon(self, *keys: str) -> list[str]:
        """Give interrupted puts up (all when none is named) and free their pads; their keys."""
        return removing.abandon(self._session, keys)

    def reserve(self, count: int, *, confirm: Confirm | None = None, on_event: OnEvent | None = None) -> int:
        """Reserve ``count`` pads ahead of need; how many were."""
        return putting.reserve(self._session, count, confirm=confirm, on_event=on_event)

    def trim(self, *, on_event: OnEvent | None = None) -> int:
        """Empty all free pads on the network; how many."""
        return removing.trim(self._session, on_event)

    # -- getting

    @overload
    def get(self, key: str) -> bytes | None: ...
    @overload
    def get(self, key: str, default: D) -> bytes | D: ...
    def get(self, key: str, default: Any = None) -> Any:
        """The value, or ``default`` when there is none."""
        try:
            return self[key]
        except KeyNotFound:
            return default

    def get_into(
        self,
        key: str,
        destination: str | Path | BinaryIO,
        *,
        offset: int = 0,
        length: int | None = None,
        overwrite: bool = True,
        on_progress: OnProgress | None = None,
    ) -> Entry:
        """Write the value, or ``length`` bytes of it from ``offset``, to a path (beside it, verified, synced, renamed) or
        to a binary file, in constant memory. ``on_progress(bytes done, bytes in all)`` runs on the calling thread."""
        check_key(key)
        if isinstance(destination, (str, Path)):
            value = self._reader.into_file(
                key, Path(destination), offset=offset, length=length, overwrite=overwrite, on_progress=on_progress
            )
        else:
            value = self._reader.into_stream(key, destination, offset=offset, length=length, on_progress=on_progress)
        return entry_of(key, value)

    def entries(self, prefix: str = "") -> list[Entry]:
        """Values in byte order of their keys: the key ``prefix`` and all below it; ``''`` means all."""
        wanted = check_prefix(prefix)
        values = self._session.index().values
        return [entry_of(key, values[key]) for key in sorted(values) if under(wanted, key)]

    def stat(self, key: str, *, blocks: bool = True) -> Entry:
        """One value in full; without its ``blocks``, of which a large one has many, it takes no time."""
        value = value_of(self._session.index(), check_key(key))
        return detail_of(key, value) if blocks else entry_of(key, value)

    # -- removing

    def delete(self, *keys: str, ignore_missing: bool = False) -> list[str]:
        """Remove values, all or none; those that were there. ``RewriteFailed``: they are removed, but old manifests
        are left on the network for later runs."""
        return removing.delete(self._session, keys, ignore_missing=ignore_missing)

    def delete_prefix(self, prefix: str) -> list[str]:
        """Remove the key and all keys below it; ``''`` is refused: use ``clear``."""
        if not prefix:
            raise InvalidArgument("an empty prefix would remove everything")
        return removing.delete_prefix(self._session, check_prefix(prefix))

    def rename(self, old: str, new: str, *, force: bool = False) -> Entry:
        """Give a value another name; ``force`` replaces a value that is there."""
        return removing.rename(self._session, old, new, force=force)

    # -- questions

    def usage(self) -> Usage:
        """The store in numbers."""
        from .reports import Usage  # here and below: most programs never ask

        session, config = self._session, self._session.config

        def count(quiet: bool) -> Usage:
            pads, size, fill = session.allocator.get_storage_and_pad_summary()
            ranges, keys = session.allocator.extent_ranges(), len(session.journal.index.values)
            return Usage(pads, size, keys, config.network, config.slot, config.facts, fill, ranges)

        return session.answer(count)

    def check(
        self,
        prefix: str = "",
        *,
        read_data: bool = False,
        sample: float | None = None,
        seed: int | None = None,
        max_seconds: float | None = None,
    ) -> CheckReport:
        """Prove the index, its files and the memory map; with ``read_data`` read and open every block below ``prefix``, with
        ``sample`` that random percentage of them. Without either limit every pad is compared with the index as well. With
        ``max_seconds`` as many blocks as that time allows, from where the last such check stopped, which is remembered in
        the home."""
        from . import checking_rounds
        from .checking import CheckOptions

        options = CheckOptions(check_prefix(prefix), read_data, sample, seed)
        return checking_rounds.check(self._session, options, max_seconds)

    def drill(self, *, values: int = 10, seed: int | None = None) -> DrillReport:
        """Rebuild the index from key and network alone, in a temporary home, compare it with this one, and read ``values``
        random values of it. Changes nothing here and on the network, and waits for nobody."""
        from . import drilling

        return drilling.drill(self._session, values=values, seed=seed)

    def repair(self, *, on_problem: Callable[[Problem], object] | None = None) -> RecoveryReport:
        """Read and prove everything, then mend it: the index as ``recover`` does, and damaged pads, off which all that can
        be read is taken first. ``on_problem`` hears of each thing that is wrong before anything is changed. On a sound
        store nothing is written."""
        from . import repairing

        return repairing.repair(self._session, on_problem or (lambda problem: None))

    # -- MutableMapping

    def __getitem__(self, key: str) -> bytes:
        return self._reader.get(check_key(key))

    def __setitem__(self, key: str, value: bytes) -> None:
        self.put(key, value)

    def __delitem__(self, key: str) -> None:
        self.delete(key)

    def __contains__(self, key: object) -> bool:
        return key in self._session.index().values

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._session.index().values))

    def __len__(self) -> int:
        return len(self._session.index().values)

    def clear(self) -> None:
        """Remove every value, in one step."""
        removing.delete_prefix(self._session, "")

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        return f"<Store {self.home}{', not opened yet' if self._opened is None else f' on {self.network_url}'}>"
