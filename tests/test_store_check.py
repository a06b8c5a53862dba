"""``check`` finds every damage and no other; and nothing readable ever reaches the network or a log."""

from __future__ import annotations

import base64
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from anthill_sync.errors import AnthillError, Damaged, InvalidArgument, PutFailed
from tests.store_tools import CHUNK, StoreRig, chunks_of, permanent, transient

pytest_plugins = ["tests.store_fixtures"]

DATA = chunks_of(1, 2, 3, 4) + b"rest"


@pytest.fixture
def rig(rigs: Callable[..., StoreRig]) -> StoreRig:
    """An embedded store with three values."""
    made = rigs("embedded")
    made.store.put_many({"a": DATA, "a/b": b"small", "b": chunks_of(9)})
    return made


def places(rig: StoreRig, key: str = "a") -> list[Any]:
    return list(rig.store.stat(key).blocks or ())


def test_a_sound_store_has_no_problems_and_every_block_was_read(rig: StoreRig) -> None:
    report = rig.store.check(read_data=True)
    assert (report.problems, report.blocks_read, report.seed) == ((), 7, None)
    assert rig.store.check("a", read_data=True).blocks_read == 6
    assert rig.store.check("b", read_data=True).blocks_read == 1
    assert rig.store.check("none", read_data=True).blocks_read == 0


def test_check_without_data_reads_nothing(rig: StoreRig) -> None:
    with rig.counting() as calls:
        assert rig.store.check().blocks_read == 0
    assert not calls


@pytest.mark.parametrize("chunk", [0, 3, 4])
@pytest.mark.parametrize("at", ["first", "middle", "last"])
def test_a_flipped_byte_of_a_block_is_found_and_named(rig: StoreRig, chunk: int, at: str) -> None:
    place = places(rig)[chunk]
    data = bytearray(rig.image(place.pad))
    position = {"first": 0, "middle": place.length // 2, "last": place.length - 1}[at]
    data[place.offset + position] ^= 1
    rig.pad_file(place.pad).write_bytes(data)
    problems = rig.store.check(read_data=True).problems
    assert (problems[0].kind, problems[0].pad, problems[0].key) == ("block", place.pad, "a")
    assert f"chunk {chunk}" in problems[0].detail
    shared = [("pad", place.pad, None)] if chunk == 4 else []  # which is read whole when it is written next
    assert [(problem.kind, problem.pad, problem.key) for problem in problems[1:]] == shared
    with pytest.raises(Damaged) as caught:
        rig.store["a"]
    assert caught.value.exit_code == 65
    assert rig.store["b"] == chunks_of(9)


def test_a_missing_pad_is_found_and_named(rig: StoreRig) -> None:
    place = places(rig)[1]
    kept = rig.image(place.pad)
    rig.pad_file(place.pad).unlink()
    problems = rig.store.check(read_data=True).problems
    blamed = [(problem.kind, problem.pad, problem.key) for problem in problems]
    assert blamed == [("block", place.pad, "a"), ("pad", place.pad, None)]
    with pytest.raises(Damaged):
        rig.store["a"]
    rig.pad_file(place.pad).write_bytes(kept)
    assert rig.store.check(read_data=True).problems == ()


def test_swapped_pads_are_found(rig: StoreRig) -> None:
    first, second = places(rig)[0].pad, places(rig)[1].pad
    one, two = rig.image(first), rig.image(second)
    rig.pad_file(first).write_bytes(two)
    rig.pad_file(second).write_bytes(one)
    assert {problem.pad for problem in rig.store.check(read_data=True).problems} == {first, second}
    with pytest.raises(Damaged):
        rig.store["a"]
    rig.pad_file(first).write_bytes(one)
    rig.pad_file(second).write_bytes(two)
    rig.assert_sound(a=DATA)


def test_a_truncated_pad_is_found(rig: StoreRig) -> None:
    place = places(rig)[2]
    rig.pad_file(place.pad).write_bytes(rig.image(place.pad)[:5000])
    assert [problem.pad for problem in rig.store.check(read_data=True).problems] == [place.pad] * 2


def test_an_index_in_memory_that_the_files_do_not_tell_is_found(rig: StoreRig) -> None:
    rig.store.check()
    del rig.session.journal.index.values["b"]
    assert "index" in {problem.kind for problem in rig.store.check().problems}
    rig.reopen()
    assert rig.store.check().problems == ()


def test_an_image_of_the_same_counter_without_what_the_index_says_is_found(rig: StoreRig) -> None:
    shared = places(rig, "a/b")[0].pad
    home = {path: path.read_bytes() for path in rig.home.rglob("*") if path.is_file()}
    rig.reopen()
    rig.store["one"] = b"1"
    other = rig.image(shared)
    rig.store.close()
    for path, data in home.items():
        path.write_bytes(data)
    rig.open()
    rig.store["two"] = b"2"
    assert rig.image(shared)[:16] == other[:16], "the counters are equal"
    rig.pad_file(shared).write_bytes(other)
    problems = rig.store.check(read_data=True).problems
    lacking = [problem for problem in problems if problem.kind == "pad"]
    assert [problem.pad for problem in lacking] == [shared]
    assert "lacks" in lacking[0].detail


def test_damage_outside_the_prefix_is_not_looked_for(rig: StoreRig) -> None:
    rig.pad_file(places(rig, "b")[0].pad).write_bytes(b"")
    assert rig.store.check("a", read_data=True).problems == ()
    assert rig.store.check("b", read_data=True).problems != ()


def test_a_sample_reads_a_share_that_its_seed_repeats(rigs: Callable[..., StoreRig]) -> None:
    rig = rigs()
    rig.store["a"] = chunks_of(*range(200))
    reads = [rig.store.check(sample=30, seed=seed).blocks_read for seed in (1, 1, 2)]
    assert reads[0] == reads[1]
    assert all(20 < count < 100 for count in reads)
    with rig.counting():
        touched: list[list[str]] = []
        for _ in range(2):
            before = len(rig.faulty.addresses("read"))
            rig.store.check(sample=30, seed=7)
            touched.append(sorted(rig.faulty.addresses("read")[before:]))
    assert touched[0] == touched[1]
    report = rig.store.check(sample=30)
    assert report.seed is not None
    assert rig.store.check(sample=30, seed=report.seed).blocks_read == report.blocks_read
    assert rig.store.check(sample=0).blocks_read == 0
    assert rig.store.check(sample=100).blocks_read == 200
    for wrong in (-1, 101):
        with pytest.raises(InvalidArgument):
            rig.store.check(sample=wrong)


def test_a_network_that_fails_is_no_damage(rig: StoreRig) -> None:
    rig.faulty.fail("read", transient, times=10**6)
    with pytest.raises(AnthillError) as caught:
        rig.store.check(read_data=True)
    assert caught.value.exit_code == 75


# -- ranges, files and streams


@pytest.mark.parametrize(
    ("offset", "length"),
    [(0, None), (0, 0), (1, 1), (CHUNK - 1, 2), (CHUNK, CHUNK), (3, 3 * CHUNK), (4 * CHUNK, None), (10**9, None), (5, 10**9)],
)
def test_a_range_of_a_value_comes_back(rig: StoreRig, tmp_path: Path, offset: int, length: int | None) -> None:
    rig.store.get_into("a", tmp_path / "out", offset=offset, length=length)
    assert (tmp_path / "out").read_bytes() == DATA[offset : None if length is None else offset + length]


def test_a_damaged_value_leaves_the_destination_as_it_was(rig: StoreRig, tmp_path: Path) -> None:
    place = places(rig)[3]
    rig.pad_file(place.pad).write_bytes(b"")
    (tmp_path / "out").write_bytes(b"kept")
    with pytest.raises(Damaged):
        rig.store.get_into("a", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == b"kept"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".out")] == []


