"""``config.json``: what it says is what was written, or it says nothing; and the key it is used with is its own."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from anthill_sync import Store
from anthill_sync.config import CONFIG_NAME, change_setting, read_config
from anthill_sync.errors import ConfigurationError, Damaged, IndexDamaged, UnknownFormat
from anthill_sync.keys import MasterKey, encode_key
from tests.store_tools import CHUNK, PAD

Fields = dict[str, Any]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    with Store.create(tmp_path / "home", pad_size=PAD, settings={"upload_threads": 3}) as store:
        store["k"] = b"v"
    return tmp_path / "home"


def edit(home: Path, change: Callable[[Fields], object]) -> None:
    """Change the file by hand."""
    fields = json.loads((home / CONFIG_NAME).read_bytes())
    change(fields)
    (home / CONFIG_NAME).write_text(json.dumps(fields))


def without_sum(**changes: Any) -> Callable[[Fields], object]:
    """As somebody changes it on purpose."""
    return lambda fields: (fields.update(changes), fields.pop("sum"))


@pytest.mark.parametrize(
    ("name", "value"),
    [("slot", 1), ("network", "dir:pacs"), ("pad_size", 2 * PAD), ("settings", {"upload_threads": 2}), ("facts", {})],
)
def test_a_changed_configuration_is_damage_until_its_sum_is_taken_out(home: Path, name: str, value: object) -> None:
    edit(home, lambda fields: fields.update({name: value}))
    with pytest.raises(IndexDamaged, match="sum") as caught:
        Store.open(home)
    assert caught.value.exit_code == 65
    with pytest.raises(IndexDamaged, match="sum"):
        change_setting(home, "attempts", "3")


def test_a_configuration_changed_by_hand_counts_without_its_sum_and_gets_a_new_one(home: Path) -> None:
    edit(home, without_sum(settings={"upload_threads": 7}))
    with Store.open(home) as store:
        assert (store.settings.upload_threads, store["k"]) == (7, b"v")
    change_setting(home, "attempts", "3")
    assert "sum" in json.loads((home / CONFIG_NAME).read_bytes())
    assert read_config(home).settings == {"upload_threads": 7, "attempts": 3}


@pytest.mark.parametrize(
    "changes",
    [
        {"slot": -1},
        {"slot": 0.0},
        {"slot": True},
        {"pad_size": PAD + 1024},
        {"chunk_size": CHUNK - 1},
        {"pad_size": 2048, "chunk_size": 1024},
        {"pad_size": "16384"},
        {"network": None},
        {"key_file": 7},
        {"store": 7},
        {"facts": []},
        {"settings": None},
        {"more": 1},
    ],
    ids=str,
)
def test_impossible_fields_are_damage(home: Path, changes: Fields) -> None:
    edit(home, without_sum(**changes))
    with pytest.raises(IndexDamaged):
        Store.open(home)


NOTHING = ["", "null", "[]", "7", '"text"', "{}", '{"format": 1}', "\0" * 512, "\ufeff", "[" * 10**5]


@pytest.mark.parametrize("text", NOTHING, ids=lambda text: text[:12])
def test_what_is_no_configuration_is_damage(home: Path, text: str) -> None:
    (home / CONFIG_NAME).write_text(text)
    with pytest.raises(IndexDamaged):
        Store.open(home)


def test_another_format_is_told_from_damage(home: Path) -> None:
    edit(home, lambda fields: fields.update(format=2))
    with pytest.raises(UnknownFormat, match="format 2"):
        Store.open(home)
    edit(home, lambda fields: fields.pop("format"))
    with pytest.raises(IndexDamaged):
        Store.open(home)


def test_the_key_of_another_store_is_refused_before_anything_is_sought_or_written(home: Path) -> None:
    whole = (home / "key").read_bytes()
    (home / "key").write_text(encode_key(MasterKey.generate()))
    with pytest.raises(ConfigurationError, match="the key of another store") as caught:
        Store.open(home)
    assert caught.value.exit_code == 78
    (home / "key").write_bytes(whole)
    with Store.open(home) as store:
        assert store["k"] == b"v"


def test_the_right_key_for_another_slot_is_refused(home: Path) -> None:
    edit(home, without_sum(slot=1))
    with pytest.raises(ConfigurationError, match="the key of another store"):
        Store.open(home)


# -- sizes that do not fit the index


@pytest.mark.parametrize("pad_size", [PAD + 4, PAD + 2048, 3 * PAD, 16 * PAD])
def test_values_are_read_whole_or_not_at_all_with_another_chunk_size(tmp_path: Path, pad_size: int) -> None:
    """P1: a chunk size that is not the one a value was cut with would drop or shift bytes."""
    sizes = [1, CHUNK - 4, CHUNK, CHUNK + 1, CHUNK + 5000, 2 * CHUNK, 2 * CHUNK + 9, 3 * CHUNK, 5 * CHUNK + 7]
    values = {f"k{size}": bytes(number % 251 for number in range(size)) for size in sizes}
    with Store.create(tmp_path / "home", pad_size=PAD) as store:
        store.put_many(values)
    edit(tmp_path / "home", without_sum(pad_size=pad_size, chunk_size=pad_size - 1024))
    with Store.open(tmp_path / "home") as store:
        found = {key: [read(store, key, offset, length) for offset, length in RANGES] for key in values}
    assert any(any(parts) for parts in found.values()), "values of one chunk can be read whatever the size"
    for key, parts in found.items():
        for (offset, length), part in zip(RANGES, parts, strict=True):
            assert part in (None, values[key][offset:][:length]), f"{key} from {offset}"


RANGES = [(0, None), (0, 1), (CHUNK // 2, None), (CHUNK - 2, 4), (2 * CHUNK - 1, 2)]


def read(store: Store, key: str, offset: int, length: int | None) -> bytes | None:
    """A part of a value; None: reported as damage."""
    with suppress(Damaged):
        out = io.BytesIO()
        store.get_into(key, out, offset=offset, length=length)
        assert (offset, length) != (0, None) or store[key] == out.getvalue()
        return out.getvalue()
    return None
