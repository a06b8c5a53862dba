"""What the HTTP network makes of single answers that a real server does not give when asked to."""

from __future__ import annotations

import email.utils
import json
import logging
import os
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import requests
import responses

from anthill_sync.errors import (
    AccessDenied,
    ConfigurationError,
    NetworkError,
    OutOfSpace,
    PadConflict,
    PadNotFound,
    PermanentNetworkError,
    ProtocolError,
    TransientNetworkError,
)
from anthill_sync.networks import open_network
from anthill_sync.networks.base import Network
from anthill_sync.server import TLS
from anthill_sync.settings import MIB, Settings
from anthill_sync.store import Store
from tests.support import make_image, make_pad, run_threads
from tests.support.certificates import make_certificate
from tests.support.servers import serve

URL = "http://127.0.0.1:9"
ID = "0123456789abcdef" * 2
OURS = {"Anthill-Server": ID}
FACTS = {"server": ID, "pad_size": 16 * 1024}
PAD = make_pad(1)
PATH = f"{URL}/v1/scratchpads/{PAD.address}"
IMAGE = make_image(b"the image")


@pytest.fixture
def replies() -> Iterator[responses.RequestsMock]:
    with responses.RequestsMock(assert_all_requests_are_fired=True) as mock:
        yield mock


def opened(url: str = URL, facts: Mapping[str, Any] | None = FACTS, **settings: Any) -> Network:
    return open_network(url, pad_size=16 * 1024, base=Path("/"), settings=Settings(**settings), facts=facts)


# -- failures


def test_too_many_requests_slows_all_threads_down_for_as_long_as_asked(replies: responses.RequestsMock) -> None:
    replies.get(PATH, status=429, headers={"Retry-After": "7"})
    with pytest.raises(TransientNetworkError) as caught:
        opened().read(PAD)
    assert (caught.value.retry_after, caught.value.slow_down, caught.value.context["pad"]) == (7.0, True, PAD.address)


def test_retry_after_may_be_a_date(replies: responses.RequestsMock) -> None:
    replies.get(PATH, status=503, headers={"Retry-After": email.utils.formatdate(time.time() + 100, usegmt=True)})
    with pytest.raises(TransientNetworkError) as caught:
        opened().read(PAD)
    assert caught.value.retry_after == pytest.approx(100, abs=5)
    assert caught.value.slow_down


@pytest.mark.parametrize("text", ["soon", "-1", "1e9", "Fri, 99 Nov 2026", ""])
def test_a_retry_after_that_cannot_be_read_is_none(replies: responses.RequestsMock, text: str) -> None:
    replies.get(PATH, status=503, headers={"Retry-After": text})
    with pytest.raises(TransientNetworkError) as caught:
        opened().read(PAD)
    assert caught.value.retry_after is None


KINDS: list[tuple[int, type[NetworkError]]] = [
    (400, ProtocolError),
    (401, AccessDenied),
    (403, AccessDenied),
    (404, PadNotFound),
    (405, ProtocolError),
    (407, AccessDenied),
    (408, TransientNetworkError),
    (413, PermanentNetworkError),
    (500, TransientNetworkError),
    (502, TransientNetworkError),
    (504, TransientNetworkError),
    (507, OutOfSpace),
    (418, ProtocolError),
    (301, ProtocolError),
    (307, ProtocolError),
]


@pytest.mark.parametrize(("status", "kind"), KINDS)
def test_statuses_have_their_errors(replies: responses.RequestsMock, status: int, kind: type[NetworkError]) -> None:
    replies.post(PATH, status=status, headers={**OURS, "Location": "http://127.0.0.1:9/elsewhere"}, json={"error": "said so"})
    with pytest.raises(NetworkError) as caught:
        opened().reserve(PAD)
    assert type(caught.value) is kind
    assert len(replies.calls) == 1


def test_the_server_s_words_are_printable_and_short(replies: responses.RequestsMock) -> None:
    replies.post(PATH, status=507, headers=OURS, json={"error": "\x1b[31m" + "x" * 1000})
    with pytest.raises(OutOfSpace) as caught:
        opened().reserve(PAD)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


def test_a_body_damaged_on_the_way_is_sent_again(replies: responses.RequestsMock) -> None:
    replies.put(PATH, status=422, headers=OURS, json={"error": "", "code": "digest"})
    with pytest.raises(TransientNetworkError):
        opened().write(PAD, IMAGE)


def test_a_request_the_server_finds_wrong_is_not(replies: responses.RequestsMock) -> None:
    replies.put(PATH, status=422, headers=OURS, json={"error": "", "code": "counter"})
    with pytest.raises(ProtocolError):
        opened().write(PAD, IMAGE)