# -- privacy

KEY, TEXT = "a-very-telling-name", b"the plaintext that nobody else may read. "


def needles(rig: StoreRig) -> list[bytes]:
    """What may not be seen: plaintext, key names, and secrets in their usual clothes."""
    secret = rig.config.key_path(rig.home).read_text().split()[-1].encode()
    found = [TEXT[:20], KEY.encode(), b"telling", secret, secret[:16], b"private-attribute"]
    return [*found, *(base64.b64encode(needle)[:-4] for needle in found), *(needle.hex().encode() for needle in found)]


def pad_images(rig: StoreRig) -> Iterator[bytes]:
    for path in (rig.home / "pads").rglob("*"):
        yield str(path.relative_to(rig.home)).encode()
        if path.is_file():
            yield path.read_bytes()


def test_neither_plaintext_nor_names_nor_secrets_reach_a_pad_or_the_log(
    rig: StoreRig, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.DEBUG)
    large = TEXT * (3 * CHUNK // len(TEXT))
    (tmp_path / KEY).write_bytes(large)
    rig.store.put(KEY, TEXT, attributes={"note": "private-attribute"})
    rig.store.put(f"dir/{KEY}", tmp_path / KEY)
    rig.store.put(KEY, iter([large, TEXT]))
    rig.store.rename(KEY, f"{KEY}-2")
    rig.faulty.fail("write", permanent, times=9, skip=1)
    with pytest.raises(PutFailed):
        rig.store.put(KEY, large[::-1] + TEXT)
    rig.mend()
    rig.reopen()
    rig.store.put(KEY, large + TEXT)
    rig.store.delete(KEY)
    rig.store.get(f"{KEY}-2")
    rig.store.check(read_data=True)
    rig.faulty.fail("write", permanent, times=9)
    with pytest.raises(AnthillError):
        rig.store.delete(f"dir/{KEY}")
    rig.reopen()
    rig.store.trim()
    seen = [*pad_images(rig), *(record.getMessage().encode() for record in caplog.records), caplog.text.encode()]
    assert len(seen) > 10
    for needle in needles(rig):
        assert not [data[:80] for data in seen if needle in data], needle


def test_no_secret_is_in_a_repr_or_an_error(rig: StoreRig) -> None:
    secret = rig.config.key_path(rig.home).read_text().split()[-1]
    rig.faulty.fail("write", permanent, times=9)
    with pytest.raises(PutFailed) as caught:
        rig.store["x"] = b"1"
    for text in (
        repr(rig.store),
        repr(caught.value),
        str(caught.value),
        str(caught.value.context),
        repr(rig.session),
        repr(rig.key),
    ):
        assert secret not in text
        assert secret[:12] not in text
