"""The server acts and its answer is lost, at every place of everything a store does: no false conflict, nothing done
twice, no pad forgotten."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import cycle, product
from pathlib import Path

import pytest

from anthill_sync import Store, durable
from anthill_sync.errors import AnthillError
from anthill_sync.settings import FRESH_WINDOW

from .campaign import evenly
from .conftest import Begin
from .laboratory import Bench, Laboratory, one_more, operation_of
from .proxy import Asked, nothing, seeded
from .scenarios import OLD, SCENARIOS, SMALL, Scenario, run

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
    doubtful: set[str] = field(default_factory=set)  # pads an image was sent to, nobody knows whether it arrived
    _seen: int = 0
    _path: str | None = None
    _left: float = field(init=False)

    def __post_init__(self) -> None:
        self._left = PATTERNS[self.pattern]

    def __call__(self, asked: Asked) -> str | None:
        operation = operation_of(asked)
        loses = self._loses(asked, operation)
        self.lost += loses
        if loses and operation == "write":
            self.doubtful.add(asked.path)
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

    bench: Bench = field(repr=False)
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
        self._assert_bounded(failed)

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
        one_more(home)

    def _assert_bounded(self, failed: bool) -> None:
        """Each lost answer costs its repeat and one question; after a failure at most the pads in doubt are not used."""
        pads = len(self.bench.laboratory.memory.pads)
        if failed:
            most = self.bench.total_at_last + len(self.losses.doubtful)
            assert self.bench.scenario.repeats or pads <= most, f"{pads} pads, {most} are enough"
            return
        assert pads == self.bench.total, f"{pads} pads, and without a fault {self.bench.total}"
        asked = self.bench.laboratory.proxy.requests
        assert asked <= self.bench.asked.total() + 2 * self.losses.lost, f"{asked} requests"


def all_cases(benches: list[Bench]) -> Iterator[Case]:
    """Every operation at every place of every scenario, with every pattern."""
    for bench in benches:
        asked = {**bench.asked, "confirm": bench.asked["write"]}
        for operation, count in asked.items():
            for place, pattern, end in product(range(1, count + 1), PATTERNS, ENDS):
                if pattern not in PASSING or end == ENDS[0]:
                    yield Case(bench, Losses(operation, place, pattern), end)


@pytest.fixture
def laboratory(tmp_path: Path) -> Iterator[Laboratory]:
    with Laboratory(tmp_path) as made:
        yield made


@pytest.fixture
def benches(laboratory: Laboratory) -> list[Bench]:
    return [Bench.prepare(laboratory, each) for each in (*SCENARIOS, READING) if not each.checkpoints]


def test_a_lost_answer_is_no_conflict_no_second_reservation_and_no_lost_pad(benches: list[Bench], campaign: Begin) -> None:
    with campaign("lost answers", "one by one", short=440, long=1300) as campaign_:
        for case in evenly(list(all_cases(benches)), lambda case: case.kind, campaign_.goal, campaign_.random()):
            with campaign_.case(case.kind, case):
                case.check()


def test_many_threads_that_lose_a_third_of_all_answers_do_nothing_twice(benches: list[Bench], campaign: Begin) -> None:
    with campaign("lost answers", "a third of all", short=30, long=1600) as campaign_:
        for number in range(campaign_.goal):
            bench, seed = benches[number % len(benches)], campaign_.random(number).getrandbits(32)
            with campaign_.case(bench.scenario.name, f"seed {seed}"):
                lose_many(bench, seed)


def lose_many(bench: Bench, seed: int) -> None:
    home = bench.begin()
    bench.laboratory.proxy.reset(seeded(seed, 0.33, ("lost",)))
    run(home, bench.scenario.act, reserve_threads=20, upload_threads=20, download_threads=20, attempts=30)
    assert bench.laboratory.content(home) == bench.scenario.aim
    bench.laboratory.assert_at_rest(home)


QUESTIONS = FRESH_WINDOW + 1  # that init asks about the pads of a key that is not new


def test_init_that_loses_answers_makes_a_store_or_none(laboratory: Laboratory, campaign: Begin) -> None:
    laboratory.create(laboratory.folder / "first")
    key = laboratory.folder / "first" / "key"
    with campaign("lost answers", "init", short=30, long=150) as campaign_:
        for number, (operation, pattern) in zip(
            range(campaign_.goal), cycle(product(("status", "read"), PATTERNS)), strict=False
        ):
            place = 1 if operation == "status" else 1 + campaign_.random(number).randrange(QUESTIONS)
            losses = Losses(operation, place, pattern)
            with campaign_.case(f"{operation}: init", losses):
                make_store(laboratory, losses, key if operation == "read" or number % 4 else None)


def make_store(laboratory: Laboratory, losses: Losses, key: Path | None) -> None:
    """Nothing that passes keeps init from making a store; else it is 75, and the same again makes it."""
    home = laboratory.folder / "new"
    shutil.rmtree(home, ignore_errors=True)
    laboratory.hold({})
    laboratory.proxy.reset(losses)
    try:
        laboratory.create(home, key_file=key)
    except AnthillError as error:
        assert error.exit_code == 75, f"a false alarm: {error!r}"  # noqa: PT017 - it need not fail
        assert losses.pattern not in PASSING, f"{error!r}"  # noqa: PT017
        assert not (home / "config.json").exists()
        laboratory.proxy.plan = nothing
        laboratory.create(home, key_file=key)
    assert losses.lost, "no answer was lost"
    assert not laboratory.memory.pads
    run(home, lambda store: store.put("k", SMALL))
    assert laboratory.content(home) == {"k": SMALL}
    laboratory.assert_at_rest(home)
