"""Options and fixtures of the whole suite."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from tests.support.cluster import SwiftCluster, Unavailable

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as in a background job of a script: what tests start would ignore it too
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--long``: fault campaigns in full. ``--seed``: make one again. ``--report``: where they leave their figures.
    ``--going-on``: run those only whose figures are not there yet."""
    parser.addoption("--long", action="store_true", default=False, help="run the fault campaigns in full (hours)")
    parser.addoption("--seed", type=int, default=None, help="the seed of every fault campaign")
    parser.addoption("--report", default=None, metavar="FOLDER", help="leave the figures of the fault campaigns in FOLDER")
    parser.addoption("--going-on", default=None, metavar="COMMIT", help="run what has no sound figures there, and name COMMIT")


@pytest.fixture
def long_run(request: pytest.FixtureRequest) -> bool:
    """True when ``--long`` was given."""
    return bool(request.config.getoption("--long"))


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SwiftCluster]:
    """A Swift cluster of this test process; the tests that want it are skipped, with the reason, where it cannot run."""
    try:
        running = SwiftCluster(tmp_path_factory.mktemp("swift"))
    except Unavailable as error:
        pytest.skip(str(error))
    yield running
    running.stop()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What campaigns have to say; with pytest-xdist too, since reports carry it."""
    lines = {
        str(text)
        for reports in terminalreporter.stats.values()
        for report in reports
        for name, text in getattr(report, "user_properties", ())
        if name == "summary"
    }
    for line in sorted(lines):
        terminalreporter.write_line(line)
