"""Pieces of work about small values and about changes, each in a process of its own (see ``work``)."""

from __future__ import annotations

import os
import random
import resource
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from .timing import Answer

KIB = 1024
LATENCY = 0.1  # seconds of a call over the slow network
WARM = 20  # calls before anything is timed


def _size(path: Path) -> int:
    """Bytes of all files below ``path``, as their blocks on the disk count."""
    return sum(each.stat().st_size for each in path.rglob("*") if each.is_file())


def many(home: str, count: str) -> Answer:
    """Seconds of one ``put_many`` of so many values of 1 KiB; bytes in pads and in the whole home."""
    from anthill_sync import Store

    values = {f"folder-{n % 100:02}/value-{n:06}": os.urandom(KIB) for n in range(int(count))}
    with Store.create(home) as store:
        os.sync()
        began = time.perf_counter()
        store.put_many(values)
        seconds = time.perf_counter() - began
    place = Path(home)
    return {"seconds": seconds, "pads": _size(place / "pads"), "home": _size(place)}


def single(home: str, count: str) -> Answer:
    """Median seconds of a put and a get of 1 KiB in a warm store, alone and while another put keeps the lock; and of a
    small append with its fsync on the same disk."""
    from anthill_sync import Store

    with Store.create(home) as store:
        alone = median(_timed(lambda n: store.put(f"k{n % 50}", os.urandom(KIB)), int(count)))
        with _lock_kept(store):
            beside = median(_timed(lambda n: store.put(f"k{n % 50}", os.urandom(KIB)), int(count)))
        got = median(_timed(lambda n: store[f"k{n % 50}"], int(count)))
    return {"put": alone, "beside": beside, "get": got, "fsync": median(_fsyncs(Path(home) / "probe", int(count)))}


def _timed(action: Callable[[int], object], count: int) -> list[float]:
    seconds = []
    for number in range(count + WARM):
        began = time.perf_counter()
        action(number)
        seconds.append(time.perf_counter() - began)
    return seconds[WARM:]


def _fsyncs(path: Path, count: int) -> list[float]:
    with path.open("ab", buffering=0) as file:

        def append(_: int) -> None:
            file.write(bytes(300))
            os.fsync(file.fileno())

        return _timed(append, count)


@contextmanager
def _lock_kept(store: Any) -> Iterator[None]:
    """A stream that has begun and does not end yet: its put holds the store's lock."""
    begun, over = threading.Event(), threading.Event()

    def stream() -> Iterator[bytes]:
        begun.set()
        over.wait()
        yield b"end"

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(store.put, "kept", stream())
        begun.wait()
        try:
            yield
        finally:
            over.set()
            running.result()


class Distant:
    """A network in memory whose calls take their time; some of them fail first, for a passing reason."""

    def __init__(self, real: Any, reserve: float, write: float, failing: float) -> None:
        self._real, self._seconds, self._failing = real, {"reserve": reserve, "write": write}, failing
        self._chance, self._lock = random.Random(1), threading.Lock()
        self.properties = real.properties

    def reserve(self, pad: Any) -> None:
        self._wait("reserve")
        self._real.reserve(pad)

    def write(self, pad: Any, image: Any) -> None:
        self._wait("write")
        self._real.write(pad, image)

    def confirm(self, pad: Any, digest: bytes) -> None:
        self._real.confirm(pad, digest)

    def read(self, pad: Any, offset: int = 0, length: int | None = None) -> bytes:
        return bytes(self._real.read(pad, offset, length))

    def close(self) -> None:
        self._real.close()

    def _wait(self, operation: str) -> None:
        from anthill_sync.errors import TransientNetworkError

        time.sleep(self._seconds[operation])
        with self._lock:
            fails = self._chance.random() < self._failing
        if fails:
            raise TransientNetworkError("the benchmark's network fails now and then")


