"""``recover`` over a damaged index: its verified beginning counts, then every line that verifies by itself, then the pads."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from anthill_sync import journal
from anthill_sync.errors import AnthillError, IndexDamaged, RewriteFailed, UnknownFormat
from anthill_sync.index import MasterIndex
from anthill_sync.lines import batch_line, encode_records, first_line, snapshot_lines
from anthill_sync.packing import encode
from anthill_sync.recovery_witness import Witness, read_witness
from anthill_sync.values import NO_FINGERPRINT
from tests.faults.scenarios import crash_at
from tests.recovery_tools import DAMAGE, FILES, changed_lines, facts, flip, is_clean, recovered
from tests.store_tools import PAD, StoreRig, chunks_of, permanent
from tests.test_store_model import Model

pytest_plugins = ["tests.store_fixtures"]

Rigs = Callable[..., StoreRig]
SHORT, LONG = 6, 200  # histories, with as many damages each as DAMAGES
DAMAGES = 6


def damaged(rig: StoreRig, damage: Callable[[Path], object]) -> None:
    """Damage files of a closed store, then open it."""
    rig.store.close()
    damage(rig.home)
    rig.open()


def without_line(what: str, which: int = 1) -> Callable[[Path], object]:
    """Damages the ``which``-th line of the journal that has this text in it."""

    def change(lines: list[bytes]) -> list[bytes]:
        number = [n for n, line in enumerate(lines) if what.encode() in line][which - 1]
        return [*lines[:number], lines[number].replace(b'"', b"'", 1), *lines[number + 1 :]]

    return lambda home: changed_lines(home / "index.journal", change)


@pytest.mark.parametrize("checkpoint", [1, 4096, 1 << 18])
def test_any_damage_of_the_index_is_undone(rigs: Rigs, checkpoint: int, monkeypatch: pytest.MonkeyPatch, long_run: bool) -> None:
    monkeypatch.setattr(journal, "CHECKPOINT_BYTES", checkpoint)
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")
    for number in range((LONG if long_run else SHORT) // 3):
        chance = random.Random(f"{seed}/{number}")
        model = Model(rigs(), f"{seed}/{number}", faults=False)
        for _ in range(20):
            model.step()
        assert is_clean(model.rig.index)
        damage_and_recover(model, chance)


def damage_and_recover(model: Model, chance: random.Random) -> None:
    """Several times, from the same state."""
    rig = model.rig
    before = facts(rig.index)
    rig.store.close()
    files = {name: (rig.home / name).read_bytes() for name in FILES}
    raw: Any = rig.raw
    pads = dict(raw.pads)
    for _ in range(DAMAGES):
        for name, data in files.items():
            (rig.home / name).write_bytes(data)
        raw.pads.clear()
        raw.pads.update(pads)
        name = chance.choice(FILES)
        what = chance.choice(DAMAGE)(rig.home / name, chance)
        rig.open()
        report = recovered(rig)
        assert not report.given_up, (name, what)
        waiting = {each.key for each in rig.store.pending()}  # what ended these puts was cut off, and nothing shows that
        assert report.damage is None or not waiting, (name, what)
        assert waiting or facts(rig.index) == before, (name, what)
        for key in waiting & model.values.keys():
            rig.store[key] = model.values[key]
        rig.store.abandon()
        assert rig.store.check(read_data=True).problems == (), (name, what)
        rig.store["after"] = chunks_of(1) + b"rest"
        rig.assert_sound(**model.values, after=chunks_of(1) + b"rest")
        rig.store.close()


def test_a_damaged_store_says_that_recover_mends_it(rig: StoreRig) -> None:
    rig.store["k"] = b"v"
    for name in FILES:
        damaged(rig, lambda home, name=name: flip(home / name, 12))  # type: ignore[misc]
        with pytest.raises(IndexDamaged, match="'anthill recover' rebuilds"):
            rig.store.get("k")
        problems = rig.store.check().problems
        assert [problem.kind for problem in problems] == ["index"]
        recovered(rig)
        assert rig.store["k"] == b"v"


# -- what single lines behind the damage say


def leave_manifest(rig: StoreRig, act: Callable[[], object]) -> None:
    """``act`` takes effect in the journal, and its rewriting fails."""
    rig.faulty.fail("write", permanent, times=100)
    with pytest.raises(RewriteFailed):
        act()
    rig.mend()


def test_a_removal_behind_the_damage_still_counts(rig: StoreRig) -> None:
    rig.store.put_many({"gone": b"1", "other": b"2"})
    rig.store["more"] = b"3"
    leave_manifest(rig, lambda: rig.store.delete("gone"))
    assert rig.manifests()["gone"]
    damaged(rig, without_line('"publish","more"'))
    report = recovered(rig)
    assert (report.keys, report.lost) == (("more", "other"), ())
    rig.store["after"] = b"4"
    assert not rig.manifests()["gone"], "its manifest has to leave the network"


def test_a_key_put_again_behind_its_removal_stays(rig: StoreRig) -> None:
    rig.store.put_many({"k": b"old", "other": b"2"})
    rig.store.delete("k")
    rig.store["k"] = b"new"
    damaged(rig, without_line('"run"'))
    assert recovered(rig).keys == ("k", "other")
    assert rig.store["k"] == b"new"


def test_a_key_put_again_in_a_line_that_is_lost_stays(rig: StoreRig) -> None:
    rig.store.put_many({"k": b"old", "other": b"2"})
    rig.store.delete("k")
    rig.store["k"] = b"new"
    rig.store["last"] = b"3"
    rig.store.close()
    without_line('"publish","k"', 2)(rig.home)
    damaged(rig, without_line('"run"'))
    assert recovered(rig).keys == ("k", "last", "other")
    assert rig.store["k"] == b"new"


def test_a_rename_behind_the_damage_still_counts(rig: StoreRig) -> None:
    rig.store.put_many({"old": b"", "other": b"2"})  # no block shows that both names mean one value
    rig.store["more"] = b"3"
    rig.faulty.fail("write", permanent, times=100, skip=1)
    with pytest.raises(RewriteFailed):
        rig.store.rename("old", "new")
    rig.mend()
    assert rig.manifests()["old"]
    damaged(rig, without_line('"publish","more"'))
    assert recovered(rig).keys == ("more", "new", "other")


def test_the_highest_run_of_any_line_is_respected(rig: StoreRig) -> None:
    for value in b"abc":
        rig.reopen()
        rig.store["k"] = bytes([value])
    rig.reopen()
    rig.store.reserve(1)  # a run without any manifest
    run = rig.index.run
    damaged(rig, without_line('"publish"'))
    recovered(rig)
    assert rig.index.run > run


def test_the_sequence_goes_on_above_every_line_so_a_crash_half_way_is_no_damage(
    rig: StoreRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "CHECKPOINT_BYTES", 1)
    rig.store["k"] = b"u"
    monkeypatch.undo()
    rig.store["k"] = b"v"
    sound = (rig.home / "index.journal").read_bytes()
    damaged(rig, lambda home: (home / "index.json").write_bytes(b"damaged"))
    recovered(rig)
    rig.store.close()
    (rig.home / "index.journal").write_bytes(sound)  # as before its rename
    rig.open()
    assert rig.store["k"] == b"v"
    assert not recovered(rig).changed


def test_fingerprints_of_lines_that_verify_are_kept(rig: StoreRig) -> None:
    rig.store["k"] = chunks_of(1, 2, 3) + b"rest"
    rig.store["l"] = b"1"
    damaged(rig, without_line('"publish","l"'))
    recovered(rig)
    assert all(block.fingerprint != NO_FINGERPRINT for block in rig.index.values["k"].blocks())
    with rig.counting() as calls:
        rig.store["k"] = chunks_of(1, 2, 3) + b"rest"
    assert calls["write"] == 0


def test_fingerprints_of_a_damaged_snapshot_are_used_where_the_pads_agree(rig: StoreRig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.store.put_many({"k": chunks_of(1, 2, 3), "l": chunks_of(4)})
    monkeypatch.setattr(journal, "CHECKPOINT_BYTES", 1)
    rig.store["m"] = b"1"
    monkeypatch.undo()

    def swap_and_break(lines: list[bytes]) -> list[bytes]:
        """The value of l under k's name, and k's under l's; and no sum agrees."""
        swapped = [line.replace(b'"key":"k"', b'"key":"?"').replace(b'"key":"l"', b'"key":"k"') for line in lines]
        return [line.replace(b'"key":"?"', b'"key":"l"') for line in swapped]

    index = rig.home / "index.json"
    sound = index.read_bytes()
    for hints, known in ((sound[:-3], True), (b"".join(swap_and_break(sound.splitlines(keepends=True))), False)):
        damaged(rig, lambda home, hints=hints: (home / "index.json").write_bytes(hints))  # type: ignore[misc]
        recovered(rig)
        blocks = list(rig.index.values["k"].blocks())
        assert [block.fingerprint != NO_FINGERPRINT for block in blocks] == [known] * 3
        rig.assert_sound(k=chunks_of(1, 2, 3), l=chunks_of(4), m=b"1")


