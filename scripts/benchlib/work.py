"""The pieces of work that are measured inside a process of their own: ``python -m benchlib.work NAME ARGUMENT...``.

Each prints one JSON object. Times are taken around the library's calls alone.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from pathlib import Path
from typing import Any

from .object_work import WORK as OBJECT_WORK
from .processes import MAXRSS_BYTES
from .small_work import SMALL_WORK
from .timing import Answer, timed

SMALL_PAD = 16 * 1024  # bytes; a chunk is 1 KiB less


def put(home: str, source: str, network: str | None = None) -> Answer:
    """A file into a new store, in a local directory unless another network is named."""
    from anthill_sync import Store

    with Store.create(home, network=network) as store:
        return {"seconds": timed(lambda: store.put("value", Path(source)))}


def get(home: str, target: str) -> Answer:
    """The value of that store into a new file."""
    from anthill_sync import Store

    with Store.open(home) as store:
        return {"seconds": timed(lambda: store.get_into("value", target))}


def get_nowhere(home: str) -> Answer:
    """The value of that store, in order, onto /dev/null."""
    from anthill_sync import Store

    with Store.open(home) as store, open(os.devnull, "wb", buffering=0) as nowhere:
        return {"seconds": timed(lambda: store.get_into("value", nowhere))}


def journal(home: str, source: str) -> Answer:
    """Bytes written to the index's files for one file as a value of many small pads, on a network that keeps nothing."""
    from anthill_sync import Store, durable

    written = 0

    def count(real: Callable[..., None], fd: int, data: bytes, *place: int) -> None:
        nonlocal written
        written += len(data)
        real(fd, data, *place)

    _slow_down(0.0, 0.0)
    with Store.create(home, network="memory://", pad_size=SMALL_PAD) as store:
        durable.write_all = partial(count, durable.write_all)
        durable.write_at = partial(count, durable.write_at)
        store.put("value", Path(source))
    return {"bytes": written}


def open_store(home: str) -> Answer:
    """Seconds to open a store and to know its keys, imports included only where opening needs them; and by how much that
    raises the peak memory of the process, in bytes."""
    from anthill_sync import Store

    def open_it() -> None:
        with Store.open(home) as store:
            assert len(store) == 1

    before = _peak()
    return {"seconds": timed(open_it), "bytes": _peak() - before}


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * MAXRSS_BYTES


def keys(home: str, count: str) -> Answer:
    """A store with so many small values."""
    from anthill_sync import Store

    with Store.create(home) as store:
        store.put_many({f"folder-{number % 100:02}/value-{number:06}": b"%d" % number for number in range(int(count))})
        return {"keys": len(store)}


class SlowNetwork:
    """A network whose calls take their time, in seconds, and that keeps nothing: a put of new pads never reads, and
    so no processor time goes into what a network would do. ``real`` has the facts."""

    def __init__(self, real: Any, *, reserve: float, write: float) -> None:
        self.properties, self._reserve, self._write = real.properties, reserve, write

    def reserve(self, pad: Any) -> None:
        if self._reserve:
            time.sleep(self._reserve)

    def write(self, pad: Any, image: Any) -> None:
        if self._write:
            time.sleep(self._write)

    def confirm(self, pad: Any, digest: bytes) -> None:
        """At once."""

    def read(self, pad: Any, offset: int = 0, length: int | None = None) -> bytes:
        raise AssertionError("a put of new pads has nothing to read")

    def close(self) -> None:
        """Nothing is open."""


def slow(home: str, pads: str, pad_size: str, reserve: str, write: str) -> Answer:
    """Seconds of a put of so many new pads over a slow network, retries and all."""
    from anthill_sync import Store

    _slow_down(float(reserve), float(write))
    with Store.create(home, network="memory://", pad_size=int(pad_size)) as store:
        size = (int(pads) - 1) * (int(pad_size) - 1024)  # full chunks, and one pad for the manifest
        data = b"a" * size  # not zeros, whose memory would be given out only when the put reads it
        seconds = timed(lambda: store.put("value", data))
        assert store.usage().pads.total == int(pads)
    return {"seconds": seconds}


def _slow_down(reserve: float, write: float) -> None:
    """Stores that are made from now on have a ``SlowNetwork``."""
    from anthill_sync import creating

    names = vars(creating)  # where the store looks for the network of its URL
    real = names["open_network"]

    def open_network(*arguments: Any, **named: Any) -> Any:
        return SlowNetwork(real(*arguments, **named), reserve=reserve, write=write)

    names["open_network"] = open_network


