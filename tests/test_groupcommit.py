"""Many appends, one line: nobody waits for ever for a thread that was interrupted."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from anthill_sync.errors import LocalIOError
from anthill_sync.groupcommit import GroupCommit, Ticket
from anthill_sync.index import Record
from tests.store_tools import wait_until
from tests.support import PATIENCE


def test_an_interrupt_just_before_the_others_are_woken_leaves_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    entered, go = threading.Event(), threading.Event()

    def write(batch: list[Ticket]) -> None:
        entered.set()
        assert go.wait(PATIENCE)
        for ticket in batch:
            ticket.done = True

    commits = GroupCommit(write, lambda: LocalIOError("broken"))
    wake, woken = commits._condition.notify_all, 0

    def interrupted() -> None:
        nonlocal woken
        woken += 1
        if woken == 1:
            raise KeyboardInterrupt
        wake()

    monkeypatch.setattr(commits._condition, "notify_all", interrupted)
    with ThreadPoolExecutor(2) as pool:
        leader = pool.submit(commits.append, [], b"")
        assert entered.wait(PATIENCE)
        follower = pool.submit(commits.append, [], b"")
        wait_until(lambda: len(commits._waiting) == 1, lambda: "the second does not wait")
        go.set()
        with pytest.raises(KeyboardInterrupt):
            leader.result(PATIENCE)
        try:
            assert follower.result(PATIENCE).extents == []
        finally:
            monkeypatch.undo()
            with commits._lock:
                commits._condition.notify_all()  # so that a failure ends, too


def test_a_written_line_s_records_are_not_kept() -> None:
    """Those of a put of very many values take megabytes."""

    def write(batch: list[Ticket]) -> None:
        for ticket in batch:
            ticket.done = True

    commits = GroupCommit(write, lambda: LocalIOError("broken"))
    records: list[Record] = [["writing", [1]]]
    alive = sys.getrefcount(records)
    commits.append(records, b"")
    assert sys.getrefcount(records) == alive
