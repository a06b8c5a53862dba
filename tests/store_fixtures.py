"""Fixtures of the Store's behaviour tests: ``pytest_plugins = ["tests.store_fixtures"]``."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.store_tools import StoreRig
from tests.support import PATIENCE

T = TypeVar("T")


@pytest.fixture
def rigs(tmp_path: Path) -> Iterator[Callable[..., StoreRig]]:
    """Makes stores; at the end each must be idle and sound, unless it closed itself."""
    made: list[StoreRig] = []

    def make(network: str = "memory", **settings: Any) -> StoreRig:
        url = None if network == "embedded" else "memory://"
        rig = StoreRig(tmp_path / f"home{len(made)}", url, **settings)
        made.append(rig)
        return rig

    yield make
    for rig in made:
        if not rig.session._closed and rig.session.journal.failure is None:
            rig.mend()
            rig.assert_idle()
            assert rig.store.check().problems == ()
        rig.store.close()


@pytest.fixture
def rig(rigs: Callable[..., StoreRig]) -> StoreRig:
    """One store on ``memory://``."""
    return rigs()


@pytest.fixture(params=["embedded", "memory"])
def each(request: pytest.FixtureRequest, rigs: Callable[..., StoreRig]) -> StoreRig:
    """One store, on the embedded directory and on ``memory://``."""
    return rigs(request.param)


@pytest.fixture
def background() -> Iterator[Callable[[Callable[[], T]], Future[T]]]:
    """Runs calls on threads of their own; at the end all must be over."""
    pool = ThreadPoolExecutor(32)
    futures: list[Future[Any]] = []

    def start(job: Callable[[], T]) -> Future[T]:
        future = pool.submit(job)
        futures.append(future)
        return future

    yield start
    for future in futures:
        future.exception(timeout=PATIENCE)
    pool.shutdown(wait=False)


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """Printed, so that a failure can be made again with ``--seed``."""
    chosen = request.config.getoption("--seed")
    number = random.SystemRandom().getrandbits(32) if chosen is None else int(chosen)
    print(f"seed {number}")
    return number
