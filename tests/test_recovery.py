"""``recover``: key, slot and network alone give back the index; what is sound of it always wins."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from anthill_sync.errors import (
    AnthillError,
    Damaged,
    NestedMutation,
    NetworkError,
    PermissionRefused,
    PutFailed,
    RewriteFailed,
    StoreClosed,
    StoreLocked,
    TransientNetworkError,
    TryAgain,
    UnknownFormat,
)
from anthill_sync.index import PadStatus
from anthill_sync.recovery_scan import ABSENT_IN_A_ROW
from anthill_sync.session import Session
from anthill_sync.settings import DOWNLOAD_WINDOW, FRESH_WINDOW
from anthill_sync.store import Store
from tests.faults.scenarios import crash_at
from tests.recovery_tools import FILES, facts, is_clean, lose_index, recovered
from tests.store_tools import CHUNK, StoreRig, chunks_of, permanent, transient, wait_until
from tests.support import Gate
from tests.test_store_model import Model

pytest_plugins = ["tests.store_fixtures"]

Rigs = Callable[..., StoreRig]
SHORT, LONG = 10, 300  # histories


def history(rigs: Rigs, seed: str, *, faults: bool, steps: int = 25) -> tuple[StoreRig, dict[str, bytes]]:
    """A store with a random past, and what it holds."""
    model = Model(rigs(attempts=2), seed, faults=faults)
    for _ in range(steps):
        model.step()
    model.rig.mend()
    return model.rig, model.values


def histories(long_run: bool) -> list[str]:
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")
    return [f"{seed}/{number}" for number in range(LONG if long_run else SHORT)]


def settled(rig: StoreRig) -> None:
    """Finish what is unfinished: what an earlier run was writing, reservations without an answer, and dead manifests."""
    rig.reopen()
    rig.store.reserve(len(rig.index.unreserved()))
    rig.store.abandon()
    rig.store["settled"] = b"1"


# -- the index is lost


def test_recover_gives_back_the_lost_index_of_any_history(rigs: Rigs, long_run: bool) -> None:
    for seed in histories(long_run):
        rig, values = history(rigs, seed, faults=False)
        assert is_clean(rig.index)
        before = facts(rig.index)
        lose_index(rig)
        report = recovered(rig)
        assert facts(rig.index) == before, seed
        assert (report.keys, report.changed, report.given_up) == (tuple(sorted(values)), True, False)
        assert rig.store.check(read_data=True).problems == ()
        rig.store["after"] = chunks_of(1, 2) + b"rest"
        rig.assert_sound(**values, after=chunks_of(1, 2) + b"rest")


def test_recover_gives_back_the_lost_index_of_any_history_of_failures(rigs: Rigs, long_run: bool) -> None:
    for seed in histories(long_run):
        rig, values = history(rigs, seed, faults=True)
        settled(rig)
        assert is_clean(rig.index)
        before = facts(rig.index)
        lose_index(rig)
        assert not recovered(rig).given_up
        assert facts(rig.index) == before, seed
        rig.assert_sound(**values)


def test_recover_of_an_unsettled_store_loses_no_value(rigs: Rigs, long_run: bool) -> None:
    for seed in histories(long_run):
        rig, values = history(rigs, seed, faults=True)
        lose_index(rig)
        recovered(rig)
        found = dict(rig.store)
        for key, value in values.items():
            renamed = value in found.values()  # a rename that failed after its last image counts as done, as a put does
            assert key in found or renamed, seed
        assert rig.store.check(read_data=True).problems == ()


def test_the_lost_index_of_a_store_that_was_never_used_needs_a_pad(rig: StoreRig) -> None:
    lose_index(rig)
    with pytest.raises(AnthillError, match="no pad of this key") as caught:
        recovered(rig)
    assert caught.value.exit_code == 69
    rig.store.close()


def test_reserved_pads_are_kept(rig: StoreRig) -> None:
    rig.store["k"] = b"v"
    rig.store.reserve(30)
    lose_index(rig)
    recovered(rig)
    assert rig.store.usage().pads.reserved == 30
    with rig.counting() as calls:
        rig.store["l"] = chunks_of(*range(20))
    assert calls["reserve"] == 0


def test_pads_behind_a_gap_as_wide_as_writers_leave_are_found(rig: StoreRig) -> None:
    rig.store.reserve(FRESH_WINDOW + 2)
    for pad in range(FRESH_WINDOW + 1):
        del rig.raw.pads[rig.address(pad)]  # type: ignore[attr-defined]
    rig.store["k"] = b"v"  # takes pad 0
    del rig.raw.pads[rig.address(0)]  # type: ignore[attr-defined]
    rig.raw.write(rig.key.pad(0, FRESH_WINDOW + 1), _image_of(rig))
    lose_index(rig)
    report = recovered(rig)
    assert report.pads == FRESH_WINDOW + 2
    assert rig.index.unreserved() == list(range(FRESH_WINDOW + 1))
    with rig.counting() as calls:
        rig.store.reserve(FRESH_WINDOW + 1)
    assert calls["reserve"] == FRESH_WINDOW + 1
    assert rig.index.unreserved() == []
    assert rig.index.pads == FRESH_WINDOW + 2


def _image_of(rig: StoreRig) -> Any:
    """A blank image of the pad behind the gap, as the store itself would write it."""
    from anthill_sync.image import finish_image
    from anthill_sync.networks.base import Image
    from anthill_sync.sealing import image_digest
    from anthill_sync.space import HEADER_SIZE

    buffer = memoryview(bytearray(4096))
    address = rig.address(FRESH_WINDOW + 1)
    length = finish_image(rig.sealer, address, buffer, counter=3, end=HEADER_SIZE, run_id=bytes(16), entries=[], manifests=[])
    return Image(buffer[:length], 3, image_digest(buffer[:length]))


def test_20_pads_are_looked_at_at_once_until_a_row_of_them_is_absent(rig: StoreRig, background: Callable[..., Any]) -> None:
    rig.store["k"] = b"v"
    lose_index(rig)
    gate = rig.faulty.hold("read")
    with rig.counting() as calls:
        running = background(lambda: recovered(rig))
        gate.open_after(rig.session.settings.download_threads)
        running.result(20)
    assert 1 + ABSENT_IN_A_ROW < calls["read"] <= 2 + ABSENT_IN_A_ROW + DOWNLOAD_WINDOW
    assert set(calls) == {"read"}


def test_after_a_recovery_an_update_sends_the_key_again_and_others_not(rig: StoreRig) -> None:
    rig.store.put_many({"a": chunks_of(1, 2, 3), "b": chunks_of(4, 5)})
    lose_index(rig)
    recovered(rig)
    with rig.counting() as calls:
        rig.store["a"] = chunks_of(1, 2, 3)
    assert calls["write"] == 4  # three chunks, and the manifest
    rig.assert_sound(a=chunks_of(1, 2, 3), b=chunks_of(4, 5))


def test_versions_and_runs_go_on_above_all_that_were_seen(rig: StoreRig) -> None:
    for _ in range(3):
        rig.reopen()
        rig.store["k"] = rig.store.get("k", b"") + b"v"
    version, run_id = rig.store.stat("k").version, rig.index.run_id
    lose_index(rig)
    recovered(rig)
    assert rig.index.run > version >> 32
    assert rig.index.run_id not in (run_id, bytes(16))
    rig.store["l"] = b"new"
    assert rig.store.stat("l").version > version


# -- what is not whole


def interrupted(rig: StoreRig, key: str, data: bytes, writes: int) -> None:
    """A put that got as far as this many images."""
    rig.faulty.fail("write", permanent, times=10**6, skip=writes)
    with pytest.raises(PutFailed):
        rig.store[key] = data
    rig.mend()


@pytest.mark.parametrize("writes", range(5))
def test_an_interrupted_put_never_shows_a_value_that_is_not_whole(rigs: Rigs, writes: int) -> None:
    rig = rigs(upload_threads=1)
    rig.store["k"] = chunks_of(9)
    interrupted(rig, "k", chunks_of(1, 2, 3, 4) + b"rest", writes)
    lose_index(rig)
    report = recovered(rig)
    assert rig.store["k"] == chunks_of(9)
    rig.assert_sound(k=chunks_of(9))
    assert set(report.older) <= {"k"}  # where the manifest had arrived already


def test_an_interrupted_put_that_the_index_knows_is_no_loss(rigs: Rigs) -> None:
    rig = rigs("embedded")
    rig.store["k"] = chunks_of(9)
    rig.store.close()
    crash_at(rig.home, lambda store: store.put("k", chunks_of(1, 2, 3, 4) + b"rest"), "network.write|after", 3)
    rig.open()
    report = recovered(rig)
    assert not report.given_up
    assert [pending.key for pending in rig.store.pending()] == ["k"]
    rig.store["k"] = chunks_of(1, 2, 3, 4) + b"rest"
    rig.assert_sound(k=chunks_of(1, 2, 3, 4) + b"rest")


def test_a_newer_version_that_is_not_whole_is_reported_and_the_older_one_taken(rig: StoreRig) -> None:
    rig.store["other"] = chunks_of(7) + b"keeps the pad of the first manifest"
    rig.store["k"] = chunks_of(1, 2)
    kept = {rig.address(pad): rig.image(pad) for pad in range(rig.index.pads)}
    rig.store["k"] = chunks_of(3, 4)
    newest = rig.store.stat("k")
    raw: Any = rig.raw
    lost = newest.blocks[1].pad if newest.blocks else 0
    old = {address: data for address, data in kept.items() if raw.pads[address] != data}
    assert rig.address(lost) not in old
    raw.pads[rig.address(lost)] = b"nonsense"
    lose_index(rig)
    report = recovered(rig)
    assert report.older == ("k",) or report.lost == ("k",)
    assert rig.store.get("k") in (None, chunks_of(1, 2))
    assert report.damaged_pads == (lost,)
    rig.store.repair()


def test_a_key_of_which_nothing_is_whole_is_reported_and_nothing_of_it_destroyed(rig: StoreRig) -> None:
    rig.store.put_many({"k": chunks_of(1, 2, 3), "other": b"small"})
    place = (rig.store.stat("k").blocks or ())[1]
    raw: Any = rig.raw
    image = raw.pads[rig.address(place.pad)]
    raw.pads[rig.address(place.pad)] = image[:-1] + bytes([image[-1] ^ 1])
    lose_index(rig)
    report = recovered(rig)
    assert (report.lost, report.damaged_pads, report.keys) == (("k",), (place.pad,), ("other",))
    rig.assert_idle()
    raw.pads[rig.address(place.pad)] = image  # it was only misread
    report = recovered(rig)
    assert (report.lost, report.damaged_pads, report.keys) == ((), (), ("k", "other"))
    rig.assert_sound(k=chunks_of(1, 2, 3), other=b"small")


@pytest.mark.parametrize("lost", [False, True])
def test_a_put_that_lacked_only_its_publication_is_finished(rigs: Rigs, lost: bool) -> None:
    rig = rigs("embedded")
    rig.store["k"] = chunks_of(9)
    sent = chunks_of(1, 2, 3) + b"rest"
    rig.store.close()
    crash_at(rig.home, lambda store: store.put("k", sent), "record publish|before", 1)
    rig.open()
    assert rig.store["k"] == chunks_of(9)
    if lost:
        lose_index(rig)
    assert recovered(rig).changed
    assert rig.store.pending() == []
    rig.assert_sound(k=sent)


def test_a_put_whose_last_image_arrived_unrecorded_is_finished(rig: StoreRig, background: Callable[..., Any]) -> None:
    rig.store["other"] = b"1"
    held = Gate()
    rig.faulty.before("write", lambda seen: held(seen) if seen.number == 2 else None)  # a chunk; the manifest goes past it
    sent = chunks_of(1, 2, 3) + b"rest"
    putting = background(lambda: rig.store.put("k", sent))
    pending = rig.session.journal.index.pending_uploads
    wait_until(lambda: "k" in pending and pending["k"].manifest is not None, lambda: f"no manifest: {pending}")
    wait_until(lambda: pending["k"].blocks.done() == 3, lambda: f"{pending['k'].blocks.done()} blocks")
    files = {name: (rig.home / name).read_bytes() for name in FILES}
    held.open()
    putting.result(20)
    rig.store.close()
    for name, data in files.items():  # as after a kill just before the last line
        (rig.home / name).write_bytes(data)
    rig.open()
    assert "k" not in rig.store
    assert not recovered(rig).given_up
    assert rig.store.pending() == []
    rig.assert_sound(k=sent, other=b"1")


def test_a_refused_put_is_not_finished(rig: StoreRig, tmp_path: Any) -> None:
    source = tmp_path / "source"
    source.write_bytes(chunks_of(1, 2, 3))
    rig.store["k"] = chunks_of(9)

    def change(seen: object) -> None:
        source.write_bytes(chunks_of(4, 5, 6) + b"longer")

    rig.faulty.before("write", change)
    with pytest.raises(AnthillError, match="changed while it was read"):
        rig.store.put("k", source)
    rig.mend()
    lose_index(rig)
    assert not recovered(rig).given_up
    rig.assert_sound(k=chunks_of(9))


@pytest.mark.parametrize("times", [1, 2, 3])
def test_a_renamed_empty_value_has_one_name_whatever_of_it_is_still_on_the_network(rig: StoreRig, times: int) -> None:
    """No block shows that its names mean one value."""
    rig.store.put_many({"name0": b"", "other": b""})
    rig.faulty.fail("write", permanent, times=100, skip=1)
    for number in range(times):
        with suppress(RewriteFailed):
            rig.store.rename(f"name{number}", f"name{number + 1}")
        rig.mend()
        rig.faulty.fail("write", permanent, times=100, skip=2)
    rig.mend()
    lose_index(rig)
    assert recovered(rig).keys == (f"name{times}", "other")


def test_the_rename_of_an_empty_value_is_finished_once_its_manifest_arrived(rig: StoreRig) -> None:
    rig.store.put_many({"old": b"", "other": b""})
    crash_at(rig.home, lambda store: store.rename("old", "new"), "network.write|after", 1)
    rig.reopen()
    assert recovered(rig).keys == ("new", "other")
    lose_index(rig)
    assert recovered(rig).keys == ("new", "other")


def test_a_renamed_key_does_not_come_back_under_its_old_name(rig: StoreRig) -> None:
    rig.store.put_many({"old": chunks_of(1, 2) + b"rest", "other": b"x"})
    rig.faulty.fail("write", permanent, skip=1)
    with pytest.raises(RewriteFailed):
        rig.store.rename("old", "new")
    rig.mend()
    assert "old" in rig.manifests()
    rig.store._session.journal.refresh()
    lose_index(rig)
    report = recovered(rig)
    assert (report.keys, report.lost) == (("new", "other"), ())
    rig.store["after"] = b"1"
    assert "old" not in rig.manifests()  # its manifest has left the network
    rig.assert_sound(new=chunks_of(1, 2) + b"rest", other=b"x")


# -- a sound index wins


def test_a_sound_index_stays_as_it_is_and_nothing_is_written(rigs: Rigs, long_run: bool) -> None:
    for seed in histories(long_run):
        rig, _ = history(rigs, seed, faults=True)
        rig.reopen()
        with suppress(NetworkError, TryAgain):
            rig.store["settled"] = b"1"
        files = {name: (rig.home / name).read_bytes() for name in FILES}
        with rig.counting() as calls:
            report = recovered(rig)
        assert (report.changed, report.kept, set(calls)) == (False, (), {"read"}), seed
        assert {name: (rig.home / name).read_bytes() for name in FILES} == files, seed


def test_a_removed_key_whose_manifest_is_left_does_not_come_back(rig: StoreRig) -> None:
    rig.store.put_many({"gone": chunks_of(1) + b"x", "other": b"y"})
    rig.faulty.fail("write", permanent, times=10)
    with pytest.raises(RewriteFailed):
        rig.store.delete("gone")
    rig.mend()
    assert rig.manifests()["gone"]
    assert not recovered(rig).changed
    assert list(rig.store) == ["other"]
    rig.store["after"] = b"1"
    assert not rig.manifests()["gone"]


def yesterday(rig: StoreRig) -> Callable[[], None]:
    """Keeps the home as it is now; calling it puts that back over the network as it is then."""
    rig.reopen()
    files = {name: (rig.home / name).read_bytes() for name in FILES}

    def put_back() -> None:
        rig.store.close()
        for name, data in files.items():
            (rig.home / name).write_bytes(data)
        rig.open()

    return put_back


def test_yesterdays_index_over_todays_pads_becomes_todays(rigs: Rigs, long_run: bool) -> None:
    for seed in histories(long_run):
        model = Model(rigs(attempts=2), seed, faults=False)
        for _ in range(15):
            model.step()
        back = yesterday(model.rig)
        for _ in range(10):
            model.step()
        model.rig.mend()
        before = facts(model.rig.index)
        back()
        recovered(model.rig)
        assert facts(model.rig.index) == before, seed
        assert model.rig.store.check(read_data=True).problems == ()
        model.rig.assert_sound(**model.values)


def test_yesterdays_index_knows_fingerprints_of_what_is_unchanged(rig: StoreRig) -> None:
    rig.store.put_many({"a": chunks_of(1, 2, 3), "b": b"1"})
    back = yesterday(rig)
    rig.store["b"] = b"2"
    back()
    assert recovered(rig).changed
    with rig.counting() as calls:
        rig.store["a"] = chunks_of(1, 2, 3)
    assert calls["write"] == 0
    rig.assert_sound(a=chunks_of(1, 2, 3), b=b"2")


def test_pads_rolled_back_are_listed_and_what_they_hold_counts(rig: StoreRig) -> None:
    rig.store.put_many({"a": b"1", "b": b"2"})
    shared = (rig.store.stat("a").blocks or ())[0].pad
    assert (rig.store.stat("b").blocks or ())[0].pad == shared
    raw: Any = rig.raw
    old = raw.pads[rig.address(shared)]
    rig.store["a"] = b"3"
    rig.store.delete("b")
    raw.pads[rig.address(shared)] = old
    report = recovered(rig)
    assert report.rolled_back_pads == (shared,)
    assert (report.keys, report.older, report.lost) == (("a",), ("a",), ())
    assert rig.store["a"] == b"1", "the only version that is there"
    assert rig.store.get("b") is None, "a removed key never comes back"
    rig.store["c"] = b"3"
    assert not rig.manifests()["b"]
    rig.assert_sound(a=b"1", c=b"3")


def test_a_value_whose_manifest_was_rolled_back_stays_and_gets_another(rig: StoreRig) -> None:
    rig.store["pins"] = b"x"
    shared = (rig.store.stat("pins").blocks or ())[0].pad
    raw: Any = rig.raw
    old = raw.pads[rig.address(shared)]
    rig.store["k"] = chunks_of(1, 2, 3)
    assert rig.index.values["k"].manifest_pad == shared
    raw.pads[rig.address(shared)] = old
    report = recovered(rig)
    assert (report.keys, report.lost, report.older) == (("k", "pins"), (), ())
    assert (report.rolled_back_pads, report.damaged_pads) == ((shared,), (shared,))
    rig.store["c"] = b"3"
    assert rig.store.repair().moved == ("k", "pins")
    lose_index(rig)
    assert recovered(rig).keys == ("c", "k", "pins")
    rig.assert_sound(k=chunks_of(1, 2, 3), pins=b"x", c=b"3")


def test_a_pad_that_does_not_open_takes_nothing_and_hinders_nobody(rig: StoreRig) -> None:
    rig.store.put_many({"a": b"1", "b": chunks_of(5)})
    shared = (rig.store.stat("a").blocks or ())[0].pad
    raw: Any = rig.raw
    raw.pads[rig.address(shared)] = b"APAD" + raw.pads[rig.address(shared)][4:-1]
    rig.reopen()
    with pytest.raises(PutFailed):
        rig.store["c"] = b"3"
    report = recovered(rig)
    assert (report.damaged_pads, report.lost, report.given_up) == ((shared,), (), True)
    assert rig.index.status[shared] == PadStatus.DAMAGED
    rig.reopen()
    rig.store["c"] = b"3"
    rig.store["d"] = chunks_of(1, 2)
    assert rig.store["a"] == b"1"  # its block still opens
    assert not recovered(rig).changed
    problems = rig.store.check().problems
    assert [(problem.kind, problem.pad) for problem in problems] == [("pad", shared)]
    rig.store.repair()


def test_pads_of_a_newer_program_are_left_alone(rig: StoreRig) -> None:
    rig.store.put_many({"a": b"1", "b": chunks_of(2)})
    raw: Any = rig.raw
    for address, image in raw.pads.items():
        raw.pads[address] = image[:4] + b"\2\0" + image[6:]
    before = dict(raw.pads)
    lose_index(rig)
    with pytest.raises(UnknownFormat):
        recovered(rig)
    assert raw.pads == before
    rig.store.close()


def test_a_pad_that_only_a_later_line_names_is_looked_for(rig: StoreRig) -> None:
    rig.store["k"] = b"v"
    rig.store.reserve(2 * ABSENT_IN_A_ROW)
    raw: Any = rig.raw
    for pad in range(1, 2 * ABSENT_IN_A_ROW):
        del raw.pads[rig.address(pad)]
    rig.store.close()
    lines = (rig.home / "index.journal").read_bytes().splitlines(keepends=True)
    (rig.home / "index.journal").write_bytes(b"".join([lines[0], b"x" + lines[1][1:], *lines[2:]]))
    rig.open()
    assert recovered(rig).pads == 2 * ABSENT_IN_A_ROW + 1
    assert rig.store["k"] == b"v"


# -- how it is done


def test_a_failing_network_ends_it_and_nothing_is_changed(rig: StoreRig) -> None:
    rig.store["k"] = b"v"
    lose_index(rig)
    rig.faulty.fail("read", transient, times=10**6, skip=20)
    with pytest.raises(TransientNetworkError) as caught:
        recovered(rig)
    assert caught.value.exit_code == 75
    assert not list(rig.home.glob("index*"))
    rig.mend()
    assert recovered(rig).keys == ("k",)


def test_old_files_stay_beside_under_names_that_never_clash(rig: StoreRig) -> None:
    rig.store["k"] = b"v"
    for number in (1, 2):
        rig.store.close()
        for name in FILES:
            (rig.home / name).write_bytes(b"damaged %d" % number)
        rig.open()
        report = recovered(rig)
        assert sorted(report.kept) == sorted(str(rig.home / f"{name}.kept-{number}") for name in FILES)
    for name in FILES:
        for number in (1, 2):
            assert (rig.home / f"{name}.kept-{number}").read_bytes() == b"damaged %d" % number


def test_nothing_is_overwritten_when_the_old_files_cannot_be_kept(rig: StoreRig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.store["k"] = b"v"
    rig.store.close()
    (rig.home / "index.json").write_bytes(b"damaged")
    rig.open()

    def no_links(source: object, target: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr("anthill_sync.durable.link", no_links)
    with pytest.raises(AnthillError) as caught:
        recovered(rig)
    assert caught.value.exit_code == 74
    assert (rig.home / "index.json").read_bytes() == b"damaged"


def test_recover_waits_for_no_other_writer_and_lets_none_in(rig: StoreRig, background: Callable[..., Any]) -> None:
    rig.store["k"] = b"v"
    gate: Gate = rig.faulty.hold("read")
    running = background(lambda: recovered(rig))
    gate.wait_for(1)
    with pytest.raises(StoreLocked):
        rig.store["l"] = b"1"
    with pytest.raises(StoreLocked):
        Store.open(rig.home).put("l", b"1")
    gate.open()
    assert running.result(20).keys == ("k",)
    rig.mend()
    gate = rig.faulty.hold("write")
    putting = background(lambda: rig.store.put("k", b"w"))
    gate.wait_for(1)
    with pytest.raises(StoreLocked):
        recovered(rig)
    gate.open()
    putting.result(20)


def test_recover_needs_a_store_that_may_be_changed(rig: StoreRig) -> None:
    rig.store["k"] = b"v"

    def nested(event: object) -> None:
        recovered(rig)

    with pytest.raises(NestedMutation):
        rig.store.put("k", b"w", on_event=nested)
    session: Session = rig.session
    session._read_only = True
    with pytest.raises(PermissionRefused):
        recovered(rig)
    rig.store.close()
    with pytest.raises(StoreClosed):
        recovered(rig)


def test_other_chunks_than_the_configuration_says_are_an_error(rig: StoreRig) -> None:
    rig.store["k"] = chunks_of(1, 2)
    rig.store.close()
    path = rig.home / "config.json"
    path.write_text(path.read_text().replace(f'"chunk_size": {CHUNK}', f'"chunk_size": {CHUNK - 1}'))
    rig.config = type(rig.config)(**{**vars(rig.config), "chunk_size": CHUNK - 1})
    rig.open()
    with pytest.raises(Damaged, match="move it away"):
        recovered(rig)
    rig.store.close()


def test_memory_is_bounded_by_the_entries_of_the_tables(rig: StoreRig) -> None:
    rig.store["k"] = chunks_of(*range(250), *range(250))
    lose_index(rig)
    tracemalloc.start()
    recovered(rig)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 500 * 2048 + (1 << 20), f"{peak} bytes for 500 blocks"
    rig.assert_sound()


def test_the_memory_map_follows_a_recovery_at_once(rigs: Rigs) -> None:
    """A put that lacked only its record is finished; the map that was looked at before knew nothing of it."""
    rig = rigs("embedded", rewrite_limit="0")
    rig.store["a"] = b"old"
    rig.store.close()
    crash_at(rig.home, lambda store: store.put("a", b"new"), "network.confirm|after", 1)
    rig.open()
    assert rig.store.check().problems == ()
    assert recovered(rig).changed
    rig.assert_sound(a=b"new")
