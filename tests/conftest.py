"""Options and fixtures of the whole suite."""

from __future__ import annotations

import pytest

_LINES = pytest.StashKey[list[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--long``: fault campaigns in full, minutes instead of seconds."""
    parser.addoption("--long", action="store_true", default=False, help="run the fault campaigns in full (minutes)")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_LINES] = []


@pytest.fixture
def long_run(request: pytest.FixtureRequest) -> bool:
    """True when ``--long`` was given."""
    return bool(request.config.getoption("--long"))


@pytest.fixture
def summary_line(request: pytest.FixtureRequest) -> list[str]:
    """Lines appended here are shown at the end of the run."""
    return request.config.stash[_LINES]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for line in config.stash[_LINES]:
        terminalreporter.write_line(line)
