"""Object stores for tests: moto's S3 server on the loopback, and obstore's own stores in memory and in a folder."""

from __future__ import annotations

import http.client
import itertools
import logging
import os
import threading
from pathlib import Path
from typing import Any

import obstore
from blake3 import blake3
from obstore.store import LocalStore, MemoryStore, ObjectStore, S3Store

from anthill_sync.networks.base import Image, Pad
from anthill_sync.networks.object_calls import COUNTER, DIGEST, Bucket
from anthill_sync.networks.objects import ObjectNetwork

STRONG = ("create", "metadata", "if-match", "ranges", "delete")  # what moto and the memory store can do
LOCAL = ("create", "ranges", "delete")  # what the store in a folder can do
KEYS = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "s3cr3tword", "AWS_DEFAULT_REGION": "us-east-1"}

_NUMBERS = itertools.count(1)


class MemoryObjects(ObjectNetwork):
    """Objects in memory. obstore's store keeps the very buffer it was given, so it gets one of its own."""

    def write(self, pad: Pad, image: Image) -> None:
        super().write(pad, Image(bytes(image.data), image.counter, image.digest))


def memory_objects(pad_size: int, abilities: tuple[str, ...] = STRONG) -> tuple[MemoryObjects, ObjectStore]:
    store = MemoryStore()
    bucket = Bucket(store, store, prefix="pads/", where="memory")
    return MemoryObjects(bucket, scheme="s3", pad_size=pad_size, connections=20, abilities=abilities), store


def local_objects(folder: Path, pad_size: int) -> tuple[ObjectNetwork, ObjectStore]:
    store = LocalStore(folder)
    bucket = Bucket(store, store, prefix="pads/", where="folder")
    return ObjectNetwork(bucket, scheme="s3", pad_size=pad_size, connections=20, abilities=LOCAL), store


class _OneAtATime:
    """moto is not made for threads: a reader beside a writer of the same object gets an answer of 500."""

    def __init__(self, application: Any) -> None:
        self._application = application
        self._lock = threading.Lock()  # guards everything in moto

    def __call__(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        with self._lock:
            return list(self._application(environ, start_response))


class Moto:
    """One S3 server of this process; ``bucket`` makes a new bucket each time."""

    def __init__(self) -> None:
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import make_server

        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        application = _OneAtATime(DomainDispatcherApplication(create_backend_app))
        self._server = make_server("127.0.0.1", 0, application, threaded=True)
        threading.Thread(target=self._server.serve_forever, name="moto", daemon=True).start()
        self.host, self.port = "127.0.0.1", self._server.port
        self.endpoint = f"http://{self.host}:{self.port}"

    def bucket(self) -> str:
        name = f"bucket-{os.getpid()}-{next(_NUMBERS)}"
        signed = "AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"
        connection = http.client.HTTPConnection(self.host, self.port, timeout=20)
        connection.request("PUT", f"/{name}", headers={"Content-Length": "0", "Authorization": signed})
        assert connection.getresponse().status == 200
        connection.close()
        return name

    def url(self, bucket: str) -> str:
        return f"s3://{bucket}/team/pads?endpoint={self.endpoint}"

    def store(self, bucket: str) -> ObjectStore:
        """The objects of a bucket behind the network's back, named as the network names them below its prefix."""
        config: Any = {"endpoint": self.endpoint, "access_key_id": "x", "secret_access_key": "y", "region": "us-east-1"}
        return S3Store(bucket, prefix="team", config=config, client_options={"allow_http": True})


_MOTO: list[Moto] = []


def moto() -> Moto:
    """The server, started when first asked for; it ends with the process, as its threads are daemons."""
    if not _MOTO:
        _MOTO.append(Moto())
    return _MOTO[0]


def plant(store: ObjectStore, address: str, data: bytes, *, counter: int = 1, marked: bool = True) -> None:
    """An image as another process would have left it; ``marked``: with its metadata."""
    facts: Any = {COUNTER: str(counter), DIGEST: blake3(data).digest(length=16).hex()} if marked else None
    obstore.put(store, f"pads/{address}", data, attributes=facts, mode="overwrite", use_multipart=False)


def stored(store: ObjectStore, address: str) -> bytes | None:
    try:
        return bytes(obstore.get(store, f"pads/{address}").bytes())
    except FileNotFoundError:
        return None
