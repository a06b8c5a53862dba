"""``repair``: nothing that can be read is lost, nothing undamaged is sent again, and afterwards every put works."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from anthill_sync import Store
from anthill_sync.errors import AnthillError, Damaged, PermanentNetworkError, PutFailed
from anthill_sync.index import PadStatus
from anthill_sync.reports import Problem, RecoveryReport
from anthill_sync.summaries import BlockPlace
from tests.faults.scenarios import crash_at
from tests.recovery_tools import (
    FILES,
    cut_somewhere,
    flip,
    flip_somewhere,
    lose_index,
    recovered,
    remove_file,
    zero_somewhere,
)
from tests.store_tools import CHUNK, PAD, StoreRig, chunks_of, permanent, transient
from tests.support.servers import serve
from tests.test_store_model import Model

pytest_plugins = ["tests.store_fixtures"]

Rigs = Callable[..., StoreRig]
SHORT, LONG = 4, 150  # histories, with as many damages each as DAMAGES
DAMAGES = 4
PAD_DAMAGE = (flip_somewhere, flip_somewhere, cut_somewhere, zero_somewhere, remove_file)


@pytest.fixture
def rig(rigs: Rigs) -> StoreRig:
    """An embedded store: its pads are files."""
    return rigs("embedded")


def repaired(rig: StoreRig) -> tuple[RecoveryReport, list[Problem]]:
    """Repair the rig's store, as a process of its own would."""
    rig.reopen()
    problems: list[Problem] = []
    return rig.store.repair(on_problem=problems.append), problems


def place(rig: StoreRig, key: str, chunk: int = 0) -> BlockPlace:
    return (rig.store.stat(key).blocks or ())[chunk]


def break_table(rig: StoreRig, pad: int) -> None:
    """Blocks can still be opened by their places, and nothing says what they are."""
    flip(rig.pad_file(pad), rig.pad_file(pad).stat().st_size - 1)


def files(home: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in home.rglob("*") if path.is_file() and path.name != "lock"}


def test_a_sound_store_is_read_whole_and_nothing_is_written(rig: StoreRig) -> None:
    rig.store.put_many({"a": chunks_of(1, 2) + b"x", "b": b"2"})
    before = files(rig.home)
    report, problems = repaired(rig)
    assert (report.changed, report.given_up, problems) == (False, False, [])
    assert files(rig.home) == before
    assert set(rig.faulty.calls) == {"read"}


def test_what_is_readable_on_a_damaged_shared_pad_is_moved_and_the_pad_serves_again(rig: StoreRig) -> None:
    rig.store.put_many({"a": b"1", "b": chunks_of(2, 3) + b"rest", "c": b""})
    shared = place(rig, "a").pad
    assert place(rig, "b", 2).pad == shared
    break_table(rig, shared)
    rig.reopen()
    with pytest.raises(PutFailed) as caught:
        rig.store["d"] = b"4"
    assert caught.value.exit_code == 65
    report, problems = repaired(rig)
    assert (report.lost, report.older, report.damaged_pads) == ((), (), ())
    assert (report.moved, report.emptied_pads) == (("a", "b", "c"), (shared,))
    assert ("pad", shared) in [(problem.kind, problem.pad) for problem in problems]
    assert len(rig.faulty.addresses("write")) == 2, "one pad for what was moved, one that was emptied"
    rig.store["d"] = b"4"
    rig.assert_sound(a=b"1", b=chunks_of(2, 3) + b"rest", c=b"", d=b"4")
    assert not repaired(rig)[0].changed


def test_full_chunks_on_sound_pads_are_not_sent_again(rig: StoreRig) -> None:
    rig.store["k"] = chunks_of(1, 2, 3, 4)
    before = [place(rig, "k", chunk).pad for chunk in range(4)]
    break_table(rig, before[2])
    report, _ = repaired(rig)
    assert report.moved == ("k",)
    assert [chunk for chunk in range(4) if place(rig, "k", chunk).pad != before[chunk]] == [2]
    assert len(rig.faulty.addresses("write")) == 3, "the chunk, the manifest, and the pad that was emptied"
    rig.assert_sound(k=chunks_of(1, 2, 3, 4))


