"""A put through a real pad server that takes five requests a second and says 429 to all others."""

from __future__ import annotations

import filecmp
import os
from pathlib import Path

import pytest

from anthill_sync import Store, events
from tests.support.servers import serve
from tests.support.throttling import TokenBucket

from .proxy import Proxy, nothing


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("retry_after", ["", "1"])
def test_a_put_through_a_server_that_takes_five_requests_a_second_ends_well(
    tmp_path: Path, long_run: bool, retry_after: str
) -> None:
    """In full 120 pads of 4 MiB, 503 MB; else 10 of 64 KiB. All settings are the default ones."""
    pads, size = (120, 4 << 20) if long_run else (10, 65536)
    (source := tmp_path / "source").write_bytes(os.urandom(pads * (size - 4096)))
    heard: list[events.Event] = []
    with (
        serve(tmp_path / "data", connections=64) as server,
        Proxy(server.url, retry_after=retry_after) as proxy,
        Store.create(tmp_path / "home", network=proxy.url, pad_size=size) as store,
    ):
        bucket = TokenBucket(5.0)
        proxy.reset(lambda asked: None if bucket.take() else "429")
        store.put("k", source, on_event=heard.append)
        proxy.reset(nothing)
        store.get_into("k", got := tmp_path / "got")
    assert filecmp.cmp(source, got, shallow=False)
    retries = [event for event in heard if isinstance(event, events.RetryScheduled)]
    print(f"{bucket.taken} requests taken, {bucket.refused} refused, {len(retries)} retries")
    assert len(retries) == bucket.refused > 0
    assert min(event.at_once or 0 for event in retries) < 10
    assert bucket.refused < 2 * bucket.taken
