"""Sources: exact bytes from memory, files and streams, and no value of a file that changed while it was read."""

from __future__ import annotations

import array
import io
import os
import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from anthill_sync import Store
from anthill_sync.errors import AnthillError, PermissionRefused, SourceChanged, SourceNotFound
from anthill_sync.sources import BytesSource, FileSource, StreamSource, open_source
from tests.support import PATIENCE, run_threads

PIECES = [b"", b"a", b"bc" * 10, b"", bytes(range(256))]
ALL = b"".join(PIECES)


def read(source: BytesSource | FileSource, offset: int, length: int) -> bytes:
    return bytes(source.read(offset, memoryview(bytearray(length))))


# -- memory


@pytest.mark.parametrize(
    "data",
    [
        ALL,
        bytearray(ALL),
        memoryview(ALL),
        memoryview(ALL + ALL)[: len(ALL)],
        memoryview(bytes(b for byte in ALL for b in (byte, 0)))[::2],
        array.array("B", ALL),
        memoryview(ALL[:272]).cast("B", (16, 17)),
    ],
    ids=["bytes", "bytearray", "memoryview", "part", "every other byte", "array", "two dimensions"],
)
def test_anything_that_is_bytes_is_read_as_its_bytes(data: Any) -> None:
    source = open_source(data)
    expected = memoryview(data).tobytes()
    assert source.size == len(expected)
    assert isinstance(source, BytesSource)
    assert read(source, 0, len(expected)) == expected
    assert read(source, 5, 7) == expected[5:12]
    assert source.origin is None


def test_a_buffer_of_larger_items_counts_bytes() -> None:
    numbers = array.array("I", [1, 2, 3])
    source = open_source(numbers)
    assert source.size == 12
    assert isinstance(source, BytesSource)
    assert read(source, 0, 12) == numbers.tobytes()


def test_a_column_major_buffer_is_read_in_its_own_order() -> None:
    """C order, as ``bytes`` of it says, whatever the layout in memory."""
    view = memoryview(bytes(range(12))).cast("B", (3, 4))
    assert read(BytesSource(view), 0, 12) == view.tobytes()


# -- files


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "source"
    file.write_bytes(ALL)
    return file


def test_a_file_is_read_by_position_from_many_threads(path: Path) -> None:
    data = random.Random(1).randbytes(100_000)
    path.write_bytes(data)
    source = open_source(path)
    assert isinstance(source, FileSource)
    jobs = [lambda at=at: read(source, at, 1000) == data[at : at + 1000] for at in range(0, 99_000, 777)]
    assert all(run_threads(jobs, threads=8))
    source.check_unchanged()
    source.close()
    source.close()


def test_a_file_is_open_from_its_first_read_to_its_close_only(path: Path) -> None:
    before = len(os.listdir("/dev/fd"))
    sources = [open_source(path) for _ in range(200)]
    assert len(os.listdir("/dev/fd")) == before
    source = sources[0]
    assert isinstance(source, FileSource)
    read(source, 0, 1)
    assert len(os.listdir("/dev/fd")) == before + 1
    source.close()
    assert len(os.listdir("/dev/fd")) == before