@contextmanager
def distant(home: str, pad_size: int, *, reserve: float, write: float, failing: float = 0.0) -> Iterator[Any]:
    """A new store over a ``Distant`` network."""
    from anthill_sync import Store, creating

    names = vars(creating)
    real = names["open_network"]
    names["open_network"] = lambda *given, **named: Distant(real(*given, **named), reserve, write, failing)
    try:
        with Store.create(home, network="memory://", pad_size=pad_size) as store:
            yield store
    finally:
        names["open_network"] = real


def threads(home: str, count: str, callers: str) -> Answer:
    """Seconds of so many puts of 1 KiB by so many calling threads into one store over a network with 100 ms latency."""
    with distant(home, 4 * KIB * KIB, reserve=LATENCY, write=LATENCY) as store, ThreadPoolExecutor(int(callers)) as pool:
        store.put("first", b"v")
        began = time.perf_counter()
        list(pool.map(lambda n: store.put(f"k{n}", os.urandom(KIB)), range(int(count))))
        return {"seconds": time.perf_counter() - began}


def failing(home: str, pads: str, share: str) -> Answer:
    """Seconds of a put of so many new pads of 16 KiB, reserve 50 ms, write 100 ms, a share of the calls failing once."""
    with distant(home, 16 * KIB, reserve=0.05, write=0.1, failing=float(share)) as store:
        data = bytes((int(pads) - 1) * 15 * KIB)
        began = time.perf_counter()
        store.put("value", data)
        seconds = time.perf_counter() - began
        assert store.usage().pads.total == int(pads)
    return {"seconds": seconds}


def changed(home: str, source: str) -> Answer:
    """Seconds of putting a file again with one byte changed, and what was sent; and of its fingerprints alone."""
    from anthill_sync import Store

    path = Path(source)
    with Store.create(home) as store:
        store.put("value", path)
        with path.open("r+b") as file:
            file.seek(path.stat().st_size // 2)
            byte = file.read(1)
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte[0] ^ 1]))
        os.sync()
        began = time.perf_counter()
        transfer = store.put("value", path).transfer
        seconds = time.perf_counter() - began
        fingerprints = fingerprinted(path)
    assert transfer is not None
    return {"seconds": seconds, "fingerprints": fingerprints, "pads": transfer.pads_written, "bytes": transfer.bytes_sent}


def fingerprinted(path: Path) -> float:
    """Seconds to read a file in chunks and to hash each with keyed BLAKE3, on as many threads as a put has."""
    from blake3 import blake3

    chunk, size = 4 * KIB * KIB - KIB, path.stat().st_size
    own = threading.local()

    def one(offset: int) -> bytes:
        if not hasattr(own, "buffer"):
            own.buffer = bytearray(chunk)
        count = os.preadv(fd, [own.buffer], offset)
        return blake3(memoryview(own.buffer)[:count], key=bytes(32)).digest(16)

    fd = os.open(path, os.O_RDONLY)
    try:
        began = time.perf_counter()
        with ThreadPoolExecutor(20) as pool:
            list(pool.map(one, range(0, size, chunk)))
        return time.perf_counter() - began
    finally:
        os.close(fd)


def processor(action: Callable[[], object]) -> float:
    """Seconds of processor time, of this process, that ``action`` takes."""

    def used() -> float:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return usage.ru_utime + usage.ru_stime

    before = used()
    action()
    return used() - before


def put_processor(home: str, source: str, network: str) -> Answer:
    """Processor time of a put of a file to a pad server."""
    from anthill_sync import Store

    with Store.create(home, network=network) as store:
        return {"seconds": processor(lambda: store.put("value", Path(source)))}


def bare_processor(url: str, source: str) -> Answer:
    """Processor time of 20 threads that read the file, fingerprint, encrypt, digest and PUT each chunk, and no more."""
    from benchlib.work import bare_pipeline

    return {"seconds": processor(lambda: bare_pipeline(url, Path(source)))}


SMALL_WORK: dict[str, Callable[..., Answer]] = {
    "many": many,
    "single": single,
    "threads": threads,
    "failing": failing,
    "changed": changed,
    "put_processor": put_processor,
    "bare_processor": bare_processor,
}
