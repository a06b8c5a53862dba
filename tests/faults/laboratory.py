"""Stores on one pad server behind the fault proxy, put back to where a scenario begins for every case.

The server is a real one over real connections; only its archive is in memory, so that a case costs no disk, what it
holds can be set and compared, and a wrapper sees every pad that is made and every image that is kept.
"""

from __future__ import annotations

import shutil
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from anthill_sync import Store
from anthill_sync.config import read_config
from anthill_sync.image import parse_header, parse_table
from anthill_sync.index import MasterIndex, PadStatus
from anthill_sync.keys import read_key_file
from anthill_sync.networks import wire
from anthill_sync.networks.memory import MemoryNetwork
from anthill_sync.pads import Pads
from anthill_sync.sealing import image_digest
from anthill_sync.server_api import PadApi
from anthill_sync.server_archive import Archive
from anthill_sync.session import Session
from anthill_sync.settings import resolve
from anthill_sync.space import HEADER_SIZE
from tests.support import FaultyNetwork, Seen
from tests.support.servers import serve

from .proxy import Asked, Proxy, nothing
from .scenarios import PAD, Scenario, State, run

OPERATIONS = {"POST": "reserve", "PUT": "write", "HEAD": "confirm", "GET": "read"}


def operation_of(asked: Asked) -> str:
    """The network's operation that asks this."""
    return "status" if asked.path == wire.STATUS_PATH else OPERATIONS[asked.method]


def counter_of(image: bytes) -> int:
    header = parse_header(image[:HEADER_SIZE], "a pad")
    assert header is not None
    return header.counter


class Laboratory:
    """A server that holds what it is given, and a proxy in front of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server = serve(folder / "server", pad_size=PAD, connections=64)
        self.proxy = Proxy(self.server.url)
        self.made: Counter[str] = Counter()  # pads that were made, by address
        self.kept: Counter[tuple[str, int]] = Counter()  # images that were kept, by address and counter
        self._lock = threading.Lock()  # guards made and kept
        self.hold({})

    def __enter__(self) -> Laboratory:
        self.server.__enter__()
        self.proxy.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.proxy.__exit__(*error)
        self.server.stop()

    def hold(self, pads: dict[str, bytes]) -> None:
        """From now on the server holds ``pads`` and nothing else."""
        self.memory = MemoryNetwork(PAD)
        self.memory.pads.update(pads)
        watched = FaultyNetwork(self.memory)
        watched.before("reserve", self._note_pad)
        watched.before("write", self._note_image)
        vars(self.server)["_server"].wsgi_app = PadApi(Archive(watched), self.server.server_id)
        self.made.clear()
        self.kept.clear()

    def put_back(self, template: Path, pads: dict[str, bytes]) -> Path:
        """A copy of a home, and what the server held for it."""
        home = self.folder / "home"
        shutil.rmtree(home, ignore_errors=True)
        shutil.copytree(template, home)
        self.hold(pads)
        return home

    def _note_pad(self, seen: Seen) -> None:
        with self._lock:
            self.made[seen.address] += 1

    def _note_image(self, seen: Seen) -> None:
        assert seen.image is not None
        with self._lock:
            self.kept[(seen.address, seen.image.counter)] += 1

    # -- stores

    def create(self, home: Path, key_file: Path | None = None) -> None:
        Store.create(home, network=self.proxy.url, pad_size=PAD, key_file=key_file, settings={"backoff_base": 0}).close()

    @contextmanager
    def directly(self, home: Path) -> Iterator[Store]:
        """The store, read only, over the server's pads themselves."""
        config = read_config(home)
        key = read_key_file(config.key_path(home), None)
        settings = resolve(config.settings, {}, {})
        with Store(Session(home, config, key, settings, self.memory, lock_wait=0.0, read_only=True)) as store:
            yield store

    def content(self, home: Path) -> State:
        """All values, each block read; the index and the memory map agree, and no pad is on the server that the index
        does not know."""
        with self.directly(home) as store:
            assert store.check(read_data=True).problems == ()
            index, pads = store._session.index(), store._session.pads
            leaked = set(self.memory.pads) - {pads.name(number).address for number in range(index.pads)}
            assert not leaked, f"pads that nobody knows: {leaked}"
            return {key: store[key] for key in store}

    def assert_at_rest(self, home: Path) -> None:
        """Index and server agree on every pad, every image and every name; nothing is left to do; nothing was done
        twice."""
        with self.directly(home) as store:
            index, pads = store._session.index(), store._session.pads
            assert (index.writing, index.to_rewrite, store.pending()) == (set(), set(), [])
            self._assert_pads(index, pads)
            names = {name for number in range(index.pads) for name in self._names(pads, number)}
            assert names <= set(index.values), f"removed names on the server: {names - set(index.values)}"
            usage, ours = store.usage().pads, sum(status >= PadStatus.RESERVED_PENDING_UPLOAD for status in index.status)
            assert (usage.total, usage.used + usage.free) == (ours, ours)
        assert max(self.made.values(), default=1) == 1, "a pad was made twice"
        assert max(self.kept.values(), default=1) == 1, "two images with one counter"

    def _assert_pads(self, index: MasterIndex, pads: Pads) -> None:
        addresses = [pads.name(number).address for number in range(index.pads)]
        assert set(self.memory.pads) <= set(addresses), "pads that nobody knows"
        for number, status in enumerate(index.status):
            data = self.memory.pads.get(addresses[number])
            if status < PadStatus.RESERVED_PENDING_UPLOAD:  # an intent: the next reservation begins with it
                assert not data, f"pad {number} holds an image and was never reserved"
                continue
            assert data is not None, f"pad {number} is not there"
            assert status == (PadStatus.COMMITTED if data else PadStatus.RESERVED_PENDING_UPLOAD), f"pad {number}"
            found = (counter_of(data), image_digest(data)) if data else (0, bytes(16))
            assert found == (index.counters[number], index.digest(number)), f"pad {number} holds another image"

    def _names(self, pads: Pads, number: int) -> set[str]:
        data = self.memory.pads.get(pads.name(number).address, b"")
        header = parse_header(data[:HEADER_SIZE], str(number))
        if header is None:
            return set()
        sealed = data[HEADER_SIZE + header.payload :][: header.table]
        table = parse_table(pads.sealer, pads.name(number).address, data[:HEADER_SIZE], sealed)
        return {manifest.key for manifest in table.manifests}