@pytest.mark.parametrize("digest", [None, "", "ab", "zz" * 16])
def test_a_pad_without_a_readable_digest_is_the_server_s_fault(replies: responses.RequestsMock, digest: str | None) -> None:
    replies.head(PATH, status=200, headers=OURS if digest is None else {**OURS, "Anthill-Digest": digest})
    with pytest.raises(ProtocolError, match="does not tell the digest"):
        opened().confirm(PAD, IMAGE.digest)


# -- lost answers


def test_a_lost_answer_is_resolved_by_asking_and_the_image_is_not_sent_again(replies: responses.RequestsMock) -> None:
    replies.put(PATH, body=requests.ConnectionError("lost"))
    replies.head(PATH, headers={**OURS, "Anthill-Digest": IMAGE.digest.hex(), "Anthill-Counter": "1"})
    network = opened()
    with pytest.raises(TransientNetworkError):
        network.write(PAD, IMAGE)
    network.write(PAD, IMAGE)
    network.confirm(PAD, IMAGE.digest)
    assert [call.request.method for call in replies.calls] == ["PUT", "HEAD"]


def test_a_doubt_lasts_until_it_is_resolved(replies: responses.RequestsMock) -> None:
    replies.put(PATH, body=requests.ConnectionError("lost"))
    replies.head(PATH, body=requests.ConnectionError("lost"))
    replies.head(PATH, headers={**OURS, "Anthill-Digest": IMAGE.digest.hex()})
    network = opened()
    for _ in range(2):
        with pytest.raises(TransientNetworkError):
            network.write(PAD, IMAGE)
    network.write(PAD, IMAGE)
    assert [call.request.method for call in replies.calls] == ["PUT", "HEAD", "HEAD"]


def test_a_request_that_was_refused_is_sent_again_without_asking(replies: responses.RequestsMock) -> None:
    """Else a server that takes one request a second would refuse the second one each time."""
    replies.put(PATH, body=requests.ConnectionError("lost"))
    replies.head(PATH, status=404, headers=OURS)
    for status in (429, 503, 204):
        replies.put(PATH, status=status, headers=OURS)
    network = opened()
    for _ in range(3):
        with pytest.raises(TransientNetworkError):
            network.write(PAD, IMAGE)
    network.write(PAD, IMAGE)
    assert [call.request.method for call in replies.calls] == ["PUT", "HEAD", "PUT", "PUT", "PUT"]


@pytest.mark.parametrize("found", ["00" * 16, None])
def test_a_request_that_never_arrived_is_sent_again(replies: responses.RequestsMock, found: str | None) -> None:
    replies.put(PATH, body=requests.ConnectionError("lost"))
    replies.put(PATH, status=204, headers=OURS)
    headers = {**OURS, "Anthill-Digest": found} if found else OURS
    replies.head(PATH, status=200 if found else 404, headers=headers)
    network = opened()
    with pytest.raises(TransientNetworkError):
        network.write(PAD, IMAGE)
    network.write(PAD, IMAGE)
    assert [call.request.method for call in replies.calls] == ["PUT", "HEAD", "PUT"]


def test_a_conflict_with_ourselves_is_none(replies: responses.RequestsMock) -> None:
    replies.put(PATH, status=409, headers=OURS, json={"error": "", "counter": 1})
    replies.head(PATH, headers={**OURS, "Anthill-Digest": IMAGE.digest.hex()})
    opened().write(PAD, IMAGE)


def test_another_writer_s_image_is_a_conflict_that_was_read(replies: responses.RequestsMock) -> None:
    replies.put(PATH, status=409, headers=OURS, json={"error": "the counter does not rise", "counter": 9})
    replies.head(PATH, headers={**OURS, "Anthill-Digest": "00" * 16})
    with pytest.raises(PadConflict) as caught:
        opened().write(PAD, IMAGE)
    assert (caught.value.exit_code, caught.value.context["pad"]) == (76, PAD.address)


# -- who answers


def test_another_server_under_our_url_is_a_protocol_error(replies: responses.RequestsMock) -> None:
    replies.put(PATH, status=204, headers={"Anthill-Server": "f" * 32})
    with pytest.raises(ProtocolError, match=ID) as caught:
        opened().write(PAD, IMAGE)
    assert caught.value.exit_code == 76


