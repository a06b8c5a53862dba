"""The log file: one line per record, times with their zone, and it may be rotated under a running command."""

from __future__ import annotations

import logging
import re
from datetime import datetime
from pathlib import Path

import pytest

from anthill_sync.cli_logging import RUN_ID, logging_to

from .cli_tools import Shell, make_shell

LOG = logging.getLogger("anthill_sync.something")
LINE = r"(\S+) ([0-9a-f]{8}) \d+ \S+ (\w+) ([\w.]+): (.*)"


def fields(line: str) -> tuple[str, ...]:
    match = re.fullmatch(LINE, line)
    assert match is not None, line
    assert datetime.fromisoformat(match[1]).tzinfo is not None
    return match.groups()[1:]


def test_a_record_is_one_line_with_time_zone_and_run(tmp_path: Path) -> None:
    with logging_to(print, None, tmp_path / "log"):
        LOG.warning("two\nlines, and \x1b[2J")
        try:
            raise ValueError("a reason\nof two lines")
        except ValueError:
            LOG.exception("it failed")
    first, second = (tmp_path / "log").read_text().splitlines()
    assert fields(first) == (RUN_ID, "WARNING", "anthill_sync.something", "two\\nlines, and \\x1b[2J")
    assert "ValueError: a reason\\nof two lines" in fields(second)[-1]


def test_a_log_that_was_rotated_away_is_opened_again(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with logging_to(print, None, path):
        LOG.info("one")
        path.rename(tmp_path / "log.1")
        LOG.info("two")
        path.unlink()
        path.write_text("")  # as ``create`` of logrotate does
        LOG.info("three")
    assert [fields(line)[-1] for line in (tmp_path / "log.1").read_text().splitlines()] == ["one"]
    assert [fields(line)[-1] for line in path.read_text().splitlines()] == ["three"]


def test_a_log_that_cannot_be_written_any_more_is_one_warning(tmp_path: Path) -> None:
    said: list[str] = []
    (tmp_path / "folder").mkdir()
    with logging_to(said.append, None, tmp_path / "folder" / "log"):
        (tmp_path / "folder").rename(tmp_path / "moved")
        LOG.info("one")
        LOG.info("two")
    assert said == [f"warning: the log file {tmp_path / 'folder' / 'log'} cannot be written any more"]


def test_a_full_disk_under_the_log_is_one_warning_and_no_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    said: list[str] = []
    with logging_to(said.append, None, Path("/dev/full")):
        LOG.info("one")
        LOG.info("two")
    assert len(said) == 1
    assert capsys.readouterr().err == ""


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return make_shell(tmp_path / "home")


def test_the_log_has_begin_and_end_of_a_command_and_names_no_key(shell: Shell, tmp_path: Path) -> None:
    log = tmp_path / "log"
    shell.ok("put", "a-telling-name", "-", "--log-file", log, stdin=b"1")
    shell("get", "another-telling-name", "--log-file", log)
    lines = [fields(line) for line in log.read_text().splitlines()]
    told = [(level, words) for _, level, name, words in lines if name == "anthill_sync.run"]
    assert told == [
        ("INFO", "put began"),
        ("INFO", "put ended with code 0"),
        ("INFO", "get began"),
        ("ERROR", "get ended with code 66 (KeyNotFound)"),
    ]
    assert "telling" not in log.read_text()
    assert log.stat().st_mode & 0o077 == 0
