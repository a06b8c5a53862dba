"""The server acts and its answer is lost, at every place of everything a store does: no false conflict, nothing done
twice, no pad forgotten."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import pytest

from anthill_sync import Store, durable
from anthill_sync.errors import AnthillError

from .conftest import Begin
from .laboratory import Bench, Laboratory, operation_of
from .proxy import Asked, nothing
from .scenarios import OLD, SCENARIOS, SMALL, Scenario, run

SHORT, LONG = 500, 3000  # cases
READING = Scenario("get", lambda store: [store[key] for key in store], ({"k": OLD, "l": SMALL},), {"k": OLD, "l": SMALL})
PATTERNS: dict[str, float] = {"once": 0, "and the repeat's": 1, "and two repeats'": 2, "of that pad": math.inf, "all": math.inf}
PASSING = ("once", "and the repeat's", "and two repeats'")  # fewer than ``attempts``
ENDS = ("another Store", "the same Store")  # who does it again after an act that failed


@pytest.fixture(autouse=True)
def _no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Power stays on here: do without the disk's pace."""
    monkeypatch.setattr(durable, "sync", lambda fd: None)
    monkeypatch.setattr(durable, "sync_folder", lambda path: None)


@dataclass
class Losses:
    """A plan that loses the answer to the ``place``-th request of ``operation``, and more as ``pattern`` says."""

    operation: str
    place: int
    pattern: str
    lost: int = 0
    _seen: int = 0
    _path: str | None = None
    _left: float = field(init=False)

    def __post_init__(self) -> None:
        self._left = PATTERNS[self.pattern]

    def __call__(self, asked: Asked) -> str | None:
        loses = self._loses(asked, operation_of(asked))
        self.lost += loses
        return "lost" if loses else None

    def _loses(self, asked: Asked, operation: str) -> bool:
        if self._path is None:
            self._seen += operation == self.operation
            if operation == self.operation and self._seen == self.place:
                self._path = asked.path
                return True
        elif self._left and (asked.path == self._path or self.pattern == "all"):
            self._left -= 1
            return True
        return self.operation == "confirm" and operation == "write"  # only a doubt is confirmed by asking


@dataclass
class Case:
    """One act, with answers lost; ``end``: who does it again if it fails."""

    bench: Bench
    losses: Losses
    end: str

    @property
    def kind(self) -> str:
        return f"{self.losses.operation}: {self.bench.scenario.name}"

    def __str__(self) -> str:
        return f"{self.losses.operation} {self.losses.place}, {self.losses.pattern}, {self.end}"

    def check(self) -> None:
        """Nothing that passes fails the act; what fails it is 75, leaves old or new, and lets the same again finish."""
        home, laboratory = self.bench.begin(), self.bench.laboratory
        laboratory.proxy.reset(self.losses)
        failed = run(home, self._try)
        assert self.losses.lost, "no answer was lost"
        if failed:
            self._again(home)
        assert laboratory.content(home) == self.bench.scenario.aim
        laboratory.assert_at_rest(home)
        if not failed:
            self._assert_bounded()

    def _try(self, store: Store) -> bool:
        """Whether the act failed; ``the same Store`` does it again at once, when answers come again."""
        try:
            self.bench.scenario.act(store)
        except AnthillError as error:
            assert error.exit_code == 75, f"a false alarm: {error!r}"  # noqa: PT017 - it need not fail
            assert self.losses.pattern not in PASSING, f"{error!r}"  # noqa: PT017
            self.bench.laboratory.proxy.plan = nothing
            if self.end == "the same Store":
                self.bench.scenario.act(store)
            return True
        return False

    def _again(self, home: Path) -> None:
        """Another Store does it again, and once more something: what could not be rewritten is tried then."""
        self.bench.scenario.assert_allowed(self.bench.laboratory.content(home))
        run(home, self.bench.scenario.act)
        run(home, lambda store: store.put("last", b""))
        run(home, lambda store: store.delete("last"))

    def _assert_bounded(self) -> None:
        """Each lost answer costs its repeat, and one question."""
        asked = self.bench.laboratory.proxy.requests
        assert asked <= self.bench.asked.total() + 2 * self.losses.lost, f"{asked} requests"
        assert len(self.bench.laboratory.memory.pads) == self.bench.total, "more pads than without a fault"


def all_cases(benches: list[Bench]) -> Iterator[Case]:
    """Every operation at every place of every scenario, with every pattern."""
    for bench in benches:
        asked = {**bench.asked, "confirm": bench.asked["write"]}
        for operation, count in asked.items():
            for place, pattern, end in product(range(1, count + 1), PATTERNS, ENDS):
                if pattern not in PASSING or end == ENDS[0]:
                    yield Case(bench, Losses(operation, place, pattern), end)


def chosen(cases: list[Case], wanted: int, chance: random.Random) -> list[Case]:
    """So many of the cases, evenly from all kinds."""
    chance.shuffle(cases)
    turn: Counter[str] = Counter()
    turns: list[tuple[int, int]] = []
    for number, case in enumerate(cases):
        turn[case.kind] += 1
        turns.append((turn[case.kind], number))
    return [cases[number] for _, number in sorted(turns)[:wanted]]


@pytest.fixture
def laboratory(tmp_path: Path) -> Iterator[Laboratory]:
    with Laboratory(tmp_path) as made:
        yield made


def test_a_lost_answer_is_no_conflict_no_second_reservation_and_no_lost_pad(laboratory: Laboratory, campaign: Begin) -> None:
    scenarios = [each for each in (*SCENARIOS, READING) if not each.checkpoints]
    benches = [Bench.prepare(laboratory, scenario) for scenario in scenarios]
    with campaign("lost answers", "stores", short=SHORT, long=LONG) as run_:
        for case in chosen(list(all_cases(benches)), run_.goal, run_.random()):
            with run_.case(case.kind, case):
                case.check()
