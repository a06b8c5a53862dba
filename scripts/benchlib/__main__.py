"""``scripts/bench``: run the measurements, print the table, judge it, and write the page when asked."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from tempfile import gettempdir

from .figures import Figure, table
from .history import compare, save
from .measures import MEASURES, Plan
from .page import page


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench", description="Measure anthill_sync against its goals.")
    parser.add_argument("--quick", action="store_true", help="smaller sizes and fewer rounds")
    parser.add_argument("--check", action="store_true", help="exit code 1 when a goal is missed")
    parser.add_argument("--only", metavar="GROUP", action="append", choices=sorted(MEASURES), help=", ".join(MEASURES))
    parser.add_argument("--folder", metavar="DIR", type=Path, default=Path(gettempdir()), help="on the disk to measure")
    parser.add_argument("--save", metavar="FILE", type=Path, help="keep this run, to compare a later one with")
    parser.add_argument("--compare", metavar="FILE", type=Path, help="exit code 1 when a ratio is worse than in this run")
    parser.add_argument("--out", metavar="FILE", type=Path, help="write the figures as a page, docs/performance.rst")
    return parser.parse_args()


def main() -> int:
    options = parse()
    plan = (Plan.quick if options.quick else Plan.full)(options.folder)
    figures: list[Figure] = []
    for name, measure in MEASURES.items():
        if not options.only or name in options.only:
            print(f"measuring: {name}", file=sys.stderr, flush=True)
            figures += measure(plan)
    print(table(figures), end="")
    if options.out:
        text = page(figures, options.folder, quick=options.quick, only=options.only or [], name=options.out.name)
        options.out.write_text(text, encoding="utf-8")
    if options.save:
        save(figures, options.save)
    worse = compare(figures, options.compare) if options.compare else []
    print("".join(f"{line}\n" for line in worse), end="")
    missed = [figure.name for figure in figures if figure.missed]
    return 1 if worse or (options.check and missed) else 0


if __name__ == "__main__":
    sys.exit(main())