def test_fingerprints_survive_a_move(rig: StoreRig) -> None:
    rig.store["k"] = chunks_of(1, 2, 3)
    break_table(rig, place(rig, "k", 1).pad)
    repaired(rig)
    with rig.counting() as calls:
        rig.store["k"] = chunks_of(1, 2, 3)
    assert calls["write"] == 0


def test_a_value_whose_block_is_lost_is_told_before_it_is_dropped(rig: StoreRig) -> None:
    rig.store.put_many({"a": chunks_of(1, 2), "b": b"2"})
    lost = place(rig, "a")
    flip(rig.pad_file(lost.pad), lost.offset + 100)
    rig.reopen()
    told: list[tuple[str, str | None]] = []
    before = files(rig.home)

    def hear(problem: Problem) -> None:
        told.append((problem.kind, problem.key))
        assert files(rig.home) == before

    report = rig.store.repair(on_problem=hear)
    assert told == [("block", "a"), ("lost", "a")]
    assert report.lost == ("a",)
    assert [Path(path).name for path in report.kept] == [f"{name}.kept-1" for name in FILES]
    rig.assert_sound(b=b"2")
    lose_index(rig)
    assert recovered(rig).keys == ("b",), "what was given up has left the network"


def test_an_older_version_that_is_whole_takes_its_place(rig: StoreRig) -> None:
    rig.store["pins"] = b"x" * 3000
    rig.store["k"] = chunks_of(1)
    old = place(rig, "k").pad
    image = rig.image(old)
    rig.store["k"] = chunks_of(2)
    assert rig.image(old) == image, "nothing took the pad"
    assert rig.manifests()["k"] == 2, "the manifest of before is on another pad"
    newest = place(rig, "k")
    flip(rig.pad_file(newest.pad), newest.offset + 5)
    report, problems = repaired(rig)
    assert (report.older, report.lost) == (("k",), ())
    assert [problem.kind for problem in problems] == ["block", "lost"]
    rig.assert_sound(pins=b"x" * 3000, k=chunks_of(1))
    assert rig.manifests()["k"] == 1, "what was given up has left the network"


def test_a_missing_pad_serves_again_and_what_it_held_is_told(rig: StoreRig) -> None:
    rig.store.put_many({"a": chunks_of(1, 2), "b": b"2"})
    gone = place(rig, "a", 1).pad
    rig.pad_file(gone).unlink()
    report, problems = repaired(rig)
    assert (report.lost, report.emptied_pads) == (("a",), (gone,))
    assert {problem.kind for problem in problems} == {"pad", "lost"}
    rig.store["c"] = chunks_of(3, 4)
    rig.assert_sound(b=b"2", c=chunks_of(3, 4))


def test_a_flipped_bit_in_dead_bytes_of_a_shared_pad_hinders_no_put(rig: StoreRig) -> None:
    rig.store.put_many({"a": b"1" * 1000, "b": b"2" * 1000})
    gone = min(place(rig, "a"), place(rig, "b"), key=lambda each: each.offset)
    key, other = ("a", "b") if gone == place(rig, "a") else ("b", "a")
    value = rig.store[other]
    rig.store.delete(key)  # leaves a gap in front of the other
    flip(rig.pad_file(gone.pad), gone.offset + 50)
    rig.reopen()
    assert [problem.kind for problem in rig.store.check(read_data=True).problems] == ["pad"]
    report, problems = repaired(rig)
    assert [problem.pad for problem in problems] == [gone.pad]
    assert (report.changed, report.given_up) == (True, False)
    rig.store["c"] = b"3"
    rig.assert_sound(**{other: value, "c": b"3"})


