"""The garbage collector at rest: for that time only, whatever happens."""

from __future__ import annotations

import gc
import os
import sys
from contextlib import suppress
from types import FrameType
from typing import Any

import pytest

from anthill_sync import collector


def test_nothing_is_collected_inside_and_everything_as_before_afterwards() -> None:
    with collector.at_rest():
        assert not gc.isenabled()
        with collector.at_rest():
            assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(KeyboardInterrupt), collector.at_rest():
        raise KeyboardInterrupt
    assert gc.isenabled()


def test_an_interrupt_in_any_line_leaves_the_collector_at_work() -> None:
    def interrupted(line: int) -> bool:
        """An interrupt before the line-th line that runs; False: there are fewer."""
        left = line

        def trace(frame: FrameType, event: str, argument: object) -> Any:
            nonlocal left
            if frame.f_code.co_filename != collector.__file__:
                return None
            left -= event == "line"
            if event == "line" and left == 0:
                raise KeyboardInterrupt
            return trace

        sys.settrace(trace)
        try:
            with suppress(KeyboardInterrupt), collector.at_rest():
                pass
        finally:
            sys.settrace(None)
        return left <= 0

    count = next(line for line in range(1, 100) if not (interrupted(line) and gc.isenabled()))
    assert gc.isenabled(), f"interrupted before line {count}"
    assert count > 8


def test_a_program_that_collects_nothing_is_left_alone() -> None:
    gc.disable()
    try:
        with collector.at_rest():
            assert not gc.isenabled()
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_a_child_that_is_forked_meanwhile_collects_its_garbage() -> None:
    with collector.at_rest():
        child = os.fork()
        if child == 0:
            os._exit(0 if gc.isenabled() else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert not gc.isenabled()
