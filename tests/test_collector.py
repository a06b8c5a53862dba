"""The garbage collector at rest: for that time only, whatever happens."""

from __future__ import annotations

import gc
import os

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