def appended(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def rewritten(path: Path) -> None:
    path.write_bytes(b"x" * len(ALL))


def truncated(path: Path) -> None:
    os.truncate(path, 3)


def touched(path: Path) -> None:
    os.utime(path, ns=(1, 1))


@pytest.mark.parametrize("change", [appended, rewritten, truncated, touched])
@pytest.mark.parametrize("opened_first", [True, False])
def test_a_file_that_changed_since_the_put_began_is_noticed(
    path: Path, change: Callable[[Path], None], opened_first: bool
) -> None:
    os.utime(path, ns=(5, 5))
    source = open_source(path)
    assert isinstance(source, FileSource)
    if opened_first:
        read(source, 0, 2)
    change(path)
    with pytest.raises(SourceChanged, match="nothing was published") as caught:
        source.check_unchanged()
    assert caught.value.exit_code == 75
    source.close()


def test_a_file_replaced_before_its_first_read_is_noticed(path: Path) -> None:
    source = open_source(path)
    found = path.stat()
    path.rename(path.with_name("old"))
    path.write_bytes(ALL)
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    with pytest.raises(SourceChanged):
        source.check_unchanged()
    source.close()


def test_a_file_that_ends_early_is_noticed_at_once(path: Path) -> None:
    source = open_source(path)
    assert isinstance(source, FileSource)
    truncated(path)
    with pytest.raises(SourceChanged):
        read(source, 0, len(ALL))
    source.close()


def test_a_file_that_changes_during_a_put_is_not_published(tmp_path: Path) -> None:
    path = tmp_path / "big"
    path.write_bytes(bytes(200_000))
    with Store.create(tmp_path / "home", network="memory://", pad_size=16 * 1024) as store:
        store.put("k", b"old")
        with pytest.raises(AnthillError, match="changed while it was read") as caught:
            store.put("k", path, on_event=lambda event: path.write_bytes(b"x" * 200_000))
        assert caught.value.exit_code == 75
        assert store["k"] == b"old"


def test_a_file_names_its_absolute_path_for_resume(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)
    assert open_source(Path("source")).origin == {"path": str(path)}


def test_a_path_that_is_not_text_is_stored_but_cannot_be_resumed_by_name(tmp_path: Path) -> None:
    raw = os.fsencode(tmp_path) + b"/not\xfftext"
    data = bytes(40_000)
    try:
        with open(raw, "wb") as file:
            file.write(data)
    except OSError:
        pytest.skip("this file system takes text only")
    source = Path(os.fsdecode(raw))
    assert open_source(source).origin is None
    with Store.create(tmp_path / "home", network="memory://", pad_size=16 * 1024) as store:
        store.put("k", source)  # more than one image, so the journal would name the source
        assert store["k"] == data


def test_a_path_object_may_speak_bytes(path: Path) -> None:
    entry = next(iter(os.scandir(os.fsencode(path.parent))))
    source = open_source(entry)
    assert isinstance(source, FileSource)
    assert read(source, 0, len(ALL)) == ALL
    assert source.origin == {"path": str(path)}
    source.close()


def test_what_is_not_there_or_no_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(SourceNotFound, match="missing") as caught:
        open_source(tmp_path / "missing")
    assert caught.value.exit_code == 66
    with pytest.raises(SourceNotFound, match="with -r"):
        open_source(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(SourceNotFound):
        open_source(tmp_path / "file" / "below")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_says_which_chmod_helps(path: Path) -> None:
    path.chmod(0)
    source = open_source(path)
    assert isinstance(source, FileSource)
    with pytest.raises(PermissionRefused, match=f"chmod u\\+r {path}"):
        read(source, 0, 1)


# -- streams


def chunks(stream: Any, size: int) -> list[bytes]:
    source = open_source(stream)
    assert isinstance(source, StreamSource)
    assert source.size is None
    return list(source.chunks(size))


class Drips(io.RawIOBase):
    """Gives fewer bytes than asked for, as pipes do."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        part = self._data.read(min(7, len(buffer)))
        buffer[: len(part)] = part
        return len(part)


@pytest.mark.parametrize("size", [1, 10, 21, 22, len(ALL) - 1, len(ALL), len(ALL) + 1, 5000])
@pytest.mark.parametrize(
    "make",
    [
        lambda: io.BytesIO(ALL),
        lambda: Drips(ALL),
        lambda: iter(PIECES),
        lambda: list(PIECES),
        lambda: (bytearray(piece) for piece in PIECES),
        lambda: (memoryview(piece) for piece in PIECES),
        lambda: [ALL],
    ],
    ids=["file", "drips", "iterator", "list", "bytearrays", "memoryviews", "one piece"],
)
def test_a_stream_is_cut_into_full_chunks_and_a_shorter_last_one(make: Callable[[], Any], size: int) -> None:
    found = chunks(make(), size)
    assert found == [ALL[at : at + size] for at in range(0, len(ALL), size)]


@pytest.mark.parametrize("stream", [io.BytesIO(b""), [], [b"", b""]])
def test_an_empty_stream_has_no_chunk(stream: Any) -> None:
    assert chunks(stream, 10) == []


def test_a_piece_that_its_owner_reuses_is_copied() -> None:
    buffer = bytearray(10)

    def pieces() -> Iterator[bytearray]:
        for number in range(3):
            buffer[:] = bytes([number]) * 10
            yield buffer

    assert chunks(pieces(), 10) == [bytes([number]) * 10 for number in range(3)]


def test_a_pipe_is_read_to_its_end(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    writer = threading.Thread(target=lambda: fifo.write_bytes(ALL))
    writer.start()
    source = open_source(fifo)
    assert isinstance(source, StreamSource)
    assert b"".join(source.chunks(10)) == ALL
    source.close()
    writer.join(PATIENCE)
    assert source._stream.closed


def test_a_stream_that_the_caller_opened_stays_open() -> None:
    stream = io.BytesIO(ALL)
    source = open_source(stream)
    source.close()
    assert not stream.closed


def test_a_stream_that_is_not_ready_is_no_end_of_the_stream() -> None:
    class NotReady:
        def read(self, size: int) -> None:
            return None

    with pytest.raises(BlockingIOError):
        chunks(NotReady(), 10)


class Texts:
    def read(self, size: int) -> str:
        return "text"


@pytest.mark.parametrize("stream", [Texts(), ["text"], [1, 2], iter(["text"])])
def test_a_stream_of_text_or_numbers_is_a_type_error(stream: Any) -> None:
    with pytest.raises(TypeError):
        chunks(stream, 10)


def test_what_is_no_source_says_what_to_pass(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"Path\(\.\.\.\).*encode\(\)"):
        open_source("report.pdf")
    with (tmp_path / "text").open("w") as text, pytest.raises(TypeError, match="'rb'"):
        open_source(text)
    for wrong in (5, None, object(), 1.5):
        with pytest.raises(TypeError, match="is not a source"):
            open_source(wrong)
