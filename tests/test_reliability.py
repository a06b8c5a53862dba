"""The page of the campaigns' figures: complete, honest about what is missing, and made from what campaigns leave."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from reliabilitylib.__main__ import main
from reliabilitylib.figures import MUST_HOLD

from tests.faults.campaign import Campaign

HITS = {"sync journal|before": 3, "sync journal|after": 2, "record publish|torn": 1, "at a random moment": 4}


def ran(
    folder: Path, name: str, part: str = "", *, goal: int = 10, long: bool = True, counts: dict[str, int] | None = None
) -> Campaign:
    """A campaign that left its figures."""
    run = Campaign(name, part, goal, 4711, long)
    run.counts.update({"one kind": 4, "another": 6} if counts is None else counts)
    run.save(folder)
    return run


@pytest.fixture
def figures(tmp_path: Path) -> Path:
    """The figures of all campaigns, two parts of one of them."""
    folder = tmp_path / "figures"
    for name in MUST_HOLD:
        ran(folder, name, counts=HITS if name == "kill -9" else None)
    ran(folder, "races", "readers", goal=1, counts={"another": 1230})
    return folder


def render(figures: Path) -> tuple[int, str]:
    """Exit code and page."""
    out = figures.parent / "page.rst"
    code = main(["--figures", str(figures), "--out", str(out)])
    return code, out.read_text("utf-8")


def cells(page: str, first: str) -> list[str]:
    """The rest of a table's row that begins with ``first``."""
    row = next(line for line in page.splitlines() if line.startswith(f'   "{first}", '))
    return next(csv.reader([row.strip()], skipinitialspace=True))[1:]


def test_every_campaign_is_a_row_with_the_sums_of_its_parts(figures: Path) -> None:
    code, page = render(figures)
    assert code == 0
    for name, must_hold in MUST_HOLD.items():
        assert cells(page, name)[0] == must_hold
    assert cells(page, "races")[1:4] == ["1,240", "2", "0"]
    assert cells(page, "readers")[:3] == ["1,230", "1", "0"]
    assert "4711" in cells(page, "readers")
    assert "short form" not in page.partition("To make them again")[0]


def test_hits_are_listed_by_point_and_phase(figures: Path) -> None:
    _, page = render(figures)
    assert cells(page, "sync journal") == ["3", "", "2"]
    assert cells(page, "record publish") == ["", "1", ""]
    assert cells(page, "at a random moment") == ["", "", "4"]


def test_a_campaign_that_was_not_run_is_told_and_fails(figures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (figures / "damage.json").unlink()
    code, page = render(figures)
    assert code == 1
    assert cells(page, "damage")[1] == "not run"
    assert "damage: not run" in capsys.readouterr().err


def test_a_violation_is_shown_and_fails(figures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = ran(figures, "damage")
    run.violations.append("key, byte 3: \nexit code 0")
    run.save(figures)
    code, page = render(figures)
    assert code == 1
    assert cells(page, "damage")[3] == "1"
    assert "``key, byte 3: exit code 0``" in page
    assert "damage: key, byte 3:" in capsys.readouterr().err


def test_too_few_cases_fail(figures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ran(figures, "model", goal=11)
    assert render(figures)[0] == 1
    assert "model: 10 cases of 11" in capsys.readouterr().err


def test_the_page_says_when_it_was_a_short_form(figures: Path) -> None:
    ran(figures, "power loss", "1 thread", long=False)
    assert "**This was a short form**" in render(figures)[1]


def test_figures_of_several_runs_are_not_mixed(figures: Path) -> None:
    with pytest.raises(SystemExit, match="not empty"):
        main(["--report", str(figures), "--out", str(figures.parent / "page.rst")])


def test_a_run_that_goes_on_does_what_is_missing_or_was_violated_and_says_so(figures: Path) -> None:
    """Figures that were sound stay; the page names the parts that were run later, and what their first run had found."""
    violated = ran(figures, "model", "part 1")
    violated.violation("not equal\nassert False")
    violated.save(figures)
    ran(figures, "swaps and rollback", counts={"one kind": 3})
    sound, again, missing, short = (
        Campaign(name, part, 10, 1, True)
        for name, part in [("races", ""), ("model", "part 1"), ("model", "part 2"), ("swaps and rollback", "")]
    )
    assert [each.is_done(figures, "abc123") for each in (sound, again, missing, short)] == [True, False, False, False]
    for each in (again, missing, short):
        each.counts["one kind"] = 10
        each.save(figures)
    code, page = render(figures)
    assert code == 0
    assert "* part 1: run later than the others, at abc123. Its first run: not equal assert False\n" in page
    assert "* part 2: run later than the others, at abc123. Its first run: it left no figures" in page
    assert "* swaps and rollback: run later than the others, at abc123. Its first run: 3 cases of 10\n" in page
    assert page.count("run later") == 3
