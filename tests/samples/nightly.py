"""A program as users write it, for the type checker and to be run: it keeps a folder's files and its own notes in a store."""

from __future__ import annotations

import sys
from collections.abc import Iterator, MutableMapping
from datetime import datetime
from io import BytesIO
from pathlib import Path

from typing_extensions import assert_type

from anthill_sync import AnthillError, CheckReport, Entry, KeyNotFound, Pending, Store, TryAgain, Usage, events


def watch(event: events.Event) -> None:
    if isinstance(event, events.UploadProgress):
        assert_type(event.total_bytes, int | None)


def pieces() -> Iterator[bytes]:
    yield b"one "
    yield b"two"


def keep(store: Store, folder: Path) -> dict[str, Entry]:
    entries = store.put_many({path.name: path for path in sorted(folder.iterdir())}, on_event=watch)
    entry = store.put("stream", pieces(), attributes={"kind": "note"}, confirm=lambda asked: asked.needed < 100)
    assert_type(entry.modified, datetime)
    return entries


def look(store: Store) -> None:
    assert_type(store.get("stream"), bytes | None)
    assert_type(store.get("stream", b""), bytes)
    assert_type(store["stream"], bytes)
    assert_type(store.get_into("stream", BytesIO()), Entry)
    assert_type(store.pending(), list[Pending])
    assert_type(store.check(), CheckReport)
    assert_type(store.usage(), Usage)
    words: MutableMapping[str, bytes] = store
    words["note"] = b"as in any dictionary"


def main(home: Path, folder: Path) -> int:
    try:
        with Store.create(home) as store:
            print(len(keep(store, folder)))
            look(store)
            del store["nothing"]
    except KeyNotFound as error:
        assert_type(error.exit_code, int)
        return 0
    except TryAgain:
        return 75
    except AnthillError as error:
        return error.exit_code
    return 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
