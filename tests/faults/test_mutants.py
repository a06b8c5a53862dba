"""The tests themselves: whatever protects a promise is taken out of the program, one thing at a time, and a test must fail."""

from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import Begin
from .mutants import HARMLESS, mutants, pass_unchanged, survives, watchers

PARTS = 4
SHORT = 3  # of each part
KINDS = {"fsync", "rename", "flock", "compare", "associated data"}


@pytest.mark.parametrize("part", range(PARTS))
def test_every_safeguard_that_is_taken_out_is_missed_by_a_test(part: int, tmp_path: Path, campaign: Begin) -> None:
    mine = [mutant for mutant in mutants()[part::PARTS] if str(mutant) not in HARMLESS]
    with campaign("the tests themselves", f"part {part + 1}", short=SHORT, long=len(mine)) as run:
        for arguments in sorted({tuple(watchers(mutant)) for mutant in mine}) if run.long else []:
            with run.case("nothing taken out", arguments):
                assert pass_unchanged(list(arguments), tmp_path), "a watcher fails anyway, and would notice nothing"
        for mutant in run.random(part).sample(mine, run.goal):
            with run.case(mutant.kind, mutant):
                assert not survives(mutant, tmp_path), f"no test of {watchers(mutant)} notices that it is gone"


def test_mutants_of_every_kind_are_found_and_each_has_its_watchers() -> None:
    found = mutants()
    assert {mutant.kind for mutant in found} == KINDS
    assert len(found) >= 30
    assert len({str(mutant) for mutant in found}) == len(found), "two mutants of the same name"
    assert [str(mutant) for mutant in found if not watchers(mutant)] == []


def test_harmless_mutants_still_exist() -> None:
    """A reason that outlives its code would hide another mutant."""
    assert HARMLESS.keys() <= {str(mutant) for mutant in mutants()}
