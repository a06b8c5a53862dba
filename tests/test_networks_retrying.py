"""Retries: which failures are repeated, how often, and after which waits."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable

import pytest

from anthill_sync import errors
from anthill_sync.errors import NetworkError, PadConflict, PermanentNetworkError, TransientNetworkError
from anthill_sync.networks.base import Network, Properties
from anthill_sync.networks.retrying import RetryBudget, RetryingNetwork
from anthill_sync.settings import Settings
from tests.support import Rig, busy, make_image, make_pad, run_threads

PAD = make_pad(1)
IMAGE = make_image(b"image")
CALLS: dict[str, Callable[[Network], object]] = {
    "reserve": lambda network: network.reserve(PAD),
    "write": lambda network: network.write(PAD, IMAGE),
    "confirm": lambda network: network.confirm(PAD, IMAGE.digest),
    "read": lambda network: network.read(PAD),
}
PERMANENT = [
    kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, PermanentNetworkError)
]  # every one there is


def prepare(rig: Rig, operation: str) -> None:
    """Make the call succeed where nothing fails."""
    if operation in ("confirm", "read"):
        rig.faulty.inner.write(PAD, IMAGE)


# -- what is repeated


@pytest.mark.parametrize("operation", CALLS)
def test_a_passing_failure_is_repeated_until_it_succeeds(operation: str) -> None:
    rig = Rig()
    prepare(rig, operation)
    rig.faulty.fail(operation, busy(), times=4)
    CALLS[operation](rig.network)
    assert rig.faulty.calls == {operation: 5}


@pytest.mark.parametrize("operation", CALLS)
def test_a_failure_that_stays_is_raised_after_the_last_attempt_with_their_number(operation: str) -> None:
    rig = Rig(attempts=3)
    rig.faulty.fail(operation, busy(retry_after=1.0, pad="abc"), times=99)
    with pytest.raises(TransientNetworkError, match="busy") as caught:
        CALLS[operation](rig.network)
    assert rig.faulty.calls == {operation: 3}
    assert caught.value.context == {"pad": "abc", "attempts": 3}
    assert len(rig.clock.slept) == 2, "no wait after the last attempt"


@pytest.mark.parametrize("operation", CALLS)
@pytest.mark.parametrize("kind", PERMANENT)
def test_a_permanent_failure_is_never_repeated(operation: str, kind: type[NetworkError]) -> None:
    rig = Rig()
    rig.faulty.fail(operation, lambda: kind("no"))
    with pytest.raises(kind) as caught:
        CALLS[operation](rig.network)
    assert rig.faulty.calls == {operation: 1}
    assert caught.value.context["attempts"] == 1
    assert rig.clock.slept == []


@pytest.mark.parametrize(
    "error", [ValueError("a bug"), TypeError("a bug"), OSError("a bug"), KeyboardInterrupt(), StopIteration()]
)
def test_a_foreign_exception_is_raised_as_it_is(error: BaseException) -> None:
    rig = Rig()
    rig.faulty.fail("read", lambda: error)
    with pytest.raises(type(error)) as caught:
        rig.network.read(PAD)
    assert caught.value is error
    assert rig.faulty.calls["read"] == 1


def test_a_permanent_failure_after_passing_ones_counts_all_attempts() -> None:
    rig = Rig()
    rig.faulty.fail("write", busy(), times=2)
    rig.faulty.inner.write(PAD, make_image(b"somebody else's"))
    with pytest.raises(PadConflict) as caught:
        rig.network.write(PAD, IMAGE)
    assert caught.value.context["attempts"] == 3


@pytest.mark.parametrize("operation", CALLS)
def test_a_lost_answer_is_repeated_and_the_repeat_succeeds(operation: str) -> None:
    rig = Rig()
    prepare(rig, operation)
    rig.faulty.fail(operation, busy(), times=2, lost=True)
    CALLS[operation](rig.network)
    assert rig.faulty.calls == {operation: 3}


def test_a_paid_write_is_never_repeated_and_other_calls_are() -> None:
    rig = Rig(properties={"write_is_paid": True})
    rig.faulty.fail("write", busy(), times=1)
    rig.faulty.fail("reserve", busy(), times=1)
    rig.network.reserve(PAD)
    with pytest.raises(TransientNetworkError) as caught:
        rig.network.write(PAD, IMAGE)
    assert rig.faulty.calls == {"reserve": 2, "write": 1}
    assert caught.value.context["attempts"] == 1


def test_one_attempt_means_none_is_repeated() -> None:
    rig = Rig(attempts=1)
    rig.faulty.fail("read", busy())
    with pytest.raises(TransientNetworkError):
        rig.network.read(PAD)
    assert rig.faulty.calls["read"] == 1


# -- waits


def test_waits_double_from_the_base_to_the_cap() -> None:
    rig = Rig(attempts=10, backoff_base=0.25, backoff_cap=5.0)
    rig.faulty.fail("read", busy(), times=99)
    with pytest.raises(TransientNetworkError):
        rig.network.read(PAD)
    assert rig.clock.slept == [0.25, 0.5, 1.0, 2.0, 4.0, 5.0, 5.0, 5.0, 5.0]


def test_each_wait_is_random_between_nothing_and_its_bound() -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    random.seed(seed)
    rig = Rig()
    network = RetryingNetwork(rig.faulty, Settings(attempts=6), sleep=rig.clock.sleep, clock=rig.clock)
    rig.faulty.fail("read", busy(), times=10**6)
    for _ in range(40):
        with pytest.raises(TransientNetworkError):
            network.read(PAD)
    for step, bound in enumerate([0.25, 0.5, 1.0, 2.0]):
        waits = rig.clock.slept[step::5][:20]
        assert all(0 <= wait <= bound for wait in waits)
        assert max(waits) > bound / 2
        assert min(waits) < bound / 2
        assert len(set(waits)) > 1


@pytest.mark.parametrize(("base", "cap"), [(0.0, 30.0), (1.0, 0.0)])
def test_a_base_or_cap_of_nothing_means_no_wait_however_often(base: float, cap: float) -> None:
    rig = Rig(attempts=1200, backoff_base=base, backoff_cap=cap)
    prepare(rig, "read")
    for _ in range(600):  # these fill the budget
        rig.network.read(PAD)
    rig.faulty.fail("read", busy(), times=9999)
    with pytest.raises(TransientNetworkError):
        rig.network.read(PAD)
    assert rig.clock.slept == [0.0] * 1199


@pytest.mark.parametrize(
    ("asked", "waited"), [(7.0, 7.0), (0.1, 0.25), (0.0, 0.25), (None, 0.25), (120.0, 120.0), (86400.0, 120.0), (-5.0, 0.25)]
)
def test_what_the_network_asks_for_is_honoured_up_to_two_minutes(asked: float | None, waited: float) -> None:
    rig = Rig()
    prepare(rig, "read")
    rig.faulty.fail("read", busy(retry_after=asked))
    rig.network.read(PAD)
    assert rig.clock.slept == [waited]


def test_backoff_itself_never_sleeps_and_never_logs(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig()
    naps: list[float] = []
    monkeypatch.setattr("time.sleep", naps.append)
    rig.faulty.fail("read", busy(retry_after=60.0), times=99)
    with caplog.at_level(logging.DEBUG), pytest.raises(TransientNetworkError):
        rig.network.read(PAD)
    assert set(naps) <= {0.0}
    assert caplog.records == []


# -- bounds


def test_an_operation_is_given_up_when_its_seconds_are_used_up() -> None:
    rig = Rig(attempts=100, retry_seconds=10.0, backoff_base=1.0, backoff_cap=4.0)
    rig.faulty.fail("read", busy(), times=99)
    with pytest.raises(TransientNetworkError) as caught:
        rig.network.read(PAD)
    assert rig.clock.slept == [1.0, 2.0, 4.0], "a fourth wait would end after the tenth second"
    assert caught.value.context["attempts"] == 4


def test_the_seconds_of_slow_attempts_count_and_each_operation_has_its_own() -> None:
    rig = Rig(attempts=100, retry_seconds=100.0)

    def slow_failure(seen: object) -> None:
        rig.clock.now += 45.0
        raise TransientNetworkError("time-out")

    rig.faulty.before("read", slow_failure)
    for _ in range(2):
        with pytest.raises(TransientNetworkError) as caught:
            rig.network.read(PAD)
        assert caught.value.context["attempts"] == 3


def test_a_network_that_asks_for_more_time_than_is_left_is_not_waited_for() -> None:
    rig = Rig(retry_seconds=30.0)
    rig.faulty.fail("read", busy(retry_after=31.0), times=99)
    with pytest.raises(TransientNetworkError):
        rig.network.read(PAD)
    assert rig.clock.slept == []


def test_no_seconds_mean_one_attempt() -> None:
    rig = Rig(retry_seconds=0.0, backoff_base=0.0)
    rig.faulty.fail("read", busy(), times=99)
    with pytest.raises(TransientNetworkError):
        rig.network.read(PAD)
    assert rig.faulty.calls["read"] == 1


def test_all_threads_together_repeat_at_most_twice_per_operation_and_a_hundred_times() -> None:
    operations = 300
    rig = Rig(attempts=10, retry_seconds=10.0**6)
    rig.faulty.fail("read", busy(), times=10**6)

    def read() -> int:
        with pytest.raises(TransientNetworkError) as caught:
            rig.network.read(PAD)
        return int(caught.value.context["attempts"])

    attempts = run_threads([read] * operations)
    assert sum(attempts) == rig.faulty.calls["read"] == operations + 2 * operations + 100
    assert len(rig.clock.slept) == 2 * operations + 100


def test_the_budget_gives_what_operations_bring_and_no_more() -> None:
    budget = RetryBudget()
    for _ in range(3):
        budget.operation_begins()
    assert [budget.take() for _ in range(107)] == [True] * 106 + [False]
    budget.operation_begins()
    assert [budget.take() for _ in range(3)] == [True, True, False]


# -- passing through


def test_arguments_and_answers_pass_through_unchanged() -> None:
    rig = Rig()
    rig.network.write(PAD, make_image(b"0123456789"))
    assert rig.network.read(PAD, 2, 3) == b"234"
    properties: Properties = rig.network.properties
    assert properties is rig.faulty.properties
    rig.network.close()
    assert rig.faulty.closed == 1
