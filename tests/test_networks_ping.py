"""A monitor is told when a command begins and ends, within its time, and nobody else hears of its URL."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from anthill_sync.errors import ConfigurationError
from anthill_sync.networks.ping import Ping
from anthill_sync.settings import Settings

from .support.monitors import monitoring


def test_the_monitor_hears_of_begin_and_end_in_order() -> None:
    with monitoring() as monitor:
        ping = Ping(f"{monitor.url}/secret-id/", Settings())
        ping.start()
        assert ping.end(75) is None
        assert monitor.paths == ["/secret-id/start", "/secret-id/75"]


def test_a_query_stays_behind_the_path() -> None:
    with monitoring() as monitor:
        assert Ping(f"{monitor.url}/id?create=1", Settings()).end(0) is None
        assert monitor.paths == ["/id/0?create=1"]


@pytest.mark.parametrize("status", [301, 404, 500])
def test_any_answer_but_success_is_a_failure_that_names_the_host_only(status: int) -> None:
    with monitoring(lambda path: status) as monitor:
        failure = Ping(f"{monitor.url}/secret-id", Settings()).end(0)
        assert failure == f"{monitor.url} answered {status}"
        assert monitor.paths == ["/secret-id/0"]  # a redirection is not followed


def test_a_monitor_that_is_not_there_is_a_failure() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        ping = Ping(f"http://127.0.0.1:{unused.getsockname()[1]}/secret-id", Settings())
        ping.start()
        failure = ping.end(0)
    assert failure is not None
    assert "secret-id" not in failure


def test_a_monitor_that_never_answers_is_given_up() -> None:
    gate = threading.Event()

    def wait(path: str) -> int:
        gate.wait(30)
        return 200

    with monitoring(wait) as monitor:
        ping = Ping(f"{monitor.url}/secret-id", Settings())
        ping.start()
        began = time.monotonic()
        failure = ping.end(0, seconds=0.2)
        assert time.monotonic() - began < 5
        gate.set()
    assert failure == f"{monitor.url} did not answer within 0 seconds"


def test_beginning_waits_for_nobody() -> None:
    gate, asked = threading.Event(), threading.Event()

    def wait(path: str) -> int:
        asked.set()
        return 200 if gate.wait(30) else 500

    with monitoring(wait) as monitor:
        ping = Ping(f"{monitor.url}/id", Settings())
        ping.start()
        assert asked.wait(30)  # and ``start`` has returned, though nobody has answered
        gate.set()
        assert ping.end(0) is None


def test_the_end_is_told_after_the_begin_was_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    gate, on_their_way = threading.Event(), []
    send = Ping._send

    class Awaited(threading.Thread):
        def join(self, timeout: float | None = None) -> None:
            gate.set()
            super().join(timeout)

    def watched(self: Ping, what: str) -> None:
        on_their_way.append([thread.name for thread in self._threads if thread.is_alive()])
        send(self, what)

    with monitoring(lambda path: 200 if gate.wait(30) else 500) as monitor:
        monkeypatch.setattr(threading, "Thread", Awaited)
        monkeypatch.setattr(Ping, "_send", watched)
        ping = Ping(f"{monitor.url}/id", Settings())
        ping.start()
        assert ping.end(0) is None
        monkeypatch.undo()
    assert on_their_way == [[], []]


@pytest.mark.parametrize(
    "url",
    [
        *("", "secret", "ftp://host/secret", "https://", "https:///secret", "http://user:secret@host/", "http://host:secret/"),
        *(
            "http://host/secret\n",
            "http://host/sec ret",
            "http://host/#secret",
            "https://höst/secret",
            "http://host:99999/secret",
        ),
    ],
)
def test_what_is_no_url_of_a_monitor_is_refused_and_not_quoted(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Ping(url, Settings())
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "base"),
    [("HTTPS://Example.org/Id", "https://example.org"), ("http://[::1]:80/x", "http://[::1]:80"), ("https://h", "https://h")],
)
def test_scheme_and_host_are_all_that_is_shown(url: str, base: str) -> None:
    assert Ping(url, Settings()).base == base
