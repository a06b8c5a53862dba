"""The ``campaign`` fixture; and more time for what ``--long`` makes long."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from .campaign import Campaign

LONG_SECONDS = 4 * 3600  # of one campaign in full

Begin = Callable[..., AbstractContextManager[Campaign]]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--long"):
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(pytest.mark.timeout(LONG_SECONDS))


def _seed(given: int | None) -> int:
    """That which was given; else in continuous integration always the same, so that a failure there is the change's; else a
    new one."""
    if given is not None:
        return given
    return 1 if os.environ.get("CI") else random.SystemRandom().getrandbits(32)


@pytest.fixture
def campaign(request: pytest.FixtureRequest) -> Begin:
    """``campaign(name, part="", short=N, long=M)``: a context manager that gives a ``Campaign``."""
    options = request.config.option

    @contextmanager
    def begin(name: str, part: str = "", *, short: int, long: int) -> Iterator[Campaign]:
        seed = _seed(options.seed)
        run = Campaign(name, part, long if options.long else short, seed, options.long)
        if options.going_on and run.is_done(Path(options.report), options.going_on):
            pytest.skip("its figures are there")
        print(f"{name} {part}: seed {seed}")
        try:
            yield run
        finally:
            print("\n".join([*(f"{count:7}  {kind}" for kind, count in sorted(run.counts.items())), *run.violations]))
            request.node.user_properties.append(("summary", run.summary()))
            if options.report:
                run.save(Path(options.report))
        assert not run.violations, f"{run.summary()}; the first: {run.violations[0]}"
        assert run.done >= run.goal, f"only {run.done} of {run.goal} cases"

    return begin
