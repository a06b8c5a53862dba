"""An update sends what changed and nothing else, however many come in a row."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from anthill_sync.image import decode_manifest
from tests.store_tools import CHUNK, PAD, StoreRig, chunks_of

pytest_plugins = ["tests.store_fixtures"]

Make = Callable[[bytes, Path], Any]


def as_bytes(data: bytes, folder: Path) -> bytes:
    return data


def as_stream(data: bytes, folder: Path) -> Any:
    return iter([data])


def as_file(data: bytes, folder: Path) -> Path:
    (folder / "source").write_bytes(data)
    return folder / "source"


@pytest.fixture(params=[as_bytes, as_stream, as_file])
def make(request: pytest.FixtureRequest) -> Make:
    kind: Make = request.param
    return kind


def test_only_changed_chunks_are_sent(each: StoreRig, make: Make, tmp_path: Path) -> None:
    data = chunks_of(*range(10)) + b"rest"
    each.store.put("a", make(data, tmp_path))
    changed = chunks_of(0, 1, 91, *range(3, 8), 98, 9) + b"rest"
    kept = {place.chunk: place for place in each.store.stat("a").blocks or ()}
    with each.counting() as calls:
        each.store.put("a", make(changed, tmp_path))
    assert calls["write"] == 3  # two chunks and the manifest
    new = {place.chunk: place for place in each.store.stat("a").blocks or ()}
    assert {chunk for chunk in kept if kept[chunk] != new[chunk]} == {2, 8}
    each.assert_sound(a=changed)


def test_identical_content_sends_nothing(each: StoreRig, make: Make, tmp_path: Path) -> None:
    data = chunks_of(*range(5)) + b"rest"
    first = each.store.put("a", make(data, tmp_path))
    with each.counting() as calls:
        second = each.store.put("a", make(data, tmp_path))
    assert (calls["write"], calls["reserve"]) == (0, 0)
    assert second.version == first.version
    assert second.transfer is not None
    assert (second.transfer.pads_written, second.transfer.bytes_sent) == (0, 0)


def test_new_attributes_send_a_manifest_and_no_data(rig: StoreRig) -> None:
    data = chunks_of(*range(5)) + b"rest"
    rig.store.put("a", data)
    with rig.counting() as calls:
        rig.store.put("a", data, attributes={"mode": 0o600})
    assert calls["write"] == 1
    assert rig.store.stat("a").attributes == {"mode": 0o600}
    rig.assert_sound(a=data)


SHAPES = [
    b"", b"x", b"y", chunks_of(1), chunks_of(1) + b"x", chunks_of(1, 2, 3), chunks_of(1, 2, 3) + b"rest",
    chunks_of(1, 2, 3)[:-1], chunks_of(1, 9, 3), chunks_of(1, 9, 3, 4, 5) + b"tail", chunks_of(3, 2, 1),
]  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
def test_a_value_grows_shrinks_empties_and_comes_back(
    rigs: Callable[..., StoreRig], make: Make, tmp_path: Path, seed: int
) -> None:
    rig, chance = rigs(["memory", "embedded"][seed % 2]), random.Random(seed)
    for _ in range(25):
        data = chance.choice(SHAPES)
        assert rig.store.put("a", make(data, tmp_path)).size == len(data)
        assert rig.store["a"] == data
    rig.assert_sound()
    rig.reopen()
    rig.store["a"] = b""
    usage = rig.store.usage()
    assert (usage.pads.used, usage.bytes.stored) == (1, 0)
    rig.assert_sound(a=b"")


def test_a_shrunk_value_frees_the_pads_it_left(rig: StoreRig) -> None:
    rig.store.put("a", chunks_of(*range(10)))
    free = rig.store.usage().pads.free
    rig.store.put("a", chunks_of(0, 1))
    assert rig.store.usage().pads.free == free + 8


def test_the_old_value_is_readable_until_the_new_one_is_published(rig: StoreRig, background: Callable[..., Any]) -> None:
    old, new = chunks_of(*range(6)), chunks_of(*range(50, 57))
    rig.store.put("a", old)
    gate = rig.faulty.hold("write")
    put = background(lambda: rig.store.put("a", new))
    gate.wait_for(7)
    assert rig.store["a"] == old
    gate.open()
    put.result(20)
    rig.assert_sound(a=new)


# -- many in a row


def current_manifest(rig: StoreRig, key: str) -> tuple[int, int]:
    """Bytes and spans of the current manifest, as the network has it."""
    value = rig.index.values[key]
    parsed = rig.parse(value.manifest_pad, rig.image(value.manifest_pad))
    assert parsed is not None
    (manifest,) = [each for each in parsed[1].manifests if (each.key, each.version) == (key, value.version)]
    return len(manifest.data), len(decode_manifest(manifest.data).spans)


@pytest.mark.parametrize(("make", "updates", "changes"), [(as_bytes, 300, 3), (as_stream, 100, 8)])
def test_hundreds_of_updates_in_a_row_stay_right_and_keep_the_manifest_below_half_a_pad(
    rigs: Callable[..., StoreRig], make: Make, updates: int, changes: int, tmp_path: Path
) -> None:
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")
    rig, chance = rigs(watch=False), random.Random(seed)
    key, attributes = "k" * 1024, {"text": "x" * 1000}  # so that fewer spans fill half a pad
    chunks, most, sent = 250, 0, 0
    data = bytearray(chance.randbytes(chunks * CHUNK + 100))
    rig.store.put(key, make(bytes(data), tmp_path), attributes=attributes)
    pads = rig.index.pads
    for update in range(1, updates + 1):
        changed = {chance.randrange(chunks) for _ in range(changes)}
        for chunk in changed:
            data[chunk * CHUNK + chance.randrange(CHUNK)] ^= 1 + chance.randrange(255)
        entry = rig.store.put(key, make(bytes(data), tmp_path), attributes=attributes)
        assert entry.transfer is not None
        sent += entry.transfer.pads_written
        size, spans = current_manifest(rig, key)
        most = max(most, spans)
        assert size <= PAD // 2
        if update % 50 == 0:
            assert rig.store.check().problems == ()
            assert rig.store[key] == data
    assert most > 100  # spans did collect, and were sealed together
    assert sent < updates * (changes + 1) * 4  # which costs a few chunks an update
    assert rig.index.pads <= pads + 250
    rig.reopen()
    rig.assert_sound(**{key: bytes(data)})
