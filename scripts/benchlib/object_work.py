"""Pieces of work on an object store; see ``work``."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import repeat
from pathlib import Path
from typing import Any

from .timing import Answer, timed

THREADS = 20
OBJECTS = 10_000  # more than any measurement makes


def _store(url: str) -> tuple[Any, str]:
    """obstore's own store for a network URL, made as the network makes it, and the prefix."""
    from anthill_sync.networks.object_stores import open_store
    from anthill_sync.networks.object_urls import parse
    from anthill_sync.settings import Settings

    found = parse(*url.split(":", 1))
    return open_store(found, Settings(), pad_size=4 * 1024**2, connections=60, newest=False), found.prefix


def put(url: str, count: str, size: str) -> Answer:
    """Seconds of 20 threads that send so many new objects of ``size`` bytes with obstore alone."""
    import obstore

    store, prefix = _store(url)
    bodies = [os.urandom(16) * (int(size) // 16) for _ in range(int(count))]

    def send(body: bytes) -> None:
        attributes = {"anthillcounter": "1", "anthilldigest": secrets.token_hex(16)}
        obstore.put(store, prefix + secrets.token_hex(32), body, attributes=attributes, mode="create", use_multipart=False)

    with ThreadPoolExecutor(THREADS) as pool:
        return {"seconds": timed(lambda: list(pool.map(send, bodies)))}


def get(url: str, target: str | None = None) -> Answer:
    """Seconds of 20 threads that read all of them; with ``target`` into one file, which is synced."""
    import obstore

    store, _ = _store(url)
    names = _names(url)
    file = None if target is None else os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)

    def read(number: int) -> None:
        body = memoryview(obstore.get(store, names[number]).bytes())
        if file is not None:
            assert os.pwrite(file, body, number * len(body)) == len(body)

    def read_all() -> None:
        list(pool.map(read, range(len(names))))
        if file is not None:
            os.fsync(file)

    with ThreadPoolExecutor(THREADS) as pool:
        return {"seconds": timed(read_all)}


def remove(url: str) -> Answer:
    """All objects below the URL."""
    import obstore

    store, _ = _store(url)
    names = _names(url)
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(obstore.delete, repeat(store), names))
    return {"objects": len(names)}


def _names(url: str) -> list[str]:
    import obstore

    store, prefix = _store(url)
    return [str(each["path"]) for page in obstore.list(store, prefix.rstrip("/"), chunk_size=OBJECTS) for each in page]


@contextmanager
def _counted() -> Iterator[list[str]]:
    """The names of the library's calls."""
    import obstore

    calls: list[str] = []
    real = {name: getattr(obstore, name) for name in ("put", "get", "delete")}

    def counting(name: str) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            calls.append(name)
            return real[name](*arguments, **named)

        return call

    for name in real:
        setattr(obstore, name, counting(name))
    try:
        yield calls
    finally:
        for name, function in real.items():
            setattr(obstore, name, function)


def count(home: str, source: str, network: str) -> Answer:
    """Requests of a put of a file into a new store, and the pads it wrote."""
    from anthill_sync import Store

    with Store.create(home, network=network) as store, _counted() as calls:
        transfer = store.put("value", Path(source)).transfer
    assert transfer is not None
    return {"requests": len(calls), "pads": transfer.pads_written}


def small(home: str, number: str, network: str) -> Answer:
    """Requests of one ``put_many`` of so many values of 1 KiB."""
    from anthill_sync import Store

    values = {f"small/{each}": os.urandom(1024) for each in range(int(number))}
    with Store.create(home, network=network) as store, _counted() as calls:
        store.put_many(values)
        sent = len(calls)
        assert len(store) == int(number)
    return {"requests": sent}


WORK = {
    "objects-put": put,
    "objects-get": get,
    "objects-remove": remove,
    "objects-count": count,
    "objects-small": small,
}
