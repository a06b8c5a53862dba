"""Whoever takes a store over trusts a pad only as long as nobody else is writing to it."""

from __future__ import annotations

import pytest

from anthill_sync.errors import AnotherWriter
from anthill_sync.takeover import _adopt
from tests.test_pads import PAD, Bench


def test_an_image_that_changes_while_it_is_taken_over_is_another_writer_s() -> None:
    bench = Bench()
    bench.put(bench.image(counter=1))
    header, packed = bench.pads.read_header(PAD)
    assert header is not None
    table = bench.pads.read_table(PAD, header, packed)
    bench.put(bench.image(counter=2))
    with pytest.raises(AnotherWriter, match="changed while it was read"):
        _adopt(bench.pads, PAD, header, table)