@pytest.mark.parametrize("headers", [{}, {"Anthill-Server": ID[:20]}], ids=["cut before", "cut within"])
def test_an_answer_cut_in_its_headers_proves_nothing(replies: responses.RequestsMock, headers: dict[str, str]) -> None:
    replies.put(PATH, status=204, headers=headers)
    with pytest.raises(TransientNetworkError):
        opened().write(PAD, IMAGE)


STATUS = {"service": "anthill", "version": 1, "server": ID, "pad_size": 65536}


def test_facts_are_asked_for_once_and_pinned(replies: responses.RequestsMock) -> None:
    replies.get(f"{URL}/v1/status", json=STATUS)
    properties = opened(facts=None).properties
    assert (properties.server, properties.pad_size, properties.compares_counters) == (ID, 65536, True)
    assert opened(facts={"server": ID, "pad_size": 65536}).properties == properties
    assert len(replies.calls) == 1


NOT_OURS: dict[str, tuple[dict[str, Any], str]] = {
    "a web page": ({"body": "<html>"}, "not a pad server"),
    "another service": ({"json": {**STATUS, "service": "x"}}, "not a pad server"),
    "a list": ({"json": []}, "not a pad server"),
    "absent": ({"status": 404, "body": "gone"}, "answers 404"),
    "another version": ({"json": {**STATUS, "version": 2}}, "version 2"),
    "no id": ({"json": {**STATUS, "server": "../x"}}, "impossible"),
    "small pads": ({"json": {**STATUS, "pad_size": 1}}, "impossible"),
    "no pad size": ({"json": {**STATUS, "pad_size": "big"}}, "impossible"),
    "elsewhere": ({"status": 302, "headers": {"Location": "/x"}}, "302"),
}


@pytest.mark.parametrize("kind", NOT_OURS)
def test_what_is_not_our_server_is_said_when_a_store_is_made(replies: responses.RequestsMock, kind: str) -> None:
    answer, words = NOT_OURS[kind]
    replies.get(f"{URL}/v1/status", **answer)
    with pytest.raises(ProtocolError, match=words):
        opened(facts=None)


def test_nobody_at_the_url_is_an_error_that_may_pass_and_names_it() -> None:
    with pytest.raises(TransientNetworkError, match=r"cannot talk to http://127\.0\.0\.1:9: Connection refused"):
        opened(facts=None)


# -- answers that are too much


TOO_MUCH: dict[str, dict[str, Any]] = {
    "too long": {"body": bytes(64 * 1024 + 1), "headers": OURS},
    "compressed": {"body": b"x", "headers": {**OURS, "Content-Encoding": "gzip"}},
}


@pytest.mark.parametrize("kind", TOO_MUCH)
def test_bodies_are_bounded_and_as_they_were_stored(replies: responses.RequestsMock, kind: str) -> None:
    replies.get(PATH, **TOO_MUCH[kind])
    with pytest.raises(ProtocolError):
        opened().read(PAD)


@pytest.mark.parametrize("value", ["", "bytes 0-3/9", "bytes 1-9/9", "items 1-4/9", "bytes 1-x/9"])
def test_another_range_than_asked_for_is_refused(replies: responses.RequestsMock, value: str) -> None:
    replies.get(PATH, status=206, body=b"1234", headers={**OURS, "Content-Range": value})
    with pytest.raises(ProtocolError, match="range"):
        opened().read(PAD, 1, 4)


def test_a_server_that_leaves_ranges_alone_is_understood(replies: responses.RequestsMock) -> None:
    replies.get(PATH, body=b"0123456789", headers=OURS)
    assert opened().read(PAD, 3, 4) == b"3456"


# -- what is sent


def test_nothing_of_the_environment_but_proxies_and_authorities_is_used(
    replies: responses.RequestsMock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password secret\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    replies.get(PATH, body=b"x", headers={**OURS, "Set-Cookie": "who=me"})
    network = opened()
    network.read(PAD)
    network.read(PAD)
    for call in replies.calls:
        assert set(call.request.headers) == {"Accept-Encoding", "User-Agent"}
        assert call.request.headers["Accept-Encoding"] == "identity"


def test_large_bodies_go_out_in_slices_of_the_caller_s_buffer(replies: responses.RequestsMock) -> None:
    data = bytearray(5 * MIB // 2)
    replies.put(PATH, status=204, headers=OURS)
    network = opened(facts={"server": ID, "pad_size": 4 * MIB})
    network.write(PAD, make_image(data))
    body: Any = replies.calls[0].request.body
    for _ in range(2):  # a repeat begins at the first slice
        assert [len(part) for part in body] == [MIB, MIB, MIB // 2]
    assert all(part.obj is data for part in body)
    assert replies.calls[0].request.headers["Content-Length"] == str(len(data))
    assert "Transfer-Encoding" not in replies.calls[0].request.headers


# -- settings


@pytest.mark.parametrize("url", ["http://pads.example", "http://10.0.0.1:8620", "http://127.example.org", "http://[2001:db8::1]"])
def test_plain_http_to_another_machine_has_to_be_allowed(url: str) -> None:
    with pytest.raises(ConfigurationError, match="allow_plain_http"):
        opened(url)
    opened(url, allow_plain_http=True).close()


@pytest.mark.parametrize("url", ["http://localhost:1", "http://127.0.0.9", "http://[::1]:8620", "https://pads.example"])
def test_plain_http_on_this_machine_and_https_anywhere_need_no_permission(url: str) -> None:
    opened(url).close()


def test_authorities_that_are_not_there_are_a_configuration_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="nowhere"):
        opened("https://pads.example", ca_file=str(tmp_path / "nowhere"))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "nowhere"))
    with pytest.raises(ConfigurationError, match="nowhere"):
        opened("https://pads.example")


