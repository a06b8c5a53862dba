"""Everything a Store can do, as scenarios for a network that loses, cuts, doubles and delays.

A scenario changes a new store as its seed says, proves what it did on the way, and returns what must be there then.
"""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from unittest.mock import ANY

import pytest

from anthill_sync import Store
from anthill_sync.errors import KeyExists, PadLimitExceeded, ValueChanged
from tests.cli_tools import Shell
from tests.store_tools import wait_until
from tests.support import run_threads

PAD = 16 * 1024
QUICK = {"backoff_base": 0.0, "attempts": 20}  # repeats without waits; a fault in five never fails twenty times
PATIENT = {**QUICK, "attempts": 1000}  # through a storm without waits, whose refusals may all meet one pad

Values = dict[str, bytes]
Scenario = Callable[[Store, int], Values]


def values(seed: int, count: int, size: int) -> Values:
    chance = random.Random(seed)
    return {f"key/{n}": chance.randbytes(chance.randrange(size)) for n in range(count)}


def noise(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


def check(store: Store, expected: Values) -> None:
    """Everything is there, and index and memory map agree."""
    assert {key: store[key] for key in store} == expected
    assert store.check("", read_data=True).problems == ()


class Enough(Exception):
    """Ends a put from its source."""


def interrupt(store: Store, key: str, data: bytes, chunks: int) -> None:
    """Put, from a stream that fails once the store holds so many chunks of it."""

    def source() -> Iterator[bytes]:
        yield data[: (chunks + 1) * PAD]
        wait_until(lambda: sum(each.done for each in store.pending()) >= chunks, lambda: f"{store.pending()} is all")
        raise Enough

    with pytest.raises(Enough):
        store.put(key, source())
    assert [pending.key for pending in store.pending()] == [key]


# -- putting


def put_update_remove(store: Store, seed: int) -> Values:
    expected = values(seed, 6, 5 * PAD)
    for key, data in expected.items():
        store.put(key, data)
    expected["key/1"] = expected["key/1"][:PAD] + b"changed" + expected["key/1"][PAD:]
    store.put("key/1", expected["key/1"])
    store.rename("key/2", "moved")
    expected["moved"] = expected.pop("key/2")
    store.delete("key/3")
    del expected["key/3"]
    return expected


def streams(store: Store, seed: int) -> Values:
    data = noise(seed, 12 * PAD)
    store.put("stream", io.BytesIO(data))
    store.put("parts", (data[n : n + 5000] for n in range(0, len(data), 5000)))
    return {"stream": data, "parts": data}


def many_small(store: Store, seed: int) -> Values:
    expected = values(seed, 120, 300)
    store.put_many(expected)
    for key in list(expected)[:40]:
        store[key] = expected[key] = expected[key][::-1]
    return expected


def many_threads(store: Store, seed: int) -> Values:
    expected = values(seed, 24, 2 * PAD)
    run_threads([partial(store.put, key, data) for key, data in expected.items()], threads=8)
    return expected


def conditions(store: Store, seed: int) -> Values:
    """``if_absent`` and ``max_pads``: what they refuse changes nothing, also what the network is asked for."""
    expected = values(seed, 3, 3 * PAD)
    for key, data in expected.items():
        store.put(key, data, if_absent=True)
    with pytest.raises(KeyExists):
        store.put("key/1", b"another", if_absent=True)
    before = store.usage().pads
    with pytest.raises(PadLimitExceeded):
        store.put("large", bytes(40 * PAD), max_pads=10)
    assert store.usage().pads == before
    large = noise(seed, 20 * PAD)
    written = store.put("large", large, max_pads=25).transfer
    assert written is not None
    assert written.pads_reserved <= 25
    return {**expected, "large": large}


def with_attributes(store: Store, seed: int) -> Values:
    """Attributes come back, also after an update and a rename."""
    data = noise(seed, 3 * PAD)
    store.put("a", data, attributes={"mode": 0o640, "kind": "file", "mtime_ns": seed})
    assert store.stat("a").attributes == {"mode": 0o640, "kind": "file", "mtime_ns": seed}
    store.put("a", data + b"more", attributes={"mode": 0o600, "note": "ä" * 100})
    store.rename("a", "b")
    with Store.open(store.home) as again:
        assert again.stat("b").attributes == {"mode": 0o600, "note": "ä" * 100}
    return {"b": data + b"more"}


# -- reading


def ranges(store: Store, seed: int) -> Values:
    """Parts of a value, into files and streams, at and across the edges of chunks."""
    chance, data = random.Random(seed), noise(seed, 9 * PAD + 77)
    store.put("k", data)
    target = store.home.parent / "part"
    edges = [(0, 0), (0, 1), (15 * 1024 - 1, 2), (15 * 1024, 15 * 1024), (len(data) - 1, 1), (len(data), 9), (5, None)]
    for offset, length in [*edges, *((chance.randrange(len(data)), chance.randrange(4 * PAD)) for _ in range(6))]:
        part = data[offset:] if length is None else data[offset : offset + length]
        store.get_into("k", target, offset=offset, length=length)
        assert target.read_bytes() == part
        stream = io.BytesIO()
        store.get_into("k", stream, offset=offset, length=length)
        assert stream.getvalue() == part
    return {"k": data}


def read_while_written(store: Store, seed: int) -> Values:
    """A reader gets one whole version, or is told that the value changed too often."""
    versions = [noise(seed + n, 4 * PAD + 100 * n) for n in range(8)]
    store.put("k", versions[0])

    def write() -> None:
        for data in versions[1:]:
            store.put("k", data)

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        while not writing.done():
            try:
                assert store["k"] in versions
            except ValueChanged:
                continue
        writing.result()
    return {"k": versions[-1]}


# -- pads


def reserve_and_trim(store: Store, seed: int) -> Values:
    """What is reserved ahead is used; what is free can be emptied; both are counted."""
    assert store.reserve(7) == 7
    assert (store.usage().pads.total, store.usage().pads.reserved) == (7, 7)
    expected = {"k": noise(seed, 4 * PAD), "l": b"small"}
    for key, data in expected.items():
        written = store.put(key, data).transfer
        assert written is not None
        assert written.pads_reserved == 0
    store.put("k", b"short")
    assert store.trim() > 0
    assert store.trim() == 0
    pads = store.usage().pads
    assert (pads.total, pads.used + pads.free) == (7, 7)
    return {**expected, "k": b"short"}


def clear_and_fill(store: Store, seed: int) -> Values:
    """A store that is emptied takes the same values again without a new pad."""
    expected = values(seed, 5, 3 * PAD)
    store.put_many(expected)
    pads = store.usage().pads
    store.clear()
    usage = store.usage()
    assert (usage.keys, usage.bytes.stored, usage.pads.used, usage.pads.total) == (0, 0, 0, pads.total)
    assert store.check().problems == ()
    for key, data in expected.items():
        store.put(key, data)
    assert store.usage().bytes.stored == sum(map(len, expected.values()))
    return expected


# -- interruptions


def abandoned(store: Store, seed: int) -> Values:
    """An interrupted put is given up: the old value stays, its pads are free again and empty on the server too."""
    old, new = noise(seed, 3 * PAD), noise(seed + 1, 12 * PAD)
    store.put("k", old)
    interrupt(store, "k", new, 4)
    assert store.abandon() == ["k"]
    assert store.pending() == []
    late = store.trim()  # images of attempts without an answer, which arrived after all
    assert late == 0 or not store._session.network.properties.compares_counters
    assert store.trim() == 0
    total = store.usage().pads.total
    store.put("l", new[: 4 * PAD])
    assert store.usage().pads.total == total
    return {"k": old, "l": new[: 4 * PAD]}


def interrupted(store: Store, seed: int) -> Values:
    """An interrupted put is finished by the same put; chunks that are there are not sent again."""
    data = noise(seed, 30 * PAD)
    interrupt(store, "k", data, 5)
    done = store.pending()[0].done
    written = store.put("k", data).transfer
    assert done >= 5
    assert written is not None
    assert written.pads_written <= 30 * PAD // (PAD - 1024) + 2 - done
    return {"k": data}


# -- trees


def trees(store: Store, seed: int) -> Values:
    """A directory goes in and comes out by the command line."""
    source, target = store.home.parent / "tree", store.home.parent / "restored"
    files = {"a": noise(seed, 2 * PAD), "sub/b": b"", "sub/deep/c": noise(seed + 1, 100)}
    for name, data in files.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(data)
    (source / "empty").mkdir()
    (source / "link").symlink_to("sub/b")
    shell = Shell(store.home)
    shell.ok("put", "tree", source, "-r")
    shell.ok("get", "tree", target, "-r")
    assert listing(target) == listing(source)
    return {f"tree/{name}": ANY for name in listing(source) if name != "sub" and name != "sub/deep"}


def listing(root: Path) -> dict[str, object]:
    """What a tree holds, by path: bytes, link targets, folders."""
    found: dict[str, object] = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        found[name] = str(path.readlink()) if path.is_symlink() else path.read_bytes() if path.is_file() else "folder"
    return found


SCENARIOS: list[Scenario] = [
    put_update_remove,
    streams,
    many_small,
    many_threads,
    conditions,
    with_attributes,
    ranges,
    read_while_written,
    reserve_and_trim,
    clear_and_fill,
    abandoned,
    interrupted,
    trees,
]
