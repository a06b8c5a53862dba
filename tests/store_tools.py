"""A store over a network that counts, holds and fails; and what must be true of every store at rest.

Every image that is written is watched: its pad stands in a durable ``writing`` record, lies within the window, keeps
every live block where it was and zeros between them, and no (data id, chunk) is ever sealed twice.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from anthill_sync import Store
from anthill_sync.config import read_config
from anthill_sync.errors import PermanentNetworkError, TransientNetworkError
from anthill_sync.image import Header, Table, parse_header, parse_table
from anthill_sync.index import MasterIndex
from anthill_sync.keys import read_key_file
from anthill_sync.lines import scan
from anthill_sync.memory_map import Kind, MemoryMap
from anthill_sync.networks import open_network
from anthill_sync.networks.base import Buffer, Network
from anthill_sync.networks.retrying import RetryingNetwork
from anthill_sync.sealing import Sealer
from anthill_sync.session import Session
from anthill_sync.settings import CHUNK_MARGIN, FRESH_WINDOW, resolve
from anthill_sync.space import HEADER_SIZE
from anthill_sync.takeover import map_of
from tests.support import PATIENCE, FaultyNetwork, Seen

PAD = 16 * 1024
CHUNK = PAD - CHUNK_MARGIN


def chunks_of(*fills: int) -> bytes:
    """Full chunks, each of one repeated byte."""
    return b"".join(bytes([fill]) * CHUNK for fill in fills)


def permanent() -> PermanentNetworkError:
    """A failure that no repeat heals."""
    return PermanentNetworkError("the network says no")


def transient() -> TransientNetworkError:
    """A failure that is repeated."""
    return TransientNetworkError("try me again")


def wait_until(ready: Callable[[], bool], problem: Callable[[], str]) -> None:
    """Return once ``ready``; for what no hook tells of."""
    pause = threading.Event()
    for _ in range(int(PATIENCE * 200)):
        if ready():
            return
        pause.wait(0.005)
    raise AssertionError(problem())


def gaps_of(image: Buffer, header: Header, table: Table) -> bytes:
    """The bytes of an image's payload that are no block's."""
    gaps, position = b"", HEADER_SIZE
    for entry in sorted(table.entries, key=lambda entry: entry.offset):
        gaps += bytes(image[position : entry.offset])
        position = entry.offset + entry.length
    return gaps + bytes(image[position : HEADER_SIZE + header.payload])


class StoreRig:
    """One store, its home, and the ``FaultyNetwork`` between it and its pads. Waits of retries take no time."""

    def __init__(self, home: Path, url: str | None, *, pad_size: int = PAD, watch: bool = True, **settings: Any) -> None:
        self.home, self._settings, self._watch = home, settings, watch
        Store.create(home, network=url, pad_size=pad_size).close()
        self.config = read_config(home)
        self.key = read_key_file(self.config.key_path(home), None)
        self.sealer = Sealer(self.key, self.config.slot)
        self.numbers: dict[str, int] = {}  # address -> pad number
        self._sealed: dict[tuple[bytes, int], bytes] = {}  # (data id, chunk) -> the block's bytes
        self._lock = threading.Lock()  # guards numbers and _sealed
        self.open()

    def open(self) -> Store:
        """A new Store on the same home, over a new FaultyNetwork without hooks but the watcher."""
        resolved = resolve(self.config.settings, self._settings, {})
        self.raw: Network = open_network(self.config.network, pad_size=self.config.pad_size, base=self.home, settings=resolved)
        self.faulty = FaultyNetwork(self.raw)
        network = RetryingNetwork(self.faulty, resolved, sleep=lambda stop, seconds: None)
        self.session = Session(self.home, self.config, self.key, resolved, network, lock_wait=0.0, read_only=False)
        self.store = Store(self.session)
        self.mend()
        return self.store

    def reopen(self) -> Store:
        """Close and open again."""
        self.store.close()
        return self.open()

    def mend(self) -> None:
        """Take all faults out of the network; the watcher stays."""
        self.faulty.clear_hooks()
        if self._watch:
            self.faulty.before("write", self._check_image)

    @property
    def index(self) -> MasterIndex:
        return self.session.index()

    @contextmanager
    def counting(self) -> Iterator[Counter[str]]:
        """Network calls begun inside the ``with``, by operation; filled in at its end."""
        before, counts = Counter(self.faulty.calls), Counter[str]()
        yield counts
        counts.update(self.faulty.calls - before)

    # -- behind the store's back

    def address(self, pad: int) -> str:
        return self.key.pad(self.config.slot, pad).address

    def pad_number(self, address: str) -> int:
        with self._lock:
            while address not in self.numbers:
                number = len(self.numbers)
                self.numbers[self.address(number)] = number
            return self.numbers[address]

    def image(self, pad: int) -> bytes:
        """What the network holds for a pad now."""
        return bytes(self.raw.read(self.key.pad(self.config.slot, pad)))

    def pad_file(self, pad: int) -> Path:
        """The file of a pad of the embedded directory."""
        address = self.address(pad)
        return self.home / "pads" / address[:2] / address

    def parse(self, pad: int, data: Buffer) -> tuple[Header, Table] | None:
        """Header and table of an image, None for an empty pad."""
        header = parse_header(bytes(data[:HEADER_SIZE]), f"pad {pad}")
        if header is None:
            return None
        start = HEADER_SIZE + header.payload
        sealed = bytes(data[start : start + header.table])
        return header, parse_table(self.sealer, self.address(pad), bytes(data[:HEADER_SIZE]), sealed)

    def manifests(self) -> Counter[str]:
        """How many manifests of each key all images of the network hold now."""
        found: Counter[str] = Counter()
        for pad in range(self.index.pads):
            if self.index.status[pad] >= 2:
                parsed = self.parse(pad, self.image(pad))
                found.update(manifest.key for manifest in (parsed[1].manifests if parsed else ()))
        return found

    def durable_records(self) -> list[list[Any]]:
        """Every record of the journal file as it is on disk now."""
        data = (self.home / "index.journal").read_bytes()
        return [record for _, records in scan(data, "journal").batches for record in records]

    def journal_lines(self) -> int:
        return (self.home / "index.journal").read_bytes().count(b"\n")

    # -- what every image must be

    def _check_image(self, seen: Seen) -> None:
        assert seen.image is not None
        pad, index = self.pad_number(seen.address), self.session.journal.index
        parsed = self.parse(pad, seen.image.data)
        assert parsed is not None
        with self.session.journal.index_lock:
            assert pad in index.writing, f"pad {pad} is written without a durable record that says so"
            unwritten = next((n for n, counter in enumerate(index.counters) if not counter), index.pads)
            assert pad <= unwritten + FRESH_WINDOW, f"pad {pad} is written, and {unwritten} never was"
            live = {block.extent: block.data_id for value in index.values.values() for block in value.blocks()}
        assert not any(gaps_of(seen.image.data, *parsed)), f"pad {pad} has bytes between its blocks"
        entries = {(pad, entry.offset, entry.length): entry.data_id for entry in parsed[1].entries}
        lost = {extent for extent, data_id in live.items() if extent[0] == pad and entries.get(extent) != data_id}
        assert not lost, f"the image of pad {pad} lacks live blocks {lost}"
        with self._lock:
            for entry in parsed[1].entries:
                block = bytes(seen.image.data[entry.offset : entry.offset + entry.length])
                first = self._sealed.setdefault((entry.data_id, entry.chunk), block[:64])
                assert first == block[:64], f"chunk {entry.chunk} was sealed twice under one data id"

    # -- what must be true at rest

    def assert_idle(self) -> None:
        """Nothing is leaked when no mutation runs: demand, promises, reservations, spaces, uploads. Queued work of a put
        that failed ends when its turn comes, soon after the put."""
        wait_until(lambda: not self._leaks(), lambda: f"leaked: {self._leaks()}")
        self._assert_map_at_rest()

    def _leaks(self) -> dict[str, Any]:
        allocator, supply = self.session.allocator, self.session.allocator.supply
        leaks = {
            "demand": +supply._demand,
            "waiting": list(supply._waiting),
            "promised": supply._promised,
            "reserving": supply._reserving,
            "uploads": allocator.planner._uploads,
            "items": {space: items for space, items in allocator.writer.shared._uploads.items() if items},
            "rewriters": {space: users for space, users in allocator.writer.shared._rewriters.items() if users},
            "wanted": allocator.writer.shared._wanted,
            "queued": [space for space in list(supply.map.spaces.values()) if space.queued or space.busy],
            "operations": self.session._operations,
            "writers": self.session._writers,
            "key locks": self.session._key_locks._locks,
            "queued or busy": [space for space in list(supply.map.spaces.values()) if space.queued or space.busy],
        }
        return {name: leak for name, leak in leaks.items() if leak}

    def _assert_map_at_rest(self) -> None:
        supply = self.session.allocator.supply
        differing = [] if supply.doubts else list(supply.map.differences(self._implied_map()))
        assert not differing, differing
        assert list(supply.map.check()) == []
        assert Kind.TAKEN not in supply.map.kinds
        spaces = {id(space): space for space in (*supply.map.spaces.values(), *supply.map._open.values())}.values()
        for space in spaces:
            assert not space.queued, f"{space} waits for an image"
            assert not space.busy, f"{space} is being written"
            assert space.number is not None, f"{space} is planned and has no pad"
            assert all(slot.live for slot in space.slots.values()), f"{space} has a planned slot"
            assert set(space.manifests) == space.live_manifests, f"{space} has a planned manifest"

    def _implied_map(self) -> MemoryMap:
        return map_of(self.index, self.config.pad_size, self.session.settings.rewrite_limit)

    def assert_sound(self, **values: bytes) -> None:
        """The store at rest, proved; and these keys have these values."""
        self.assert_idle()
        assert self.store.check(read_data=True).problems == ()
        for key, value in values.items():
            assert self.store[key] == value, key


def names(events: list[Any]) -> list[str]:
    """Class names of events."""
    return [type(event).__name__ for event in events]
