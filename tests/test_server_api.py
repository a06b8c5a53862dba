"""The pad server's answers, asked for with nothing of our own client."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import pytest
from blake3 import blake3

from anthill_sync import server_archive
from anthill_sync.errors import StorageFailure
from anthill_sync.image import Header
from anthill_sync.networks import wire
from anthill_sync.networks.directory import DirectoryNetwork
from anthill_sync.server import PadServer
from tests.support import PATIENCE, Gate, Seen, make_pad, run_threads
from tests.support.servers import serve

PAD_SIZE = 16 * 1024
PAD = make_pad(1)


@dataclass(frozen=True)
class Got:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Served(Protocol):
    """A server somewhere else."""

    url: str
    server_id: str


class Client:
    """Requests signed by hand."""

    def __init__(self, server: PadServer | Served) -> None:
        self.host = server.url.removeprefix("http://")
        self.server_id = server.server_id

    def call(self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> Got:
        connection = http.client.HTTPConnection(self.host, timeout=PATIENCE)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return Got(answer.status, dict(answer.getheaders()), answer.read())
        finally:
            connection.close()

    def headers(self, method: str, counter: int = 0, digest: bytes = bytes(16), pad: Any = PAD, **change: Any) -> dict[str, str]:
        message = wire.signed_message(method, change.get("server", self.server_id), pad.address, counter, digest)
        headers = {"Anthill-Signature": change.get("signer", pad).sign(message).hex()}
        return {**headers, "Anthill-Counter": str(counter), "Anthill-Digest": digest.hex()} if counter else headers

    def pad(self, method: str, headers: dict[str, str] | None = None, body: bytes | None = None, pad: Any = PAD) -> Got:
        return self.call(method, f"/v1/scratchpads/{pad.address}", body, headers)

    def reserve(self, pad: Any = PAD) -> Got:
        return self.pad("POST", self.headers("POST", pad=pad), pad=pad)

    def put(self, body: bytes, counter: int, pad: Any = PAD) -> Got:
        return self.pad("PUT", self.headers("PUT", counter, digest_of(body), pad), body, pad)

    def get(self, ranged: str | None = None) -> Got:
        return self.pad("GET", {"Range": ranged} if ranged else {})


def digest_of(body: bytes) -> bytes:
    return blake3(body).digest(length=16)


def image(counter: int, text: bytes = b"payload") -> bytes:
    """An image with a pad header, as stores write them."""
    return Header(counter, len(text), 0).pack() + text


@pytest.fixture
def server(tmp_path: Path) -> Iterator[PadServer]:
    with serve(tmp_path / "data", pad_size=PAD_SIZE, quota=64 * 1024) as running:
        yield running


@pytest.fixture
def client(server: PadServer) -> Client:
    return Client(server)


def test_status_tells_the_facts(client: Client) -> None:
    got = client.call("GET", "/v1/status")
    facts = {"service": "anthill", "version": 1, "server": client.server_id, "pad_size": PAD_SIZE, "quota": 64 * 1024, "used": 0}
    assert (got.status, got.json) == (200, facts)


def test_a_pad_is_reserved_once_and_a_repeat_says_so(client: Client) -> None:
    assert [client.reserve().status, client.reserve().status] == [201, 200]
    got = client.get()
    assert (got.status, got.body, got.headers["Content-Length"]) == (200, b"", "0")


def test_a_pad_that_holds_data_is_not_reserved(client: Client) -> None:
    client.put(image(1), 1)
    got = client.reserve()
    assert (got.status, got.json["code"], got.json["counter"]) == (409, "conflict", 1)
    assert client.get().body == image(1)


def test_head_tells_size_counter_and_digest_also_after_a_restart(server: PadServer, client: Client, tmp_path: Path) -> None:
    client.put(image(7), 7)
    server.stop()
    with serve(tmp_path / "data") as again:
        assert again.server_id == server.server_id
        got = Client(again).pad("HEAD")
    facts = [got.headers[name] for name in ("Content-Length", "Anthill-Counter", "Anthill-Digest", "Anthill-Server")]
    assert (got.status, got.body) == (200, b"")
    assert facts == [str(len(image(7))), "7", digest_of(image(7)).hex(), server.server_id]


def test_an_image_is_accepted_twice_and_counters_only_rise(client: Client) -> None:
    assert [client.put(image(n), n).status for n in (3, 3, 5)] == [204, 204, 204]
    for old in (image(3), image(4), image(5, b"another")):
        got = client.put(old, Header(*_counters(old)).counter)
        assert (got.status, got.json["counter"], got.json["digest"]) == (409, 5, digest_of(image(5)).hex())
    assert client.get().body == image(5)


def _counters(data: bytes) -> tuple[int, int, int]:
    return int.from_bytes(data[8:16], "little"), 0, 0


def test_an_older_signed_request_is_worthless_after_a_restart_too(server: PadServer, client: Client, tmp_path: Path) -> None:
    recorded = client.headers("PUT", 1, digest_of(image(1)))
    assert client.pad("PUT", recorded, image(1)).status == 204
    client.put(image(2), 2)
    server.stop()
    with serve(tmp_path / "data") as again:
        got = Client(again).pad("PUT", recorded, image(1))
        assert (got.status, got.json["counter"]) == (409, 2)
        assert Client(again).get().body == image(2)


@pytest.mark.parametrize("worthless", [b"", b"no header"])
def test_no_image_can_make_a_counter_fall(client: Client, worthless: bytes) -> None:
    client.put(image(4), 4)
    got = client.put(worthless, 9)
    assert (got.status, got.json["code"]) == (422, "image")
    assert client.put(image(4, b"x"), 4).status == 409


def test_the_counter_that_is_signed_is_the_image_s(client: Client) -> None:
    got = client.put(image(2), 3)
    assert (got.status, got.json["code"]) == (422, "counter")
    assert client.get().status == 404


STRANGER = make_pad(2)


@pytest.mark.parametrize(
    "change",
    [{"signer": STRANGER}, {"server": "0" * 32}, {"pad": STRANGER}],
    ids=["another key", "for another server", "for another pad"],
)
def test_only_the_pad_s_key_may_write_and_only_here(client: Client, change: dict[str, Any]) -> None:
    for method, counter in (("POST", 0), ("PUT", 1)):
        body = image(1) if counter else None
        headers = client.headers(method, counter, digest_of(image(1)) if counter else bytes(16), **change)
        got = client.pad(method, headers, body)
        assert (got.status, got.json["code"]) == (403, "signature")
    assert client.get().status == 404


@pytest.mark.parametrize("name", ["Anthill-Counter", "Anthill-Digest"])
def test_what_is_signed_cannot_be_changed_on_the_way(client: Client, name: str) -> None:
    headers = client.headers("PUT", 1, digest_of(image(1)))
    headers[name] = {"Anthill-Counter": "2", "Anthill-Digest": digest_of(image(2)).hex()}[name]
    assert client.pad("PUT", headers, image(2)).status == 403


def test_a_signature_for_one_method_is_none_for_another(client: Client) -> None:
    headers = {**client.headers("POST"), "Anthill-Counter": "1", "Anthill-Digest": "0" * 32}
    assert client.pad("PUT", headers, b"").status == 403


def test_a_body_that_does_not_match_its_digest_changes_nothing(client: Client) -> None:
    client.put(image(1), 1)
    got = client.pad("PUT", client.headers("PUT", 2, digest_of(image(2))), image(2, b"damaged"))
    assert (got.status, got.json["code"]) == (422, "digest")
    assert client.get().body == image(1)


@pytest.mark.parametrize(
    ("ranged", "status", "expected"),
    [
        ("bytes=0-3", 206, b"0123"),
        ("bytes=4-", 206, b"456789"),
        ("bytes=8-99", 206, b"89"),
        ("bytes=10-", 416, None),
        ("bytes=3-1", 200, b"0123456789"),
        ("bytes=-4", 200, b"0123456789"),
        ("bytes=0-1,3-4", 200, b"0123456789"),
        ("lines=0-3", 200, b"0123456789"),
    ],
)
def test_ranges_are_honoured(client: Client, ranged: str, status: int, expected: bytes | None) -> None:
    client.put(b"0123456789", 1)
    got = client.get(ranged)
    assert got.status == status
    if expected is not None:
        assert got.body == expected
    if status == 206:
        first = int(ranged[6:].partition("-")[0])
        assert got.headers["Content-Range"] == f"bytes {first}-{first + len(got.body) - 1}/*"


def test_bodies_are_bounded(client: Client) -> None:
    assert client.put(bytes(PAD_SIZE), 1).status == 204
    got = client.put(bytes(PAD_SIZE + 1), 2)
    assert (got.status, set(got.json)) == (413, {"error", "code"})
    assert client.get().body == bytes(PAD_SIZE)


def test_the_quota_counts_bytes_and_never_refuses_what_makes_room(client: Client) -> None:
    pads = [make_pad(number) for number in range(10, 14)]
    assert [client.put(image(1, bytes(15_000)), 1, pad).status for pad in pads] == [204] * 4
    used = client.call("GET", "/v1/status").json["used"]
    assert used == 4 * len(image(1, bytes(15_000)))
    assert client.put(image(2, bytes(PAD_SIZE - 32)), 2, pads[0]).status == 204
    for refused in (client.reserve(make_pad(20)), client.put(image(1), 1, make_pad(21))):
        assert (refused.status, refused.json["code"]) == (507, "space")
    assert client.put(image(3, b""), 3, pads[0]).status == 204
    assert client.reserve(make_pad(20)).status == 201


def test_the_quota_is_measured_again_after_a_restart(server: PadServer, client: Client, tmp_path: Path) -> None:
    client.put(image(1, bytes(9_000)), 1)
    client.reserve(make_pad(2))
    before = client.call("GET", "/v1/status").json["used"]
    server.stop()
    with serve(tmp_path / "data") as again:
        assert Client(again).call("GET", "/v1/status").json["used"] == before == 9_032 + server_archive.SMALLEST_CHARGE


OUTSIDE = ["/", "/v1", "/v1/scratchpads/", "/v2/status", "/v1/scratchpads/" + "A" * 64, "/v1/scratchpads/" + "a" * 63]
TRAVERSAL = [
    "../" * 21 + "x",
    "..%2F..%2F..%2Fetc%2Fpasswd",
    "%2e%2e/" * 9 + "a",
    "a" * 64 + "/../x",
    "a" * 64 + "%00",
    "a" * 64 + "%0a",
]


@pytest.mark.parametrize("path", OUTSIDE + ["/v1/scratchpads/" + name for name in TRAVERSAL])
def test_there_is_nothing_outside_of_the_pads(client: Client, path: str) -> None:
    for method in ("GET", "PUT", "POST", "HEAD"):
        got = client.call(method, path, b"x" if method == "PUT" else None)
        assert got.status == 404
        assert method == "HEAD" or got.json["code"] == "path"


@pytest.mark.parametrize("method", ["DELETE", "PATCH", "OPTIONS", "FROB"])
def test_there_is_no_delete_and_nothing_else(client: Client, method: str) -> None:
    client.put(image(1), 1)
    assert client.pad(method).status == 405
    assert client.get().body == image(1)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Anthill-Counter": "0"}, 400),
        ({"Anthill-Counter": "-1"}, 400),
        ({"Anthill-Counter": "1e3"}, 400),
        ({"Anthill-Counter": str(2**64)}, 400),
        ({"Anthill-Counter": "\u0661".encode().decode("latin-1")}, 400),
        ({"Anthill-Digest": "xyz"}, 400),
        ({"Anthill-Digest": ""}, 400),
        ({"Anthill-Signature": "00"}, 403),
        ({"Anthill-Signature": "0" * 128}, 403),
        ({"Anthill-Signature": "g" * 128}, 403),
    ],
)
def test_headers_are_checked(client: Client, headers: dict[str, str], status: int) -> None:
    got = client.pad("PUT", {**client.headers("PUT", 1, digest_of(image(1))), **headers}, image(1))
    assert got.status == status
    assert set(got.json) >= {"error", "code"}
    assert got.headers["Anthill-Server"] == client.server_id


def test_a_write_is_answered_after_it_is_durable(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate()
    real = DirectoryNetwork.write

    def held(self: DirectoryNetwork, pad: Any, what: Any) -> None:
        real(self, pad, what)
        gate(Seen("write", pad.address, 1))

    monkeypatch.setattr(DirectoryNetwork, "write", held)
    done: list[Got] = []
    thread = threading.Thread(target=lambda: done.append(client.put(image(1), 1)))
    thread.start()
    gate.wait_for(1)
    assert not done
    gate.open()
    thread.join(PATIENCE)
    assert [got.status for got in done] == [204]


def test_one_address_is_never_written_by_two_requests_at_once(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    real, inside, most = DirectoryNetwork.write, [0], [0]

    def counted(self: DirectoryNetwork, pad: Any, what: Any) -> None:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        real(self, pad, what)
        inside[0] -= 1

    monkeypatch.setattr(DirectoryNetwork, "write", counted)
    statuses = [got.status for got in run_threads([partial(client.put, image(n), n) for n in range(1, 41)], threads=10)]
    assert most[0] == 1
    assert set(statuses) <= {204, 409}
    assert client.get().body == image(max(n for n, status in enumerate(statuses, 1) if status == 204))


def test_a_write_that_failed_half_way_is_not_taken_for_durable(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    confirmed = []
    real = DirectoryNetwork.write

    def failing(self: DirectoryNetwork, pad: Any, what: Any) -> None:
        real(self, pad, what)
        raise StorageFailure("the disk failed after the rename")

    with monkeypatch.context() as patch:
        patch.setattr(DirectoryNetwork, "write", failing)
        got = client.put(image(1), 1)
    assert (got.status, got.json["code"]) == (500, "storage")
    assert "rename" not in got.json["error"]
    known = DirectoryNetwork.confirm

    def watched(self: DirectoryNetwork, pad: Any, digest: bytes) -> None:
        confirmed.append(digest)
        known(self, pad, digest)

    monkeypatch.setattr(DirectoryNetwork, "confirm", watched)
    assert client.pad("HEAD").status == 200
    assert confirmed == [digest_of(image(1))]


def test_a_bug_in_the_server_is_one_word_to_the_client(
    client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*arguments: Any) -> None:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr(DirectoryNetwork, "read", broken)
    got = client.get()
    assert (got.status, got.json["code"]) == (500, "bug")
    assert b"detail" not in got.body
    assert b"Traceback" not in got.body
    assert "secret detail" in caplog.text
    monkeypatch.undo()
    assert client.get().status == 404
