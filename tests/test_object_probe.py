"""What is found out about an object store when a store is made on it, and which ones are refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from obstore.store import LocalStore, MemoryStore

from anthill_sync.errors import AccessDenied, AnthillError, ConfigurationError, NetworkNotFound, TransientNetworkError
from anthill_sync.networks import open_network
from anthill_sync.networks.base import Image
from anthill_sync.networks.object_calls import Bucket, Missing, Stored, Tag, Unsupported
from anthill_sync.networks.object_probe import probe
from anthill_sync.settings import Settings
from tests.faults.proxy import Proxy, seeded
from tests.support.objects import KEYS, LOCAL, STRONG, moto
from tests.support.scripted import Answer, Scripted

QUICK = Settings(backoff_base=0.0)


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)


def objects(store: Any) -> list[str]:
    return [each["path"] for page in store.list() for each in page]


# -- stores that do what they say


def test_a_store_with_everything_is_found_to_have_it_and_nothing_is_left_behind() -> None:
    store = MemoryStore()
    assert probe(Bucket(store, store, prefix="pads/", where="memory"), QUICK) == STRONG
    assert objects(store) == []


def test_a_folder_has_no_metadata_and_no_conditional_replacement(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    assert probe(Bucket(store, store, prefix="pads/", where="folder"), QUICK) == LOCAL
    assert objects(store) == []


def test_an_s3_server_is_asked_once_and_the_facts_say_what_was_found() -> None:
    bucket = moto().bucket()
    with Proxy(moto().endpoint) as proxy:
        url = f"s3://{bucket}?endpoint={proxy.url}"
        properties = open_network(url, pad_size=16384, base=Path("/"), settings=QUICK).properties
        assert (properties.abilities, properties.compares_counters, properties.shows_reservations) == (STRONG, True, False)
        assert proxy.requests < 50
        before = proxy.requests
        known = open_network(url, pad_size=16384, base=Path("/"), settings=QUICK, facts={"abilities": list(STRONG)})
        assert (known.properties, proxy.requests) == (properties, before)


def test_the_probe_comes_through_faults_that_pass() -> None:
    bucket = moto().bucket()
    with Proxy(moto().endpoint, seeded(11, 0.15, ("refused", "lost", "500", "503", "reset"))) as proxy:
        url = f"s3://{bucket}?endpoint={proxy.url}"
        found = open_network(url, pad_size=16384, base=Path("/"), settings=Settings(backoff_base=0.0, attempts=20)).properties
        assert proxy.met.total() > 0
    assert {"create", "metadata", "ranges"} <= set(found.abilities)


# -- stores that do less


class Odd(Bucket):
    """A store in memory with one habit that no store has that can be run here."""

    def __init__(self) -> None:
        store = MemoryStore()
        super().__init__(store, store, prefix="pads/", where="odd")


class NoConditions(Odd):
    """Takes every write."""

    def create(self, name: str, image: Image, *, marked: bool) -> Tag | None:
        return super().replace(name, image, marked=marked)

    def replace(self, name: str, image: Image, *, marked: bool, tag: Tag | None = None) -> Tag | None:
        return super().replace(name, image, marked=marked)


class RefusesConditions(Odd):
    """Says that it does not know them."""

    def create(self, name: str, image: Image, *, marked: bool) -> Tag | None:
        raise Unsupported("no conditions")

    def replace(self, name: str, image: Image, *, marked: bool, tag: Tag | None = None) -> Tag | None:
        if tag is not None:
            raise Unsupported("no conditions")
        return super().replace(name, image, marked=marked)


class NotAtomic(Odd):
    """Compares, but writers at the same moment all succeed: they are let through once the condition holds."""

    def replace(self, name: str, image: Image, *, marked: bool, tag: Tag | None = None) -> Tag | None:
        return super().replace(name, image, marked=marked, tag=None if image.counter >= 20 else tag)


class DropsMetadata(Odd):
    def look(self, name: str) -> Stored | None:
        found = super().look(name)
        return found and Stored(found.size, found.tag, None, None)


class RefusesMetadata(Odd):
    def _put(self, name: str, image: Image, mode: Any, marked: bool) -> Tag | None:
        if marked:
            raise Unsupported("no metadata")
        return super()._put(name, image, mode, marked)


class NoRanges(Odd):
    def read(self, name: str, offset: int, length: int | None, limit: int, *, newest: bool = True) -> tuple[memoryview, Stored]:
        return super().read(name, 0, None, limit)


class KeepsEverything(Odd):
    def delete(self, name: str) -> None:
        raise AccessDenied("only reading and writing")


class NoTags(Odd):
    def read(self, name: str, offset: int, length: int | None, limit: int, *, newest: bool = True) -> tuple[memoryview, Stored]:
        data, found = super().read(name, offset, length, limit)
        return data, Stored(found.size, None, found.counter, found.digest)


class Limited(Odd):
    """Takes no write of an object that was just written, four times out of five."""

    def __init__(self) -> None:
        super().__init__()
        self.writes = 0

    def _put(self, name: str, image: Image, mode: Any, marked: bool) -> Tag | None:
        self.writes += 1
        if self.writes % 5:
            raise TransientNetworkError("one write in a second", slow_down=True)
        return super()._put(name, image, mode, marked)


def test_a_store_that_limits_writes_of_an_object_is_found_to_have_all_it_has() -> None:
    assert probe(Limited(), QUICK) == STRONG


LESS: dict[Callable[[], Bucket], set[str]] = {
    NoConditions: {"create", "if-match"},
    RefusesConditions: {"create", "if-match"},
    NotAtomic: {"if-match"},
    DropsMetadata: {"metadata"},
    RefusesMetadata: {"metadata"},
    NoRanges: {"ranges"},
    KeepsEverything: {"delete"},
    NoTags: {"if-match"},
}


@pytest.mark.parametrize("kind", LESS, ids=lambda kind: kind.__name__)
def test_what_a_store_does_not_do_is_not_relied_on(kind: Callable[[], Bucket]) -> None:
    assert set(STRONG) - set(probe(kind(), QUICK)) == LESS[kind]


# -- stores that cannot hold pads


class Forgetful(Odd):
    """Never shows what it took."""

    def read(self, name: str, offset: int, length: int | None, limit: int, *, newest: bool = True) -> tuple[memoryview, Stored]:
        raise Missing


class Slow(Odd):
    """Shows what was written at the third look."""

    def __init__(self) -> None:
        super().__init__()
        self.looks = 0

    def read(self, name: str, offset: int, length: int | None, limit: int, *, newest: bool = True) -> tuple[memoryview, Stored]:
        self.looks += 1
        if self.looks % 3:
            raise Missing
        return super().read(name, offset, length, limit)


class Older(Odd):
    """Goes on showing the first state of an object."""

    def __init__(self) -> None:
        super().__init__()
        self.first: dict[str, tuple[memoryview, Stored]] = {}

    def read(self, name: str, offset: int, length: int | None, limit: int, *, newest: bool = True) -> tuple[memoryview, Stored]:
        if name not in self.first:
            self.first[name] = super().read(name, offset, length, limit)
        return self.first[name]


class Partial(Odd):
    """Shows an object while it is being replaced."""

    def replace(self, name: str, image: Image, *, marked: bool, tag: Tag | None = None) -> Tag | None:
        if image.counter == 11:
            half = Image(bytes(image.data)[:500], image.counter, image.digest)
            super().replace(name, half, marked=marked)
            while not self.seen:
                pass
        return super().replace(name, image, marked=marked, tag=tag)

    seen = False

    def read(self, name: str, offset: int, length: int | None, limit: int, *, newest: bool = True) -> tuple[memoryview, Stored]:
        data, found = super().read(name, offset, length, limit)
        self.seen = self.seen or len(data) == 500
        return data, found


class Appending(Odd):
    """Keeps the end of what was there."""

    def _put(self, name: str, image: Image, mode: Any, marked: bool) -> Tag | None:
        before = bytes(super().read(name, 0, None, 1 << 30)[0]) if self.look(name) else b""
        data = bytes(image.data) + before[len(image.data) :]
        return super()._put(name, Image(data, image.counter, image.digest), mode, marked)


class Haunted(Odd):
    def read(self, name: str, offset: int, length: int | None, limit: int, *, newest: bool = True) -> tuple[memoryview, Stored]:
        return memoryview(b"boo"), Stored(3, None, None, None)


class Full(Odd):
    def _put(self, name: str, image: Image, mode: Any, marked: bool) -> Tag | None:
        raise Unsupported("no writes")


UNFIT: dict[Callable[[], Bucket], str] = {
    Forgetful: "does not show what was written",
    Older: "does not show what was written",
    Partial: "parts of objects",
    Appending: "does not show what was written",
    Haunted: "never written",
    Full: "does not take objects",
}


@pytest.mark.parametrize("kind", UNFIT, ids=lambda kind: kind.__name__)
def test_a_store_that_cannot_hold_pads_is_refused_with_the_reason(kind: Callable[[], Bucket]) -> None:
    with pytest.raises(ConfigurationError, match=f"odd cannot hold pads: .*{UNFIT[kind]}") as caught:
        probe(kind(), QUICK)
    assert caught.value.exit_code == 78


def test_a_store_that_shows_what_was_written_within_the_retries_is_taken() -> None:
    assert "create" in probe(Slow(), QUICK)
    with pytest.raises(ConfigurationError, match="does not show"):
        probe(Slow(), Settings(backoff_base=0.0, attempts=2))


# -- what is said when nothing can be found out


def refused(*answers: Answer) -> AnthillError:
    with Scripted(*answers) as script, pytest.raises(AnthillError) as caught:
        open_network(f"s3://bucket?endpoint={script.url}", pad_size=16384, base=Path("/"), settings=QUICK)
    return caught.value


def test_reading_what_is_not_there_has_to_be_allowed() -> None:
    error = refused(Answer(403, b"<Error><Code>AccessDenied</Code></Error>"))
    assert (type(error), error.exit_code) == (AccessDenied, 77)
    assert "s3:ListBucket" in str(error)


def test_a_missing_bucket_is_named_and_is_69() -> None:
    error = refused(Answer(404, b"<Error><Code>NoSuchBucket</Code></Error>"))
    assert (type(error), error.exit_code) == (NetworkNotFound, 69)
    assert "s3://bucket" in str(error)


def test_a_store_that_is_down_is_75() -> None:
    error = refused(Answer(500))
    assert (type(error), error.exit_code) == (TransientNetworkError, 75)