PASSWORD = "s3cr3tword"


def test_a_proxy_is_used_and_its_password_is_said_to_nobody(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG)
    proxy = f"http://me:{PASSWORD}@127.0.0.1:9"
    from_setting = opened("http://pads.example", allow_plain_http=True, proxy=proxy)
    monkeypatch.setenv("http_proxy", proxy)
    from_environment = opened("http://pads.example", allow_plain_http=True)
    monkeypatch.delenv("http_proxy")
    for network in (from_setting, from_environment):
        with pytest.raises(TransientNetworkError, match="Connection refused") as caught:
            network.read(PAD)
        told = [caught.value, caught.value.__cause__, caught.value.__cause__ and caught.value.__cause__.__context__]
        assert PASSWORD not in "".join(repr(each) + str(each) for each in told) + caplog.text


def test_a_proxy_of_another_kind_is_refused_without_its_password() -> None:
    with pytest.raises(ConfigurationError) as caught:
        opened("http://pads.example", allow_plain_http=True, proxy=f"socks5://me:{PASSWORD}@127.0.0.1:9")
    assert PASSWORD not in str(caught.value)


def test_the_environment_s_proxy_is_not_asked_for_our_own_loopback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("all_proxy", "http://127.0.0.1:9")
    with serve(tmp_path / "data") as server:
        opened(server.url, facts=None).close()


# -- with real connections


def test_a_certificate_is_verified(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    with serve(tmp_path / "data", tls=TLS(certificate, key)) as server:
        with pytest.raises(ProtocolError, match="ca_file") as caught:
            opened(server.url, facts=None)
        assert caught.value.exit_code == 76
        network = opened(server.url, facts=None, ca_file=str(certificate))
        network.write(PAD, make_image(bytes(16 * 1024)))
        assert network.read(PAD) == bytes(16 * 1024)
        network.close()


def test_a_certificate_of_another_host_is_refused(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path, "192.0.2.1")
    with (
        serve(tmp_path / "data", tls=TLS(certificate, key)) as server,
        pytest.raises(ProtocolError, match="certificate"),
    ):
        opened(server.url, facts=None, ca_file=str(certificate))


def test_tls_to_a_plain_server_is_a_protocol_error(tmp_path: Path) -> None:
    with serve(tmp_path / "data") as server, pytest.raises(ProtocolError, match="TLS"):
        opened(server.url.replace("http:", "https:"), facts=None)


def test_no_connection_is_thrown_away_whatever_the_number_of_threads(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "urllib3")
    with serve(tmp_path / "data", connections=40) as server:
        network = opened(server.url, facts=None, reserve_threads=2, upload_threads=2, download_threads=2)
        run_threads([partial(network.write, make_pad(n), IMAGE) for n in range(200)], threads=30)
        network.close()
    assert "pool is full" not in caplog.text
    assert 1 <= caplog.text.count("Starting new HTTP connection") <= 7  # six, and one for the facts


def test_a_store_of_many_threads_never_hears_of_a_full_pool(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "urllib3")
    with (
        serve(tmp_path / "data", connections=80) as server,
        Store.create(tmp_path / "home", network=server.url, pad_size=16384) as store,
    ):
        store.put("large", os.urandom(1_500_000))
        run_threads([partial(store.put, str(n), os.urandom(n * 100)) for n in range(40)], threads=20)
        assert len(store["large"]) == 1_500_000
    assert "pool is full" not in caplog.text
    assert [json.loads((tmp_path / "home" / "config.json").read_bytes())["facts"]["server"]] == [server.server_id]
