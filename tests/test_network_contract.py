"""One suite for every network and every wrapper. A network joins by a harness: how to make one, and
how to look at and change its pads behind its back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest
from obstore.store import ObjectStore

from anthill_sync.errors import PadConflict, PadNotFound, PermanentNetworkError
from anthill_sync.networks import open_network
from anthill_sync.networks.base import Network
from anthill_sync.networks.directory import DirectoryNetwork
from anthill_sync.networks.memory import MemoryNetwork
from anthill_sync.networks.retrying import RetryingNetwork
from anthill_sync.settings import Settings
from tests.support import FaultyNetwork, SlowNetwork, make_image, make_pad, make_pad_image, run_threads
from tests.support.cluster import SWIFT, SwiftCluster
from tests.support.objects import KEYS, STRONG, local_objects, memory_objects, moto, plant, stored
from tests.support.servers import serve_only, stop_only

PAD_SIZE = 16 * 1024
PAD = make_pad(1)
ADDRESS = PAD.address


@dataclass(frozen=True)
class Harness:
    network: Network
    plant: Callable[[str, bytes], object]  # put an image there behind the network's back
    stored: Callable[[str], bytes | None]  # the image that lies there; None: no such pad
    conditional: bool = True  # it looks and replaces in one step


def memory(folder: Path) -> Harness:
    network = MemoryNetwork(PAD_SIZE)
    return Harness(network, network.pads.__setitem__, network.pads.get)


def directory(folder: Path) -> Harness:
    def plant(address: str, data: bytes) -> None:
        (folder / address[:2]).mkdir(exist_ok=True)
        (folder / address[:2] / address).write_bytes(data)

    def stored(address: str) -> bytes | None:
        path = folder / address[:2] / address
        return path.read_bytes() if path.exists() else None

    return Harness(DirectoryNetwork(folder, PAD_SIZE), plant, stored)


def server(folder: Path) -> Harness:
    """A live pad server on the loopback; its pads are a directory network's."""
    url = serve_only(folder, pad_size=PAD_SIZE).url
    pads = directory(folder / "pads")
    network = open_network(url, pad_size=PAD_SIZE, base=folder, settings=Settings())
    return replace(pads, network=network)


def objects_in(network: Network, store: ObjectStore, *, marked: bool) -> Harness:
    return Harness(network, partial(plant, store, marked=marked), partial(stored, store))


def object_memory(folder: Path) -> Harness:
    return objects_in(*memory_objects(PAD_SIZE), marked=True)


def object_folder(folder: Path) -> Harness:
    """No metadata, no conditional replacement: what a plain store gives."""
    return replace(objects_in(*local_objects(folder, PAD_SIZE), marked=False), conditional=False)


def s3(folder: Path, abilities: tuple[str, ...] = STRONG) -> Harness:
    """A live S3 server on the loopback."""
    bucket = moto().bucket()
    facts = {"abilities": abilities}
    network = open_network(moto().url(bucket), pad_size=PAD_SIZE, base=folder, settings=Settings(), facts=facts)
    return objects_in(network, moto().store(bucket), marked=True)


def s3_without_conditions(folder: Path) -> Harness:
    """The same, used as a store that has metadata only and may be eventual."""
    return replace(s3(folder, ("metadata",)), conditional=False)


def swift(cluster: SwiftCluster) -> Harness:
    """A live cluster of several machines' worth of servers, with what the probe finds there."""
    url = cluster.url()
    network = open_network(url, pad_size=PAD_SIZE, base=Path("/"), settings=Settings(), facts={"abilities": SWIFT})
    return replace(objects_in(network, cluster.store(url), marked=True), conditional=False)


NETWORKS: dict[str, Callable[[Path], Harness]] = {
    "memory": memory,
    "directory": directory,
    "server": server,
    "object-memory": object_memory,
    "object-folder": object_folder,
    "s3": s3,
    "s3-without-conditions": s3_without_conditions,
}
WRAPPERS: dict[str, Callable[[Network], Network]] = {
    "bare": lambda inner: inner,
    "retrying": lambda inner: RetryingNetwork(inner, Settings()),
    "slow": lambda inner: SlowNetwork(inner, sleep=lambda seconds: None),
    "faulty": FaultyNetwork,
}


@pytest.fixture(scope="module", autouse=True)
def _no_server_left() -> Iterator[None]:
    yield
    stop_only()


ON_THE_CLUSTER = [pytest.mark.cluster, pytest.mark.xdist_group("cluster")]
PARAMS = [
    *(pytest.param((network, wrapper), id=f"{network}-{wrapper}") for network in NETWORKS for wrapper in WRAPPERS),
    pytest.param(("swift", "bare"), id="swift-bare", marks=ON_THE_CLUSTER),
]