def test_an_interrupted_put_loses_only_what_lay_on_damaged_pads(rig: StoreRig, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(chunks_of(1, 2, 3, 4, 5) + b"rest")
    rig.faulty.fail("write", permanent, times=100, skip=4)
    with pytest.raises(AnthillError):
        rig.store.put("k", source)
    rig.mend()
    before = rig.store.pending()[0].done
    pending = rig.index.pending_uploads["k"]
    pad = next(block.pad for _, block in pending.blocks.blocks() if rig.session.allocator.supply.map.kinds[block.pad] == 3)
    break_table(rig, pad)
    report, _ = repaired(rig)
    assert report.emptied_pads == (pad,)
    assert rig.store.pending()[0].done == before - 1
    rig.store.resume()
    rig.assert_sound(k=source.read_bytes())


def test_an_interrupted_put_beside_a_moved_value_is_given_up_and_told(rig: StoreRig) -> None:
    rig.store["k"] = chunks_of(9) + b"rest"
    rig.faulty.fail("write", permanent, times=100, skip=3)
    with pytest.raises(AnthillError):
        rig.store["k"] = chunks_of(1, 2, 3, 4, 5)
    rig.mend()
    break_table(rig, place(rig, "k").pad)
    report, _ = repaired(rig)
    assert (report.moved, report.abandoned) == (("k",), ("k",))
    assert rig.store.pending() == []
    rig.assert_sound(k=chunks_of(9) + b"rest")


def test_after_recover_repair_empties_the_pads_that_were_left(rig: StoreRig) -> None:
    rig.store.put_many({"a": b"1", "b": chunks_of(2)})
    pad = place(rig, "b").pad
    break_table(rig, pad)
    lose_index(rig)
    report = recovered(rig)
    assert (report.lost, report.damaged_pads) == (("b",), (pad,))
    report, _ = repaired(rig)
    assert report.emptied_pads == (pad,)
    rig.store["c"] = chunks_of(5)
    rig.assert_sound(a=b"1", c=chunks_of(5))


def test_repair_of_a_damaged_index_does_what_recover_does(rig: StoreRig) -> None:
    rig.store.put_many({"a": b"1", "b": chunks_of(2)})
    rig.store.close()
    flip(rig.home / "index.json", 20)
    rig.open()
    report, problems = repaired(rig)
    assert [problem.kind for problem in problems] == ["index"]
    assert (report.changed, report.given_up) == (True, False)
    rig.assert_sound(a=b"1", b=chunks_of(2))


def test_a_network_that_fails_changes_nothing(rig: StoreRig) -> None:
    rig.store["k"] = chunks_of(1, 2)
    break_table(rig, place(rig, "k").pad)
    rig.reopen()
    before = files(rig.home)
    for skip in (0, 3, 60, 104):
        rig.faulty.fail("read", transient, times=10**6, skip=skip)
        with pytest.raises(AnthillError) as caught:
            rig.store.repair()
        assert caught.value.exit_code == 75
        assert files(rig.home) == before
        rig.mend()
    assert rig.store.repair().moved == ("k",)
    rig.assert_sound(k=chunks_of(1, 2))


@pytest.mark.parametrize("skip", range(4))
def test_a_failure_half_way_is_finished_by_running_it_again(rig: StoreRig, skip: int) -> None:
    rig.store.put_many({"a": b"1", "b": chunks_of(2, 3) + b"rest"})
    break_table(rig, place(rig, "a").pad)
    break_table(rig, place(rig, "b").pad)
    rig.reopen()
    rig.faulty.fail("write", permanent, times=100, skip=skip)
    with pytest.raises(PermanentNetworkError if skip == 99 else AnthillError):
        rig.store.repair()
    rig.mend()
    rig.store["c"] = b"3"
    report, _ = repaired(rig)
    assert not report.lost
    assert not report.damaged_pads
    rig.assert_sound(a=b"1", b=chunks_of(2, 3) + b"rest", c=b"3")
    assert PadStatus.DAMAGED not in rig.index.status


def test_puts_go_on_after_a_kill_while_a_pad_without_header_was_being_emptied(rig: StoreRig) -> None:
    rig.store.put_many({"a": chunks_of(1), "b": b"2"})
    pad = place(rig, "a").pad
    rig.store.close()
    flip(rig.pad_file(pad), 0)
    crash_at(rig.home, lambda store: store.repair(), "network.write|before", 3)
    rig.open()
    assert pad in rig.index.writing
    assert rig.index.status[pad] == PadStatus.DAMAGED
    rig.store["c"] = b"3"
    assert repaired(rig)[0].emptied_pads == (pad,)
    rig.assert_sound(a=chunks_of(1), b=b"2", c=b"3")


def test_any_damage_of_pads_costs_only_what_lay_under_it(rigs: Rigs, long_run: bool) -> None:
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")
    for number in range(LONG if long_run else SHORT):
        chance = random.Random(f"{seed}/{number}")
        model = Model(rigs("embedded"), f"{seed}/{number}", faults=False)
        for _ in range(15):
            model.step()
        for _ in range(DAMAGES):
            damage_and_repair(model, chance)


def damage_and_repair(model: Model, chance: random.Random) -> None:
    """Some pads are damaged; keys that are lost are lost for a reason. One pad stays: none at all is taken for a network that
    is not mounted."""
    rig = model.rig
    there = [pad for pad in range(rig.index.pads) if rig.pad_file(pad).exists()]
    written = [pad for pad in there if rig.pad_file(pad).stat().st_size]
    chosen = chance.sample(written, max(0, min(2, len(written), len(there) - 1)))
    did = [(pad, chance.choice(PAD_DAMAGE)(rig.pad_file(pad), chance)) for pad in chosen]
    readable = {key for key in model.values if can_be_read(rig, key)}
    report, _ = repaired(rig)
    assert set(report.lost) | set(report.older) == model.values.keys() - readable, did
    for key in report.lost:
        del model.values[key]
    for key in report.older:
        model.values[key] = rig.store[key]
    assert report.damaged_pads == ()
    rig.assert_sound(**model.values)
    again, problems = repaired(rig)
    assert (again.changed, problems) == (False, []), did
    model.put("after")
    rig.assert_sound(**model.values)


def can_be_read(rig: StoreRig, key: str) -> bool:
    try:
        return rig.store[key] is not None
    except Damaged:
        return False


@pytest.mark.parametrize("sound", [True, False])
def test_a_network_that_lost_every_pad_is_taken_for_one_that_is_not_mounted(rig: StoreRig, sound: bool) -> None:
    rig.store.put_many({"a": chunks_of(1, 2), "b": b"2"})
    rig.store.close()
    (rig.home / "pads").rename(rig.home / "mounted elsewhere")
    (rig.home / "pads").mkdir()
    if not sound:
        flip(rig.home / "index.json", 20)
    before = files(rig.home)
    rig.open()
    for mend in (rig.store.repair, lambda: recovered(rig)):
        with pytest.raises(AnthillError, match="mounted") as caught:
            mend()
        assert caught.value.exit_code == 69
    assert files(rig.home) == before
    rig.store.close()


@pytest.mark.parametrize("position", [-1, 0, 9], ids=["table", "magic", "counter"])
def test_a_damaged_pad_on_a_server_is_emptied_with_a_counter_that_it_takes(tmp_path: Path, position: int) -> None:
    with serve(tmp_path / "pads") as server, Store.create(tmp_path / "home", network=server.url, pad_size=PAD) as store:
        store.put_many({"a": b"1", "b": chunks_of(1, 2) + b"rest"})
        pad = (store.stat("a").blocks or ())[0].pad
        address = store._session.pads.name(pad).address
    flip(next((tmp_path / "pads").rglob(address)), position)
    with serve(tmp_path / "pads") as server:  # the one before remembered what it had written
        config = tmp_path / "home" / "config.json"
        moved = re.sub(r"http://[0-9.:]+", server.url, config.read_text())
        config.write_text(re.sub(r',\s*"sum": "\w+"', "", moved))  # as somebody changes it on purpose
        with Store.open(tmp_path / "home") as store:
            assert store.repair().emptied_pads == (pad,)
            store["c"] = b"3"
            assert dict(store) == {"a": b"1", "b": chunks_of(1, 2) + b"rest", "c": b"3"}
            assert store.check(read_data=True).problems == ()


def test_memory_does_not_grow_with_the_values(rig: StoreRig) -> None:
    import tracemalloc

    rig.store["k"] = bytes(600 * CHUNK)
    rig.reopen()
    tracemalloc.start()
    assert not rig.store.repair().changed
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 600 * 2048 + (4 << 20), f"{peak} bytes for a value of {600 * CHUNK}"
