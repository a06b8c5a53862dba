"""A put that failed is finished by the same put, or by ``resume``, and sends again only what was on its way."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from anthill_sync.errors import KeyNotFound, PutFailed, SourceChanged
from tests.store_tools import CHUNK, StoreRig, chunks_of, permanent

pytest_plugins = ["tests.store_fixtures"]

OLD, NEW = chunks_of(*range(100, 105)) + b"old", chunks_of(*range(40)) + b"rest"


def interrupt(rig: StoreRig, key: str, source: Any, *, step: str = "write", after: int = 25) -> PutFailed:
    """Put with a network that fails for good after so many calls of this step; then the network is mended."""
    rig.faulty.fail(step, permanent, times=10**6, skip=after)
    with pytest.raises(PutFailed) as caught:
        rig.store.put(key, source)
    rig.mend()
    rig.assert_idle()
    return caught.value


def done(rig: StoreRig, key: str = "a") -> int:
    return next((pending.done for pending in rig.store.pending() if pending.key == key), 0)


@pytest.mark.parametrize("step", ["reserve", "write", "confirm"])
@pytest.mark.parametrize("after", [0, 1, 20, 25, 39])
@pytest.mark.parametrize("reopen", [False, True], ids=["same", "reopened"])
def test_the_same_put_again_sends_only_what_was_on_its_way(rig: StoreRig, step: str, after: int, reopen: bool) -> None:
    rig.store.put("a", OLD)
    error = interrupt(rig, "a", NEW, step=step, after=after)
    if reopen:
        rig.reopen()
    assert rig.store["a"] == OLD
    stored = done(rig)
    assert error.context.get("done", 0) == stored
    if step == "write":
        assert stored >= after - 20
    pending = rig.index.pending_uploads.get("a")
    full = sum(chunk < 40 for chunk, _ in pending.blocks.blocks()) if pending else 0
    with rig.counting() as calls:
        entry = rig.store.put("a", NEW)
    assert calls["write"] == 40 - full + 1  # and one image with the manifest, and the remainder unless that is there
    assert entry.transfer is not None
    assert entry.transfer.pads_written == calls["write"]
    assert rig.store.pending() == []
    rig.assert_sound(a=NEW)


def test_a_stream_resumes_too(rig: StoreRig) -> None:
    interrupt(rig, "a", io.BytesIO(NEW))
    stored = done(rig)
    with rig.counting() as calls:
        rig.store.put("a", io.BytesIO(NEW))
    assert 0 < stored == 40 + 1 - calls["write"]
    rig.assert_sound(a=NEW)


def test_reserved_pads_are_used_before_new_ones_are_reserved(each: StoreRig) -> None:
    interrupt(each, "a", NEW)
    reserved = each.index.status.count(2)
    each.reopen()
    assert each.index.status.count(2) == reserved
    with each.counting() as calls:
        each.store.put("a", NEW)
    assert calls["reserve"] <= max(0, calls["write"] - reserved + 1)
    assert each.index.pads == 41
    each.assert_sound(a=NEW)


def test_many_interruptions_in_a_row_end_with_the_value_and_never_go_back(rig: StoreRig) -> None:
    rig.store.put("a", OLD)
    stored = 0
    for attempt in range(60):
        rig.faulty.fail("write", permanent, times=10**6, skip=1 + attempt % 3)
        try:
            rig.store.put("a", NEW)
            break
        except PutFailed:
            rig.mend()
        if attempt % 4 == 3:
            rig.reopen()
        assert rig.store["a"] == OLD
        assert done(rig) >= stored
        stored = done(rig)
    else:
        pytest.fail("the put never ended")
    rig.mend()
    rig.assert_sound(a=NEW)


def test_a_source_that_changed_in_between_sends_the_changed_chunks_only(rig: StoreRig) -> None:
    interrupt(rig, "a", NEW)
    stored = {chunk for chunk, _ in rig.index.pending_uploads["a"].blocks.blocks()}
    first = min(stored)
    changed = NEW[: first * CHUNK] + chunks_of(200) + NEW[(first + 1) * CHUNK :]
    with rig.counting() as calls:
        rig.store.put("a", changed)
    assert calls["write"] == 40 - len(stored) + 1 + 1
    rig.assert_sound(a=changed)


@pytest.mark.parametrize("size", [0, 1, CHUNK, 3 * CHUNK + 1, 60 * CHUNK])
def test_a_source_of_another_size_may_follow_an_interrupted_one(rig: StoreRig, size: int) -> None:
    rig.store.put("a", OLD)
    interrupt(rig, "a", NEW)
    data = random.Random(size).randbytes(size)
    rig.store.put("a", data)
    assert rig.store.pending() == []
    rig.assert_sound(a=data)
    used = {place.pad for place in rig.store.stat("a").blocks or ()} | {rig.index.values["a"].manifest_pad}
    assert rig.store.usage().pads.used == len(used)


def test_putting_the_old_value_again_over_an_interrupted_put_ends_it(rig: StoreRig) -> None:
    rig.store.put("a", OLD)
    interrupt(rig, "a", NEW)
    with rig.counting() as calls:
        rig.store.put("a", OLD)
    assert calls["write"] == 1
    assert rig.store.pending() == []
    rig.assert_sound(a=OLD)


# -- resume()


def test_resume_finishes_what_a_file_was_the_source_of(each: StoreRig, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(NEW)
    each.faulty.fail("write", permanent, times=10**6, skip=25)
    with pytest.raises(PutFailed) as caught:
        each.store.put("a", tmp_path / "file", attributes={"mode": 5})
    assert caught.value.context["resume"] is True
    each.mend()
    each.reopen()
    (pending,) = each.store.pending()
    assert (pending.key, pending.total, pending.source) == ("a", 41, str(tmp_path / "file"))
    with each.counting() as calls:
        report = each.store.resume()
    assert calls["write"] == 40 - pending.done + 1
    assert [(entry.key, entry.size, entry.attributes) for entry in report.entries] == [("a", len(NEW), {"mode": 5})]
    assert report.left == ()
    assert each.store.pending() == []
    each.assert_sound(a=NEW)


def test_resume_names_what_it_cannot_read(rig: StoreRig, tmp_path: Path) -> None:
    for name in ("gone", "there"):
        (tmp_path / name).write_bytes(NEW)
        interrupt(rig, name, tmp_path / name)
    interrupt(rig, "stream", io.BytesIO(NEW))
    interrupt(rig, "bytes", NEW)
    (tmp_path / "gone").unlink()
    report = rig.store.resume()
    assert [entry.key for entry in report.entries] == ["there"]
    assert [(left.key, left.source) for left in report.left] == [
        ("bytes", None),
        ("gone", str(tmp_path / "gone")),
        ("stream", None),
    ]
    assert [pending.key for pending in rig.store.pending()] == ["bytes", "gone", "stream"]
    rig.assert_sound(there=NEW)


def test_resume_of_named_keys_leaves_the_others(rig: StoreRig, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(NEW)
    for key in ("a", "b"):
        interrupt(rig, key, tmp_path / "file")
    assert [entry.key for entry in rig.store.resume("b").entries] == ["b"]
    assert [pending.key for pending in rig.store.pending()] == ["a"]
    with pytest.raises(KeyNotFound) as caught:
        rig.store.resume("a", "missing")
    assert caught.value.exit_code == 66
    assert rig.store.resume("a").left == ()
    assert rig.store.resume() == type(rig.store.resume())((), ())


def test_resume_stores_what_the_file_holds_now(rig: StoreRig, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(NEW)
    interrupt(rig, "a", tmp_path / "file")
    changed = NEW[:CHUNK] + b"shorter"
    (tmp_path / "file").write_bytes(changed)
    rig.store.resume()
    rig.assert_sound(a=changed)


def test_a_file_that_changes_while_it_is_resumed_stays_pending(rig: StoreRig, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(NEW)
    interrupt(rig, "a", tmp_path / "file")
    rig.faulty.before("write", lambda seen: (tmp_path / "file").write_bytes(NEW + b"more"))
    report = rig.store.resume()
    assert ([entry.key for entry in report.entries], [left.key for left in report.left]) == ([], ["a"])
    rig.mend()
    assert "a" not in rig.store
    rig.store.resume()
    rig.assert_sound(a=NEW + b"more")


def test_a_file_put_that_changed_while_it_was_read_can_be_resumed(rig: StoreRig, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(NEW)
    rig.faulty.before("write", lambda seen: (tmp_path / "file").write_bytes(NEW[:-1] + b"X"))
    with pytest.raises(PutFailed) as caught:
        rig.store.put("a", tmp_path / "file")
    assert isinstance(caught.value.__cause__, SourceChanged)
    assert caught.value.exit_code == 75
    rig.mend()
    assert "a" not in rig.store
    rig.store.resume()
    rig.assert_sound(a=NEW[:-1] + b"X")


# -- giving up


def manifests_and_blocks(rig: StoreRig) -> int:
    """Sealed things on the network that are not blank, in all pads."""
    parsed = [rig.parse(pad, rig.image(pad)) for pad, status in enumerate(rig.index.status) if status >= 2]
    return sum(len(each[1].entries) + len(each[1].manifests) for each in parsed if each)


def test_abandon_frees_the_pads_and_keeps_the_old_value(each: StoreRig) -> None:
    each.store.put("a", OLD)
    kept, used = manifests_and_blocks(each), each.store.usage().pads.used
    interrupt(each, "a", NEW)
    assert each.store.usage().pads.used > used
    assert each.store.abandon() == ["a"]
    assert each.store.pending() == []
    assert each.store.usage().pads.used == used
    assert manifests_and_blocks(each) == kept
    assert each.store.abandon() == []
    with pytest.raises(KeyNotFound):
        each.store.abandon("a")
    each.reopen()
    each.assert_sound(a=OLD)


def test_rm_of_a_key_drops_its_interrupted_put(each: StoreRig) -> None:
    each.store.put("a", OLD)
    interrupt(each, "a", NEW)
    each.store.delete("a")
    assert (each.store.pending(), list(each.store)) == ([], [])
    assert manifests_and_blocks(each) == 0
    assert each.store.usage().pads.used == 0
    each.reopen()
    each.assert_sound()


def test_rm_of_a_key_that_was_never_published_says_that_it_can_be_resumed(rig: StoreRig) -> None:
    interrupt(rig, "a", NEW)
    with pytest.raises(KeyNotFound, match="interrupted put"):
        rig.store.delete("a")
    assert [pending.key for pending in rig.store.pending()] == ["a"]


def test_mv_leaves_the_interrupted_put_under_the_old_name(rig: StoreRig, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(NEW)
    rig.store.put("a", OLD)
    interrupt(rig, "a", tmp_path / "file")
    rig.store.rename("a", "b")
    assert [pending.key for pending in rig.store.pending()] == ["a"]
    rig.reopen()
    rig.store.resume()
    rig.assert_sound(a=NEW, b=OLD)


def test_mv_onto_a_key_with_an_interrupted_put_leaves_that_put(rig: StoreRig, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(NEW)
    rig.store["b"] = b"moved"
    interrupt(rig, "a", tmp_path / "file")
    rig.store.rename("b", "a")
    assert rig.store["a"] == b"moved"
    rig.reopen()
    rig.store.resume()
    rig.assert_sound(a=NEW)


def test_other_puts_go_on_beside_an_interrupted_one(rigs: Callable[..., StoreRig]) -> None:
    rig = rigs("embedded")
    interrupt(rig, "a", NEW)
    for step in range(10):
        rig.store.put(f"k{step % 3}", chunks_of(*range(step)) + b"x")
        rig.store.put_many({"x": b"1", "y": chunks_of(step)})
    rig.assert_sound()
    stored = done(rig)
    with rig.counting() as calls:
        rig.store.put("a", NEW)
    assert calls["write"] == 41 - stored
    rig.assert_sound(a=NEW, y=chunks_of(9))