@pytest.fixture(params=PARAMS)
def harness(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Harness:
    network, wrapper = request.param
    cluster: SwiftCluster | None = request.getfixturevalue("cluster") if network == "swift" else None
    for name, value in (KEYS if cluster is None else cluster.environment).items():
        monkeypatch.setenv(name, value)
    made = NETWORKS[network](tmp_path) if cluster is None else swift(cluster)
    return replace(made, network=WRAPPERS[wrapper](made.network))


def test_properties_are_stated_and_stay(harness: Harness) -> None:
    properties = harness.network.properties
    assert properties.pad_size == PAD_SIZE
    assert properties.scheme
    assert properties.connections >= 1
    assert harness.network.properties == properties


# -- reserve


def empty(harness: Harness) -> bytes | None:
    """What lies where a reserved, empty pad is: nothing where reserving asks nobody."""
    return b"" if harness.network.properties.shows_reservations else None


def test_a_reserved_pad_reads_as_zero_bytes_or_is_missing_as_the_properties_say(harness: Harness) -> None:
    harness.network.reserve(PAD)
    if harness.network.properties.shows_reservations:
        assert harness.network.read(PAD) == b""
    else:
        with pytest.raises(PadNotFound):
            harness.network.read(PAD)
    assert harness.stored(ADDRESS) == empty(harness)


def test_reserving_twice_leaves_an_empty_pad_as_it_is(harness: Harness) -> None:
    harness.network.reserve(PAD)
    harness.network.reserve(PAD)
    assert harness.stored(ADDRESS) == empty(harness)


def begin(network: Network) -> None:
    """Reserve a pad; where that asks nobody, its first write tells."""
    network.reserve(PAD)
    if not network.properties.shows_reservations:
        network.write(PAD, make_image(b"ours"))


def test_a_pad_that_holds_an_image_cannot_be_reserved_and_written_as_new_and_keeps_the_image(harness: Harness) -> None:
    harness.plant(ADDRESS, b"somebody's image")
    with pytest.raises(PadConflict) as caught:
        begin(harness.network)
    assert caught.value.context["pad"] == ADDRESS
    assert harness.stored(ADDRESS) == b"somebody's image"


def test_many_threads_may_reserve_the_same_and_different_pads(harness: Harness) -> None:
    pads = [make_pad(number) for number in range(40)]
    run_threads(partial(harness.network.reserve, pad) for pad in pads * 3)
    assert [harness.stored(pad.address) for pad in pads] == [empty(harness)] * len(pads)


# -- write


@pytest.mark.parametrize("size", [0, 1, PAD_SIZE - 1, PAD_SIZE])
def test_what_is_written_is_what_lies_there(harness: Harness, size: int) -> None:
    data = bytes(number % 251 for number in range(size))
    harness.network.reserve(PAD)
    harness.network.write(PAD, make_image(data))
    assert harness.stored(ADDRESS) == data


def test_a_pad_that_was_never_reserved_is_created(harness: Harness) -> None:
    harness.network.write(PAD, make_image(b"first"))
    assert harness.stored(ADDRESS) == b"first"


@pytest.mark.parametrize("new", [b"a longer image than before", b"short"])
def test_an_image_is_replaced_whole(harness: Harness, new: bytes) -> None:
    harness.plant(ADDRESS, b"the old image")
    harness.network.write(PAD, make_image(new, counter=2))
    assert harness.stored(ADDRESS) == new


def test_writing_the_same_first_image_again_succeeds(harness: Harness) -> None:
    for _ in range(2):
        harness.network.write(PAD, make_image(b"image"))
    assert harness.stored(ADDRESS) == b"image"


def test_writing_the_same_later_image_again_succeeds(harness: Harness) -> None:
    harness.plant(ADDRESS, b"old")
    for _ in range(2):
        harness.network.write(PAD, make_image(b"image", counter=2))
    assert harness.stored(ADDRESS) == b"image"


@pytest.mark.parametrize("there", [b"another image", b"imagE"])
def test_a_first_image_never_replaces_another_one(harness: Harness, there: bytes) -> None:
    harness.plant(ADDRESS, there)
    with pytest.raises(PadConflict) as caught:
        harness.network.write(PAD, make_image(b"image"))
    assert caught.value.context["pad"] == ADDRESS
    assert harness.stored(ADDRESS) == there


@pytest.mark.parametrize("counter", [1, 2, 3])
def test_of_two_writers_that_saw_the_same_image_the_second_replaces_nothing(harness: Harness, counter: int) -> None:
    if counter > 1 and not harness.conditional:
        assert_writers_must_look_before(harness, counter)
        return
    for before in range(1, counter):
        harness.network.write(PAD, make_pad_image(before, b"before"))
    first, second = make_pad_image(counter, b"first"), make_pad_image(counter, b"second")
    harness.network.write(PAD, first)
    for _ in range(2):
        with pytest.raises(PadConflict) as caught:
            harness.network.write(PAD, second)
        assert caught.value.context["pad"] == ADDRESS
    harness.network.write(PAD, first)
    assert harness.stored(ADDRESS) == first.data
    harness.network.write(PAD, make_pad_image(counter + 1, b"third"))
    with pytest.raises(PadConflict):
        harness.network.write(PAD, first)
    assert harness.stored(ADDRESS) == make_pad_image(counter + 1, b"third").data


def assert_writers_must_look_before(harness: Harness, counter: int) -> None:
    """It replaces without a condition: it says so, and what is there, its counter too, shows at once."""
    assert not harness.network.properties.compares_counters
    images = [make_pad_image(number, b"image") for number in range(1, counter + 1)]
    for image in [*images, make_pad_image(counter, b"another writer's")]:
        harness.network.write(PAD, image)
        assert harness.network.read(PAD) == image.data


def test_an_image_larger_than_a_pad_is_refused_for_good_and_the_old_one_stays(harness: Harness) -> None:
    harness.plant(ADDRESS, b"old")
    with pytest.raises(PermanentNetworkError, match=str(PAD_SIZE + 1)):
        harness.network.write(PAD, make_image(bytes(PAD_SIZE + 1), counter=2))
    assert harness.stored(ADDRESS) == b"old"


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_buffer_may_be_written_and_none_is_kept(harness: Harness, kind: Callable[[bytearray], bytes]) -> None:
    buffer = bytearray(b"contents")
    harness.network.write(PAD, make_image(kind(buffer)))
    buffer[:] = b"OTHERUSE"
    assert harness.stored(ADDRESS) == b"contents"
    assert harness.network.read(PAD) == b"contents"


def test_many_threads_may_write_different_pads(harness: Harness) -> None:
    pads = [make_pad(number) for number in range(60)]
    run_threads(partial(harness.network.write, pad, make_image(pad.address.encode())) for pad in pads)
    assert [harness.stored(pad.address) for pad in pads] == [pad.address.encode() for pad in pads]


def test_a_reader_beside_a_writer_sees_whole_images_only(harness: Harness) -> None:
    images = [bytes([number]) * PAD_SIZE for number in range(1, 31)]
    harness.plant(ADDRESS, images[0])

    def write_all() -> set[bytes]:
        for counter, image in enumerate(images[1:], start=2):
            harness.network.write(PAD, make_image(image, counter))
        return set()

    def read_many() -> set[bytes]:
        return {bytes(harness.network.read(PAD)) for _ in range(60)}

    seen = run_threads([write_all, read_many, read_many], threads=3)
    assert set.union(*seen) <= set(images)
    assert harness.stored(ADDRESS) == images[-1]


# -- confirm


def test_a_written_image_is_confirmed_as_often_as_asked(harness: Harness) -> None:
    image = make_image(b"image")
    harness.network.write(PAD, image)
    for _ in range(3):
        harness.network.confirm(PAD, image.digest)


def test_an_image_somebody_else_wrote_is_confirmed_by_its_digest(harness: Harness) -> None:
    harness.plant(ADDRESS, b"image")
    harness.network.confirm(PAD, make_image(b"image").digest)


def test_confirming_another_image_is_a_conflict(harness: Harness) -> None:
    harness.network.write(PAD, make_image(b"image"))
    with pytest.raises(PadConflict):
        harness.network.confirm(PAD, make_image(b"other").digest)


def test_confirming_a_missing_pad_says_so(harness: Harness) -> None:
    with pytest.raises(PadNotFound):
        harness.network.confirm(PAD, make_image(b"image").digest)
    assert harness.stored(ADDRESS) is None


def test_what_a_failed_write_left_is_not_confirmed_as_the_new_image(harness: Harness) -> None:
    harness.network.write(PAD, make_image(b"image"))
    with pytest.raises(PadConflict):
        harness.network.write(PAD, make_image(b"other"))
    with pytest.raises(PadConflict):
        harness.network.confirm(PAD, make_image(b"other").digest)


# -- read


@pytest.mark.parametrize(
    ("offset", "length", "expected"),
    [
        (0, None, b"0123456789"),
        (3, None, b"3456789"),
        (3, 4, b"3456"),
        (0, 0, b""),
        (8, 100, b"89"),
        (10, 1, b""),
        (500, 5, b""),
        (500, None, b""),
    ],
)
def test_a_range_is_read_and_cut_at_the_image_s_end(harness: Harness, offset: int, length: int | None, expected: bytes) -> None:
    harness.plant(ADDRESS, b"0123456789")
    data = harness.network.read(PAD, offset, length)
    assert memoryview(data).readonly
    assert data == expected


def test_reading_a_missing_pad_says_so_and_changes_nothing(harness: Harness) -> None:
    with pytest.raises(PadNotFound) as caught:
        harness.network.read(PAD)
    assert caught.value.context["pad"] == ADDRESS
    assert harness.stored(ADDRESS) is None


def test_reading_shows_what_was_changed_behind_the_network_s_back(harness: Harness) -> None:
    harness.network.write(PAD, make_image(b"ours"))
    harness.plant(ADDRESS, b"theirs!")
    assert harness.network.read(PAD) == b"theirs!"


def test_close_may_be_called_twice(harness: Harness) -> None:
    harness.network.close()
    harness.network.close()
