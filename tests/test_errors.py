"""Errors: each knows its exit code, crosses process borders whole, and never holds a secret."""

from __future__ import annotations

import copy
import inspect
import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

import anthill_sync
from anthill_sync import errors
from anthill_sync.errors import AnthillError, KeyNotFound, PutFailed, TransientNetworkError

EXIT_CODES = {
    "AnthillError": 70,
    "ConditionNotMet": 3,
    "KeyExists": 3,
    "OperationCancelled": 3,
    "PartialFailure": 4,
    "InvalidArgument": 64,
    "NestedMutation": 64,
    "KeyNotFound": 66,
    "SourceNotFound": 66,
    "IncompleteSource": 66,
    "Damaged": 65,
    "IndexDamaged": 65,
    "BlockDamaged": 65,
    "PadNotFound": 65,
    "NetworkError": 69,
    "PermanentNetworkError": 69,
    "NetworkNotFound": 69,
    "UsedAfterFork": 70,
    "NoRoom": 73,
    "PadLimitExceeded": 73,
    "DestinationExists": 73,
    "OutOfSpace": 73,
    "LocalIOError": 74,
    "StoreClosed": 74,
    "StorageFailure": 74,
    "TryAgain": 75,
    "StoreLocked": 75,
    "SourceChanged": 75,
    "ValueChanged": 75,
    "Interrupted": 75,
    "RewriteFailed": 75,
    "TransientNetworkError": 75,
    "OutOfTime": 75,
    "PutFailed": 75,
    "PadConflict": 76,
    "ProtocolError": 76,
    "AnotherWriter": 76,
    "RolledBack": 76,
    "AccessDenied": 77,
    "PermissionRefused": 77,
    "WrongKey": 77,
    "WrongPassphrase": 77,
    "ConfigurationError": 78,
    "NoStore": 78,
    "UnknownFormat": 78,
}
CLASSES = {
    name: each for name, each in vars(errors).items() if inspect.isclass(each) and issubclass(each, AnthillError)
}  # those defined there, and no other


def test_every_class_has_its_exit_code() -> None:
    assert {name: made(each).exit_code for name, each in CLASSES.items()} == EXIT_CODES


def made(kind: type[AnthillError]) -> AnthillError:
    return kind("what happened", key="k", pad=3, step=None)


@pytest.mark.parametrize("kind", CLASSES.values(), ids=CLASSES)
def test_every_class_pickles_with_its_context(kind: type[AnthillError]) -> None:
    error = made(kind)
    error.published = {"a": 1}
    for other in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(other) is kind
        assert (str(other), other.args, other.context) == ("what happened", ("what happened",), {"key": "k", "pad": 3})
        assert (other.exit_code, other.published) == (error.exit_code, {"a": 1})


@pytest.mark.parametrize("kind", CLASSES.values(), ids=CLASSES)
def test_every_class_says_what_it_means(kind: type[AnthillError]) -> None:
    assert kind.__doc__
    assert str(made(kind)) == "what happened", "no quotes, as a KeyError would have them"


def test_what_a_network_and_a_put_add_survives_pickling() -> None:
    busy = pickle.loads(pickle.dumps(TransientNetworkError("busy", 2.5, True, pad="ab")))
    assert (busy.retry_after, busy.slow_down, busy.context) == (2.5, True, {"pad": "ab"})
    failed = pickle.loads(pickle.dumps(PutFailed("write failed", 73, key="k", attempts=5)))
    assert (failed.exit_code, failed.context) == (73, {"key": "k", "attempts": 5})


def fail() -> None:
    raise PutFailed("write failed", 76, key="k") from KeyNotFound("gone")


def test_an_error_crosses_a_process_pool() -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool, pytest.raises(PutFailed) as caught:
        pool.submit(fail).result()
    assert (caught.value.exit_code, caught.value.context) == (76, {"key": "k"})


def test_python_s_own_words_for_the_same_are_understood() -> None:
    assert issubclass(errors.KeyNotFound, KeyError)
    assert issubclass(errors.InvalidArgument, ValueError)
    for name in ("BlockDamaged", "IndexDamaged"):
        assert issubclass(CLASSES[name], errors.Damaged)


def test_public_errors_are_those_of_the_module() -> None:
    public = [name for name in anthill_sync.__all__ if name in CLASSES]
    assert public
    assert all(getattr(anthill_sync, name) is CLASSES[name] for name in public)