def imports() -> Answer:
    """Seconds of ``import anthill_sync`` in a Python that has loaded nothing else, and how many modules of libraries that only
    some commands need it loads."""
    code = "import time; t = time.perf_counter(); import anthill_sync, sys; print(time.perf_counter() - t, *sys.modules)"
    seconds, *names = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    heavy = {"requests", "urllib3", "tqdm", "typer", "backoff", "cryptography"}
    return {"seconds": float(seconds), "modules": sum(name.split(".")[0] in heavy for name in names)}


def bare(url: str, count: str, size: str) -> Answer:
    """Seconds of 20 threads that send so many signed images of ``size`` bytes, each to a new pad, with requests alone."""
    jobs = [_Image(url, os.urandom(32), int(size)) for _ in range(int(count))]
    for job in jobs:
        job.prepare(1)
    return {"seconds": timed(lambda: _send(jobs))}


def rewrite(url: str, count: str, size: str) -> Answer:
    """So many images of ``size`` bytes to 100 pads, again and again."""
    jobs = [_Image(url, os.urandom(32), int(size)) for _ in range(100)]
    for counter in range(1, 1 + int(count) // len(jobs)):
        for job in jobs:
            job.prepare(counter)
        _send(jobs)
    return {"count": int(count)}


class _Image:
    """One image, signed and ready to be sent."""

    def __init__(self, url: str, seed: bytes, size: int) -> None:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self._size = size
        self.address = self._key.public_key().public_bytes_raw().hex()
        self.url, self.server = url, _server_id(url)

    def sign(self, message: bytes) -> bytes:
        return self._key.sign(message)

    def prepare(self, counter: int) -> None:
        from anthill_sync.image import Header
        from anthill_sync.networks import wire
        from anthill_sync.sealing import image_digest

        self.data = Header(counter, 0, 0).pack() + os.urandom(16) * ((self._size - 32) // 16)
        self.headers = wire.signature_headers(self, "PUT", self.server, counter, image_digest(self.data))

    def fill(self, buffer: bytearray, plain: memoryview) -> None:
        """Header and sealed ``plain`` into ``buffer``, signed."""
        from blake3 import blake3
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        from anthill_sync.image import Header
        from anthill_sync.networks import wire
        from anthill_sync.sealing import image_digest

        view, end = memoryview(buffer), 48 + len(plain)
        blake3(plain, key=bytes(32)).digest(16)
        view[:32] = Header(1, 0, 0).pack()
        AESGCM(os.urandom(32)).encrypt_into(bytes(12), plain, None, view[32:end])
        self.data = view[:end]
        self.headers = wire.signature_headers(self, "PUT", self.server, 1, image_digest(self.data))

    def put(self, session: Any) -> None:
        """Send it."""
        answer = session.put(f"{self.url}/v1/scratchpads/{self.address}", self.data, headers=self.headers, timeout=60)
        assert answer.status_code == 204, answer.text


@cache
def _server_id(url: str) -> str:
    import requests

    return str(requests.get(f"{url}/v1/status", timeout=60).json()["server"])


def _session() -> Any:
    """Plain requests with a connection for each of 20 threads."""
    import requests
    from requests.adapters import HTTPAdapter

    session = requests.Session()
    session.trust_env = False
    session.mount("http://", HTTPAdapter(pool_maxsize=20))
    return session


def _send(images: list[_Image]) -> None:
    """All images, by 20 threads over as many connections."""
    with _session() as session, ThreadPoolExecutor(20) as pool:
        list(pool.map(lambda image: image.put(session), images))


def bare_pipeline(url: str, source: Path) -> None:
    """The least that a put of a file can be: 20 threads read a chunk, fingerprint, encrypt, digest and send it."""
    from anthill_sync.settings import CHUNK_MARGIN, DEFAULT_PAD_SIZE

    chunk, own = DEFAULT_PAD_SIZE - CHUNK_MARGIN, threading.local()
    with source.open("rb") as file, _session() as session, ThreadPoolExecutor(20) as pool:

        def one(offset: int) -> None:
            if not hasattr(own, "plain"):
                own.plain, own.image = bytearray(chunk), bytearray(DEFAULT_PAD_SIZE)
            image = _Image(url, os.urandom(32), 0)
            image.fill(own.image, memoryview(own.plain)[: os.preadv(file.fileno(), [own.plain], offset)])
            image.put(session)

        list(pool.map(one, range(0, source.stat().st_size, chunk)))


WORK: dict[str, Callable[..., Answer]] = {
    **SMALL_WORK,
    "put": put,
    "get": get,
    "get-nowhere": get_nowhere,
    "journal": journal,
    "open": open_store,
    "keys": keys,
    "slow": slow,
    "imports": imports,
    "bare": bare,
    "rewrite": rewrite,
    **OBJECT_WORK,
}

if __name__ == "__main__":
    print(json.dumps(WORK[sys.argv[1]](*sys.argv[2:])))
