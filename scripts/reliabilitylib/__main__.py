"""``scripts/reliability``: run the campaigns, write the page, and tell what was wrong."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from tempfile import gettempdir, mkdtemp

from .figures import read, shortcomings
from .page import page

ROOT = Path(__file__).resolve().parents[2]


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/reliability", description="Run the fault campaigns; write what they found.")
    parser.add_argument("--short", action="store_true", help="the short forms: minutes instead of one to two hours")
    parser.add_argument("--seed", type=int, metavar="N", help="the seed of every campaign, to make a run again")
    parser.add_argument("--report", type=Path, metavar="FOLDER", help="leave the figures in FOLDER, which must be empty")
    parser.add_argument("--continue", dest="go_on", type=Path, metavar="FOLDER", help="run what has no sound figures in FOLDER")
    parser.add_argument("--figures", type=Path, metavar="FOLDER", help="run nothing: the figures that were left in FOLDER")
    parser.add_argument("--out", type=Path, metavar="FILE", default=ROOT / "docs" / "reliability.rst", help="the page")
    return parser.parse_args(arguments)


def run(folder: Path, *, short: bool, seed: int | None, go_on: bool) -> int:
    """All campaigns on all cores, or to ``go_on`` those without figures or with a violation; pytest's exit code."""
    command = [sys.executable, "-m", "pytest", "tests/faults", "-n", "auto", "--dist", "worksteal", "--report", str(folder)]
    command += [] if short else ["--long"]
    command += [] if seed is None else ["--seed", str(seed)]
    command += ["--going-on", commit()] if go_on else []
    return subprocess.run(command, cwd=ROOT, check=False).returncode


def commit() -> str:
    """What is run, for the page."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    return subprocess.run(command, check=False, capture_output=True, text=True).stdout.strip() or "an unknown commit"


def main(arguments: list[str] | None = None) -> int:
    """0: every campaign was run and none found a violation."""
    options = parse(arguments)
    failed = 0
    if options.figures is None:
        folder = options.go_on or options.report or Path(mkdtemp(prefix="reliability-"))
        if options.report and options.report.exists() and any(options.report.iterdir()):
            sys.exit(f"scripts/reliability: {options.report} is not empty; figures of several runs would be mixed")
        failed = run(folder.resolve(), short=options.short, seed=options.seed, go_on=options.go_on is not None)
    rows = read(options.figures or folder)
    options.out.write_text(page(rows, Path(gettempdir())), encoding="utf-8")
    wrong = shortcomings(rows) + (["pytest: a test failed, see above"] if failed else [])
    print("\n".join([f"written: {options.out}", *wrong]), file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