def one_more(home: Path) -> None:
    """Another run changes something and takes it back; what earlier ones could not rewrite is tried then."""
    run(home, lambda store: store.put("last", b""))
    run(home, lambda store: store.delete("last"))


@dataclass(repr=False)
class Bench:
    """A scenario's beginning, kept, and what its act asks of the server when all goes well."""

    laboratory: Laboratory
    scenario: Scenario
    template: Path
    pads: dict[str, bytes]
    asked: Counter[str]  # requests by operation
    total: int  # pads afterwards
    total_at_last: int  # and after ``one_more``

    @classmethod
    def prepare(cls, laboratory: Laboratory, scenario: Scenario) -> Bench:
        """Lead a new store to where the scenario begins, and run it once without a fault."""
        template = laboratory.folder / "template" / scenario.name
        template.parent.mkdir(exist_ok=True)
        laboratory.proxy.reset(nothing)
        laboratory.hold({})
        laboratory.create(template)
        run(template, lambda store: [store.put(key, value) for key, value in scenario.start.items()])
        run(template, lambda store: scenario.prepare(store, template))
        bench = cls(laboratory, scenario, template, dict(laboratory.memory.pads), Counter(), 0, 0)
        home = bench.begin()
        laboratory.proxy.reset(lambda each: bench.asked.update([operation_of(each)]))
        run(home, scenario.act)
        laboratory.proxy.reset(nothing)
        bench.total = len(laboratory.memory.pads)
        assert laboratory.content(home) == scenario.aim
        laboratory.assert_at_rest(home)
        one_more(home)
        bench.total_at_last = len(laboratory.memory.pads)
        return bench

    def begin(self) -> Path:
        """A home, and a server, in the state before the act."""
        return self.laboratory.put_back(self.template, self.pads)
