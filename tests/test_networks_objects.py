"""What the object network makes of requests, answers and their loss: counted on a real S3 server, or told by a script."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3
from obstore.store import ObjectStore

from anthill_sync import image as images
from anthill_sync.errors import (
    AccessDenied,
    AnthillError,
    ConfigurationError,
    NetworkNotFound,
    OutOfSpace,
    PadConflict,
    PadNotFound,
    PermanentNetworkError,
    ProtocolError,
    TransientNetworkError,
)
from anthill_sync.networks import objects, open_network
from anthill_sync.networks.base import Network, any_replica
from anthill_sync.settings import Settings
from tests.faults.proxy import Proxy, nothing, storm
from tests.support import make_image, make_pad, run_threads
from tests.support.objects import KEYS, STRONG, moto, plant, stored
from tests.support.scripted import Answer, Scripted

PAD_SIZE = 64 * 1024
PAD = make_pad(1)
FIRST, SECOND, THIRD = (make_image(b"image %d" % counter, counter) for counter in (1, 2, 3))
SECRETS = (KEYS["AWS_SECRET_ACCESS_KEY"], KEYS["AWS_ACCESS_KEY_ID"])


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)


def opened(endpoint: str, bucket: str, abilities: tuple[str, ...] = STRONG, **settings: Any) -> Network:
    url = f"s3://{bucket}/team/pads?endpoint={endpoint}"
    return open_network(
        url, pad_size=PAD_SIZE, base=Path("/"), settings=Settings(**settings), facts={"abilities": list(abilities)}
    )


# -- requests, counted between the network and a real server


class Wire:
    """A network, the proxy on its way, and the objects behind its back."""

    def __init__(self, proxy: Proxy, bucket: str, abilities: tuple[str, ...] = STRONG) -> None:
        self.proxy = proxy
        self.store: ObjectStore = moto().store(bucket)
        self.bucket = bucket
        self.network = opened(proxy.url, bucket, abilities)

    def anew(self, abilities: tuple[str, ...] = STRONG) -> Network:
        """As another process would open it: nothing is remembered."""
        return opened(self.proxy.url, self.bucket, abilities)

    def counted(self, *calls: Callable[[], object]) -> dict[str, int]:
        self.proxy.reset(nothing)
        for call in calls:
            call()
        return dict(self.proxy.methods)


@pytest.fixture
def wire() -> Iterator[Wire]:
    with Proxy(moto().endpoint) as proxy:
        yield Wire(proxy, moto().bucket())


def test_a_new_pad_costs_one_request_and_its_confirmation_none(wire: Wire) -> None:
    network = wire.network
    assert wire.counted(partial(network.reserve, PAD)) == {}
    assert wire.counted(partial(network.write, PAD, FIRST), partial(network.confirm, PAD, FIRST.digest)) == {"PUT": 1}
    assert stored(wire.store, PAD.address) == FIRST.data


def test_a_later_image_costs_one_request_after_our_own_and_one_more_after_somebody_s(wire: Wire) -> None:
    wire.network.write(PAD, FIRST)
    assert wire.counted(partial(wire.network.write, PAD, SECOND)) == {"PUT": 1}
    assert wire.counted(partial(wire.anew().write, PAD, THIRD)) == {"HEAD": 1, "PUT": 1}
    assert stored(wire.store, PAD.address) == THIRD.data


def test_a_store_without_conditions_is_asked_once_more_for_each_step(wire: Wire) -> None:
    network = wire.anew(("metadata",))
    assert wire.counted(partial(network.write, PAD, FIRST), partial(network.confirm, PAD, FIRST.digest)) == {"HEAD": 2, "PUT": 1}
    assert wire.counted(partial(network.write, PAD, SECOND)) == {"PUT": 1}  # its header was compared before, by a read


def test_a_store_that_only_creates_proves_a_first_image_by_its_answer_and_is_looked_at_for_a_later_one(wire: Wire) -> None:
    network = wire.anew(("create", "metadata"))
    assert wire.counted(partial(network.write, PAD, FIRST), partial(network.confirm, PAD, FIRST.digest)) == {"PUT": 1}
    calls = partial(network.write, PAD, SECOND), partial(network.confirm, PAD, SECOND.digest)
    assert wire.counted(*calls) == {"HEAD": 1, "PUT": 1}
    vars(network)["_bucket"].delete(PAD.address)
    with pytest.raises(TransientNetworkError):
        network.confirm(PAD, SECOND.digest)


def test_a_store_that_keeps_nothing_is_read_back(wire: Wire) -> None:
    network = wire.anew(())
    plant(wire.store, PAD.address, bytes(FIRST.data), marked=False)
    assert wire.counted(partial(network.confirm, PAD, FIRST.digest)) == {"HEAD": 1, "GET": 1}
    with pytest.raises(PadConflict):
        network.confirm(PAD, SECOND.digest)


def test_an_object_tells_counter_and_digest_without_being_read(wire: Wire) -> None:
    wire.network.write(PAD, FIRST)
    looked = vars(wire.network)["_bucket"].look(PAD.address)
    assert (looked.size, looked.counter, looked.digest) == (len(FIRST.data), 1, FIRST.digest)


def test_any_range_is_one_request(wire: Wire) -> None:
    wire.network.write(PAD, FIRST)
    for offset, length in ((0, None), (0, 3), (2, 100), (3, None)):
        assert wire.counted(partial(wire.network.read, PAD, offset, length)) == {"GET": 1}


# -- answers that were lost


@pytest.mark.parametrize("earlier", [None, FIRST], ids=["first", "later"])
def test_an_image_whose_answer_was_lost_is_found_and_not_sent_again(wire: Wire, earlier: Any) -> None:
    image = FIRST if earlier is None else SECOND
    if earlier is not None:
        wire.network.write(PAD, earlier)
    wire.proxy.reset(storm(1, 1, "lost"))
    with pytest.raises(TransientNetworkError):
        wire.network.write(PAD, image)
    wire.network.write(PAD, image)
    assert wire.proxy.methods == {"PUT": 1, "HEAD": 1}
    assert wire.counted(partial(wire.network.confirm, PAD, image.digest)) == {}


@pytest.mark.parametrize("counter", [1, 2])
def test_a_request_that_arrived_twice_is_no_conflict(wire: Wire, counter: int) -> None:
    """The answer that comes back is a refusal: the condition fails because the first of the two succeeded."""
    if counter == 2:
        wire.network.write(PAD, FIRST)
    wire.proxy.reset(storm(1, 1, "twice"))
    wire.network.write(PAD, make_image(b"twice", counter))
    assert wire.proxy.methods == {"PUT": 1, "HEAD": 1}
    assert stored(wire.store, PAD.address) == b"twice"


@pytest.mark.parametrize("abilities", [STRONG, ("create", "metadata")], ids=["strong", "weak"])
def test_a_doubt_that_the_store_cannot_resolve_now_does_not_keep_it_from_writing(abilities: tuple[str, ...]) -> None:
    with Scripted(Answer(503), Answer(503), Answer(200, headers={"ETag": '"1"'})) as script:
        network = opened(script.url, "bucket", abilities)
        with pytest.raises(TransientNetworkError):
            network.write(PAD, FIRST)
        network.write(PAD, FIRST)
    assert [request.method for request in script.requests] == ["PUT", "HEAD", "PUT"]


def test_a_request_that_never_arrived_is_sent_again(wire: Wire) -> None:
    wire.proxy.reset(storm(1, 1, "refused"))
    with pytest.raises(TransientNetworkError):
        wire.network.write(PAD, FIRST)
    wire.network.write(PAD, FIRST)
    assert wire.proxy.methods == {"PUT": 2, "HEAD": 1}


def test_what_was_remembered_of_a_pad_is_forgotten_when_its_write_fails(wire: Wire) -> None:
    wire.network.write(PAD, FIRST)
    wire.proxy.reset(storm(1, 1, "refused"))
    with pytest.raises(TransientNetworkError):
        wire.network.write(PAD, SECOND)
    with pytest.raises(PadConflict):
        wire.network.confirm(PAD, SECOND.digest)


def test_an_image_is_not_confirmed_when_another_was_sent_to_its_pad_since(wire: Wire) -> None:
    wire.network.write(PAD, FIRST)
    wire.proxy.reset(storm(1, 1, "lost"))
    with pytest.raises(TransientNetworkError):
        wire.network.write(PAD, SECOND)
    with pytest.raises(PadConflict):
        wire.network.confirm(PAD, FIRST.digest)


# -- other writers


def test_a_foreign_image_is_told_by_the_first_write_and_stays(wire: Wire) -> None:
    plant(wire.store, PAD.address, b"theirs")
    for abilities in (STRONG, ("metadata",), ()):
        with pytest.raises(PadConflict):
            wire.anew(abilities).write(PAD, FIRST)
        assert stored(wire.store, PAD.address) == b"theirs"


@pytest.mark.parametrize("counter", [1, 3, 4])
def test_an_image_of_another_counter_than_the_one_before_is_not_replaced(wire: Wire, counter: int) -> None:
    plant(wire.store, PAD.address, b"theirs", counter=counter)
    with pytest.raises(PadConflict, match=f"counter {counter}, not 2"):
        wire.network.write(PAD, THIRD)
    assert stored(wire.store, PAD.address) == b"theirs"


def test_what_another_writer_left_after_our_own_write_is_not_replaced(wire: Wire) -> None:
    wire.network.write(PAD, FIRST)
    plant(wire.store, PAD.address, b"theirs", counter=2)
    with pytest.raises(PadConflict):
        wire.network.write(PAD, SECOND)
    assert stored(wire.store, PAD.address) == b"theirs"


def test_an_image_that_is_gone_is_not_made_anew_by_a_later_one(wire: Wire) -> None:
    with pytest.raises(PadNotFound):
        wire.network.write(PAD, SECOND)
    assert stored(wire.store, PAD.address) is None


def test_of_two_writers_at_once_one_wins_and_the_other_hears_of_it(wire: Wire) -> None:
    for counter in (1, 2, 3):
        mine, theirs = (partial(wire.anew().write, PAD, make_image(b"%s %d" % (who, counter), counter)) for who in (b"a", b"b"))

        def outcome(write: Callable[[], None]) -> str:
            try:
                write()
            except PadConflict:
                return "conflict"
            return "written"

        assert sorted(run_threads([partial(outcome, mine), partial(outcome, theirs)])) == ["conflict", "written"]


# -- copies that have lost their metadata


def test_a_pad_without_metadata_is_replaced_when_its_header_has_the_counter(wire: Wire) -> None:
    header = images.Header(7, 0, 0).pack()
    plant(wire.store, PAD.address, header + b"rest", marked=False)
    with pytest.raises(PadConflict, match="counter 7, not 8"):
        wire.network.write(PAD, make_image(b"ninth", 9))
    wire.network.write(PAD, make_image(b"eighth", 8))
    assert stored(wire.store, PAD.address) == b"eighth"


@pytest.mark.parametrize("data", [b"no header of ours, and long enough for one", b"short", b""])
def test_a_pad_without_metadata_or_header_is_somebody_s(wire: Wire, data: bytes) -> None:
    plant(wire.store, PAD.address, data, marked=False)
    with pytest.raises(PadConflict, match="no counter of ours"):
        wire.network.write(PAD, SECOND)


def test_the_header_is_where_the_network_looks_for_it() -> None:
    magic, counter = vars(objects)["_HEADER"].unpack_from(images.Header(2**63 + 5, 1, 2).pack())
    assert (magic, counter) == (images.MAGIC, 2**63 + 5) == (vars(objects)["_MAGIC"], 2**63 + 5)


# -- eventual stores


def test_what_was_just_written_and_is_not_seen_yet_may_pass(wire: Wire) -> None:
    network = wire.anew(("metadata", "ranges"))
    network.write(PAD, FIRST)
    vars(network)["_bucket"].delete(PAD.address)  # as a replica answers that has not heard of it
    calls: list[Callable[[], object]] = [
        partial(network.read, PAD),
        partial(network.read, PAD, 2, 3),
        partial(network.read, PAD, 0, 0),
        partial(network.confirm, PAD, FIRST.digest),
    ]
    for call in calls:
        with pytest.raises(TransientNetworkError, match="does not show yet"):
            call()
    with pytest.raises(PadNotFound):
        network.read(make_pad(2))


def test_an_older_image_than_the_one_just_written_may_pass(wire: Wire) -> None:
    network = wire.anew(("metadata", "ranges"))
    network.write(PAD, FIRST)
    network.write(PAD, SECOND)
    plant(wire.store, PAD.address, bytes(FIRST.data), counter=1)
    with pytest.raises(TransientNetworkError):
        network.read(PAD)
    with pytest.raises(TransientNetworkError):
        network.confirm(PAD, SECOND.digest)
    assert wire.anew(("metadata", "ranges")).read(PAD) == FIRST.data


@pytest.mark.parametrize("code", ["<Code>NoSuchBucket</Code>", ""])
def test_an_eventual_store_that_does_not_know_its_bucket_may_find_it_again(code: str) -> None:
    """Swift says so while its servers do not find each other."""
    with Scripted(Answer(404, code.encode())) as script:
        with pytest.raises(TransientNetworkError, match="no such bucket"):
            opened(script.url, "bucket", ("create", "metadata")).write(PAD, FIRST)
        with pytest.raises(NetworkNotFound):
            opened(script.url, "bucket", STRONG).write(PAD, FIRST)


def test_only_an_eventual_store_is_asked_for_the_newest_replica_and_not_when_any_will_do() -> None:
    with Scripted(Answer(200, b"0123", HEADERS)) as script:
        for abilities in (("metadata", "ranges"), STRONG):
            network = opened(script.url, "bucket", abilities)
            network.read(PAD)
            network.confirm(PAD, blake3(b"0123").digest(length=16))
            with any_replica():
                network.read(PAD)
    said = [request.headers.get("x-newest") for request in script.requests]
    assert said == ["true", "true", "true", None, None, None, None, None]


def test_a_strong_store_that_does_not_show_what_was_written_has_lost_it(wire: Wire) -> None:
    wire.network.write(PAD, FIRST)
    vars(wire.network)["_bucket"].delete(PAD.address)
    with pytest.raises(PadNotFound):
        wire.network.read(PAD)


def test_few_pads_are_remembered(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "_REMEMBERED", 5)
    for number in range(20):
        wire.network.write(make_pad(number), FIRST)
    assert len(vars(wire.network)["_ours"]) == 5
    assert wire.counted(partial(wire.network.confirm, make_pad(0), FIRST.digest)) == {"HEAD": 1}


# -- single answers


def error(code: str) -> bytes:
    """As S3 says it, with what it quotes in some of its errors."""
    quoted = f"<AWSAccessKeyId>{SECRETS[1]}</AWSAccessKeyId><StringToSign>{SECRETS[0]}</StringToSign>"
    return f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>{SECRETS[0]}</Message>{quoted}</Error>'.encode()


ANSWERS: list[tuple[int, str, type[AnthillError], str]] = [
    (404, "NoSuchBucket", NetworkNotFound, "no such bucket"),
    (404, "ContainerNotFound", NetworkNotFound, "no such bucket"),
    (404, "", NetworkNotFound, "no such bucket"),
    (403, "InvalidAccessKeyId", AccessDenied, "does not know the access key"),
    (403, "SignatureDoesNotMatch", AccessDenied, "secret key is wrong"),
    (403, "RequestTimeTooSkewed", AccessDenied, "clock is wrong"),
    (400, "ExpiredToken", AccessDenied, "has expired"),
    (403, "ExpiredToken", AccessDenied, "has expired"),
    (403, "AccessDenied", AccessDenied, "not allowed"),
    (401, "", AccessDenied, "not allowed"),
    (400, "AuthorizationHeaderMalformed", ConfigurationError, "another region"),
    (301, "PermanentRedirect", ConfigurationError, "region"),
    (400, "InvalidBucketName", ConfigurationError, "no bucket of this name"),
    (507, "XMinioStorageFull", OutOfSpace, "no room"),
    (413, "EntityTooLarge", OutOfSpace, "takes no more"),
    (403, "QuotaExceeded", OutOfSpace, "no room"),
    (400, "XAmzContentSHA256Mismatch", TransientNetworkError, "damaged on the way"),
    (400, "RequestTimeout", TransientNetworkError, "failed"),
    (500, "InternalError", TransientNetworkError, "failed"),
    (502, "", TransientNetworkError, "failed"),
    (503, "SlowDown", TransientNetworkError, "patience"),
    (429, "", TransientNetworkError, "patience"),
    (501, "NotImplemented", ProtocolError, "does not do"),
    (400, "SomethingNew", PermanentNetworkError, "refuses"),
]


def everything_told(failure: BaseException) -> str:
    """The error, all it was caused by, and the traceback that a log would show."""
    shown = "".join(traceback.format_exception(failure))
    seen: BaseException | None = failure
    while seen is not None:
        shown += repr(seen) + str(seen) + repr(vars(seen))
        seen = seen.__cause__ or seen.__context__
    return shown


@pytest.mark.parametrize(("status", "code", "kind", "words"), ANSWERS, ids=lambda value: str(value))
def test_an_answer_has_its_error_and_words_and_quotes_nothing(status: int, code: str, kind: type, words: str) -> None:
    with Scripted(Answer(status, error(code) if code else b"")) as script:
        with pytest.raises(AnthillError, match=words) as caught:
            opened(script.url, "bucket").write(PAD, FIRST)
        assert type(caught.value) is kind or (kind is ProtocolError and isinstance(caught.value, kind))
        assert len(script.requests) == 1, "the library repeats nothing by itself"
    told = everything_told(caught.value)
    assert not [secret for secret in SECRETS if secret in told]
    assert script.url not in told


def test_requests_to_slow_down_slow_all_threads_down() -> None:
    for status, slow in ((503, True), (429, True), (500, False)):
        with Scripted(Answer(status)) as script, pytest.raises(TransientNetworkError) as caught:
            opened(script.url, "bucket").read(PAD)
        assert caught.value.slow_down is slow


def test_the_secret_key_is_not_sent_and_a_request_is_signed() -> None:
    with Scripted(Answer(200, headers={"ETag": '"1"'})) as script:
        opened(script.url, "bucket").write(PAD, FIRST)
    (request,) = script.requests
    assert request.headers["authorization"].startswith(f"AWS4-HMAC-SHA256 Credential={SECRETS[1]}/")
    assert SECRETS[0] not in str(request)
    assert request.headers["if-none-match"] == "*"
    assert request.path == f"/bucket/team/pads/{PAD.address}"
    assert (request.body, request.headers["x-amz-meta-anthillcounter"]) == (FIRST.data, "1")


HEADERS = {"ETag": '"1"', "Last-Modified": "Sat, 21 Nov 2026 12:35:02 GMT"}


def test_a_body_that_ends_early_may_pass() -> None:
    with Scripted(Answer(200, b"0123456789", HEADERS, cut=4)) as script, pytest.raises(TransientNetworkError):
        opened(script.url, "bucket").read(PAD)


def test_an_object_larger_than_a_pad_is_not_read() -> None:
    with Scripted(Answer(200, bytes(PAD_SIZE + 1), HEADERS)) as script, pytest.raises(ProtocolError, match="more than a pad"):
        opened(script.url, "bucket").read(PAD)


def test_nobody_at_the_endpoint_may_pass_and_says_why() -> None:
    with pytest.raises(TransientNetworkError, match="connection refused"):
        opened("http://127.0.0.1:9", "bucket").read(PAD)


def test_a_host_that_is_not_found_may_pass_and_says_so() -> None:
    with pytest.raises(TransientNetworkError, match="host is not found"):
        opened("https://nowhere.invalid", "bucket").read(PAD)


# -- calls that hang


def test_a_server_that_says_nothing_is_left_at_the_deadline_and_the_buffer_given_back() -> None:
    buffer = bytearray(PAD_SIZE)
    image = make_image(memoryview(buffer))
    with Scripted(Answer(200, hang=True)) as script:
        network = opened(script.url, "bucket", deadline_base=0.2, deadline_rate=10**9)
        with pytest.raises(TransientNetworkError, match="timed out"):
            network.write(PAD, image)
        image.data.release()  # type: ignore[union-attr]
        buffer.clear()  # a BufferError, were it still held


def test_close_ends_calls_that_run_and_no_new_one_begins() -> None:
    with Scripted(Answer(200, hang=True)) as script:
        network = opened(script.url, "bucket")

        def close() -> None:
            while not script.requests:
                pass
            network.close()

        def read() -> None:
            with pytest.raises(TransientNetworkError, match="closed"):
                network.read(PAD)

        run_threads([read, close])
        with pytest.raises(TransientNetworkError, match="closed"):
            network.read(PAD)
        network.close()
        assert len(script.requests) == 1
