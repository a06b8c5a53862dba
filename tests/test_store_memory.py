"""Values are stored and read in constant memory: bounded by threads times pad size, not by the value."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.store_tools import StoreRig

pytest_plugins = ["tests.store_fixtures"]

MIB = 1024 * 1024
SIZE = 64 * MIB


@pytest.fixture
def rig(rigs: Callable[..., StoreRig]) -> StoreRig:
    """Pads of 1 MiB on disk, four threads."""
    return rigs("embedded", pad_size=MIB, watch=False, upload_threads=4, download_threads=4)


def pieces() -> Iterator[bytes]:
    """64 MiB that is never in memory at once."""
    piece = random.Random(0).randbytes(MIB)
    for number in range(SIZE // MIB):
        yield number.to_bytes(4, "big") + piece[4:]


class Compared:
    """A binary file that compares what it is given."""

    def __init__(self) -> None:
        self.size, self._expected, self._held = 0, pieces(), b""

    def write(self, data: memoryview) -> int:
        self.size += len(data)
        self._held += bytes(data)
        while len(self._held) >= MIB:
            assert self._held[:MIB] == next(self._expected)
            self._held = self._held[MIB:]
        return len(data)


def peak(job: Callable[[], Any]) -> int:
    """Most bytes of Python memory while ``job`` ran, above those before."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        job()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


def test_a_large_stream_is_stored_and_read_in_bounded_memory(rig: StoreRig) -> None:
    put = peak(lambda: rig.store.put("a", pieces()))
    assert put < (4 * 2 + 5) * MIB + 8 * MIB
    output: Any = Compared()
    got = peak(lambda: rig.store.get_into("a", output))
    assert got < (24 * 2) * MIB + 8 * MIB
    assert output.size == SIZE
    assert rig.store.check().problems == ()


def test_a_large_file_is_stored_and_read_in_bounded_memory(rig: StoreRig, tmp_path: Any) -> None:
    with (tmp_path / "in").open("wb") as file:
        file.writelines(pieces())
    assert peak(lambda: rig.store.put("a", tmp_path / "in")) < (4 * 2 + 5) * MIB + 8 * MIB
    assert peak(lambda: rig.store.put("a", tmp_path / "in")) < (4 * 2 + 5) * MIB + 8 * MIB
    assert peak(lambda: rig.store.get_into("a", tmp_path / "out")) < (24 * 2) * MIB + 8 * MIB
    with (tmp_path / "out").open("rb") as file:
        assert all(file.read(MIB) == piece for piece in pieces())
        assert file.read() == b""