def test_digests_of_images_that_lines_know_are_kept(rig: StoreRig) -> None:
    rig.store["k"] = b"v"
    rig.store["l"] = b"w"
    known = rig.index.digest(0)
    damaged(rig, without_line('"run"'))
    recovered(rig)
    assert rig.index.digest(0) == known != bytes(16)


def test_an_interrupted_put_of_the_verified_beginning_can_be_resumed(rig: StoreRig, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(chunks_of(1, 2, 3, 4) + b"rest")
    rig.faulty.fail("write", permanent, times=100, skip=3)
    with pytest.raises(AnthillError):
        rig.store.put("k", source)
    rig.mend()
    rig.store["l"] = b"1"
    done = rig.store.pending()[0].done
    damaged(rig, without_line('"publish","l"'))
    recovered(rig)
    assert rig.store.pending()[0].done == done
    with rig.counting() as calls:
        rig.store.resume()
    assert calls["write"] <= 5 - done + 1
    rig.assert_sound(k=source.read_bytes(), l=b"1")


def test_an_interrupted_put_that_was_given_up_behind_the_damage_stays_so(rig: StoreRig) -> None:
    rig.store["k"] = chunks_of(9)
    rig.faulty.fail("write", permanent, times=100, skip=3)
    with pytest.raises(AnthillError):
        rig.store["k"] = chunks_of(1, 2, 3, 4) + b"rest"
    rig.mend()
    rig.store["l"] = b"1"
    rig.store.abandon("k")
    damaged(rig, without_line('"publish","l"'))
    recovered(rig)
    rig.assert_sound(k=chunks_of(9), l=b"1")


# -- which files


def test_the_first_journal_alone_is_as_good_as_the_index(rig: StoreRig) -> None:
    rig.store["k"] = chunks_of(1, 2)
    damaged(rig, lambda home: (home / "index.json").unlink())
    recovered(rig)
    assert all(block.fingerprint != NO_FINGERPRINT for block in rig.index.values["k"].blocks())
    rig.assert_sound(k=chunks_of(1, 2))


def test_a_missing_journal_is_damage_and_the_pads_tell_the_rest(rig: StoreRig) -> None:
    rig.store["k"] = b"v"
    damaged(rig, lambda home: (home / "index.journal").unlink())
    assert recovered(rig).damage is not None
    rig.assert_sound(k=b"v")


def test_an_index_that_contradicts_itself_is_derived_anew(rig: StoreRig) -> None:
    rig.store.put_many({"a": b"1", "b": b"2", "c": chunks_of(3)})

    def contradict(home: Path) -> None:
        index = rig.index
        value = index.values["a"]
        index.values["b"] = type(value)(
            value.size, value.version + 100, 0, None, value.manifest_pad, value.data_ids, value.packed
        )
        (home / "index.json").write_bytes(b"".join(snapshot_lines(index)))
        (home / "index.journal").write_bytes(first_line(index.sequence)[0])

    contradict(rig.home)
    rig.reopen()
    assert [problem.kind for problem in rig.store.check().problems] == ["index"]
    with pytest.raises(IndexDamaged):
        rig.store["d"] = b"4"
    report = rig.store.repair()
    assert report.damage is not None
    assert report.lost == ()
    rig.assert_sound(a=b"1", b=b"2", c=chunks_of(3))


def test_the_index_of_a_newer_program_is_left_alone(rig: StoreRig) -> None:
    rig.store["k"] = b"v"
    line, _ = first_line(0)
    body = line.replace(b'"format":1', b'"format":9')[: -len(b',"c":"0123456789abcdef"}\n')]
    from anthill_sync.lines import _sum

    newer = body + b',"c":"' + _sum(body).encode() + b'"}\n'
    damaged(rig, lambda home: (home / "index.journal").write_bytes(newer))
    with pytest.raises(UnknownFormat):
        recovered(rig)
    assert (rig.home / "index.journal").read_bytes() == newer
    rig.store.close()


# -- the witness by itself


def witness_of(home: Path, *batches: list[Any], lost: set[int]) -> Witness:
    """That of a journal with these batches, in which some lines are damaged."""
    line, previous = first_line(0)
    lines = [line]
    for sequence, records in enumerate(batches, 1):
        line, previous = batch_line(sequence, previous, 1 << 20, [encode_records(records)])
        lines.append(line.replace(b'"r"', b'"x"') if sequence in lost else line)
    (home / "index.json").write_bytes(b"".join(snapshot_lines(MasterIndex())))
    (home / "index.journal").write_bytes(b"".join(lines))
    return read_witness(home, PAD)


DATA = encode(bytes(range(16)))
RUN = [["run", 1, bytes(16).hex()]]
PUT: list[Any] = [
    ["reserving", 0, 0],
    ["reserved", 0],
    ["committed", 0, 1, DATA, [], [["k", 1 << 32 | 1, 50, 0]], None, 0],
    ["publish", "k", 1, 1 << 32 | 1, 7, None, 0, [[DATA, 0, 32, 81, DATA]], [], 1],
]
AGAIN: list[Any] = [["committed", 0, 2, DATA, [], [["k", 1 << 32 | 2, 50, 0]], [], 0]]
REMOVE: list[Any] = [["remove", ["k"], []]]


@pytest.mark.parametrize(
    ("batches", "lost", "gone"),
    [
        ((RUN, PUT), {1}, set()),
        ((RUN, PUT, REMOVE), {1}, {1, 2}),
        ((RUN, PUT, REMOVE, AGAIN), {1}, {1}),
        ((RUN, PUT, REMOVE, AGAIN, RUN), {1, 4}, {1}),  # version 2 may have been put in the line that is lost
        ((RUN, PUT, REMOVE, AGAIN), {1, 4}, {1}),
        ((RUN, PUT, AGAIN, REMOVE), {1}, {1, 2}),
        ((RUN, PUT, AGAIN, REMOVE), {1, 3}, {1, 2}),
        ((RUN, PUT, REMOVE, AGAIN, REMOVE), {1, 4}, {1, 2}),
    ],
)
def test_a_version_is_gone_when_a_line_removed_it_and_none_since_may_have_put_it(
    tmp_path: Path, batches: tuple[Any, ...], lost: set[int], gone: set[int]
) -> None:
    witness = witness_of(tmp_path, *batches, lost=lost)
    assert not witness.sound
    assert witness.base.pads == 0
    assert {count for count in (1, 2) if witness.removed("k", 1 << 32 | count)} == gone


def test_counters_of_later_lines_are_known(tmp_path: Path) -> None:
    witness = witness_of(tmp_path, RUN, PUT, AGAIN, lost={1})
    assert witness.counter(0) == (2, bytes(range(16)))
    assert witness.later.published == {"k": 1 << 32 | 1}
    assert (witness.run, witness.sequence) == (0, 3)


def test_an_index_without_damage_is_the_witness_itself(rig: StoreRig) -> None:
    rig.store["k"] = b"v"
    witness = read_witness(rig.home, PAD)
    assert witness.sound
    assert list(snapshot_lines(witness.base)) == list(snapshot_lines(rig.index))


def test_a_crash_while_the_index_is_rebuilt_leaves_old_or_new(rigs: Rigs) -> None:
    """The other crash points are those of the scenarios; this is the one between the two renames."""
    rig = rigs("embedded")
    rig.store["k"] = chunks_of(1, 2)
    damaged(rig, without_line('"publish"'))
    rig.store.close()
    crash_at(rig.home, lambda store: recovered_by(store), "rename journal|before", 1)
    rig.open()
    with pytest.raises(IndexDamaged):
        rig.store.get("k")
    assert recovered(rig).keys == ("k",)
    rig.assert_sound(k=chunks_of(1, 2))


def recovered_by(store: Any) -> None:
    """By the store's own session."""
    from anthill_sync.recovery import recover

    recover(store._session)
