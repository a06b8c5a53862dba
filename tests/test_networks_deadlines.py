"""Calls that a peer or another thread would keep waiting end from outside."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from anthill_sync.errors import TransientNetworkError
from anthill_sync.networks.base import Network
from anthill_sync.networks.deadlines import Watchdog
from anthill_sync.networks.http import open_http
from anthill_sync.settings import Settings
from tests.cli_tools import until
from tests.support import PATIENCE, make_image, make_pad

PAD = make_pad(1)
FACTS = {"server": "0" * 32, "pad_size": 4 * 1024 * 1024}
HEAD = b"HTTP/1.1 200 OK\r\nAnthill-Server: " + b"0" * 32 + b"\r\nContent-Length: 1000\r\n\r\n"


PAUSE = threading.Event()  # never set


class Connection:
    def __init__(self, sock: socket.socket | None) -> None:
        self.sock = sock


@contextmanager
def peers(count: int = 1) -> Iterator[list[tuple[Connection, socket.socket]]]:
    pairs = [socket.socketpair() for _ in range(count)]
    try:
        yield [(Connection(ours), theirs) for ours, theirs in pairs]
    finally:
        for ours, theirs in pairs:
            ours.close()
            theirs.close()


def test_a_call_is_cut_when_its_time_is_over_and_no_sooner() -> None:
    watchdog = Watchdog(clock=lambda: 100.0)
    with peers() as [(connection, theirs)], watchdog.watching(60.0) as call:
        watchdog.attach(call, connection)
        assert watchdog.cut_overdue(159.0) == 1.0
        assert not call.cut
        assert watchdog.cut_overdue(160.0) is None
        assert call.cut
        assert theirs.recv(1) == b""
    watchdog.close()


def test_a_connection_that_another_call_uses_now_is_left_alone() -> None:
    watchdog = Watchdog(clock=lambda: 100.0)
    with peers() as [(connection, theirs)], watchdog.watching(10.0) as old, watchdog.watching(90.0) as new:
        watchdog.attach(old, connection)
        watchdog.attach(new, connection)
        watchdog.cut_overdue(110.0)
        assert (old.cut, new.cut) == (True, False)
        theirs.sendall(b"still there")
        assert connection.sock is not None
        assert connection.sock.recv(100) == b"still there"
    watchdog.close()


def test_a_connection_that_has_forgotten_its_socket_is_cut_too() -> None:
    watchdog = Watchdog(clock=lambda: 100.0)
    with peers() as [(connection, theirs)], watchdog.watching(10.0) as call:
        watchdog.attach(call, connection)
        kept, connection.sock = connection.sock, None
        watchdog.cut_overdue(110.0)
        assert theirs.recv(1) == b""
        assert kept is not None
    watchdog.close()


def test_a_call_that_is_over_is_not_cut() -> None:
    watchdog = Watchdog(clock=lambda: 100.0)
    with peers() as [(connection, theirs)]:
        with watchdog.watching(10.0) as call:
            watchdog.attach(call, connection)
        watchdog.cut_overdue(500.0)
        assert not call.cut
        theirs.sendall(b"x")
    watchdog.close()


def test_the_thread_starts_with_the_first_call_and_ends_with_close() -> None:
    watchdog = Watchdog()
    assert vars(watchdog)["_thread"] is None
    with watchdog.watching(1000.0):
        thread = vars(watchdog)["_thread"]
        assert thread.is_alive()
    watchdog.close()
    watchdog.close()
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_a_call_that_is_cut_while_it_connects_ends_when_it_is_connected() -> None:
    watchdog = Watchdog(clock=lambda: 100.0)
    with peers() as [(connected, theirs)], watchdog.watching(10.0) as call:
        connection = Connection(None)
        watchdog.attach(call, connection)
        watchdog.cut_overdue(110.0)
        connection.sock = connected.sock
        watchdog.attach(call, connection)
        assert theirs.recv(1) == b""
    watchdog.close()


# -- over real connections


@contextmanager
def listening(serve: Callable[[socket.socket], object]) -> Iterator[str]:
    """A peer that does ``serve`` with each connection."""
    listener = socket.create_server(("127.0.0.1", 0))
    threads: list[threading.Thread] = []

    def accept() -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            threads.append(threading.Thread(target=serve, args=(sock,), daemon=True))
            threads[-1].start()

    accepting = threading.Thread(target=accept, daemon=True)
    accepting.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        accepting.join(PATIENCE)
        for thread in threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()


def silent(sock: socket.socket) -> None:
    """Take everything, say nothing, until the other side ends."""
    with sock:
        while sock.recv(1 << 20):
            pass


def dripping(sock: socket.socket) -> None:
    """Answer a byte at a time, for ever."""
    with sock:
        sock.recv(1 << 20)
        try:
            for byte in iter(lambda: HEAD[:1], None):
                sock.sendall(HEAD if byte == b"?" else byte)
        except OSError:
            return


def dripping_to_the_end(sock: socket.socket) -> None:
    """Answer with a body that ends with the connection, a byte at a time, for ever: http.client forgets the socket."""
    with sock:
        sock.recv(1 << 20)
        try:
            sock.sendall(HEAD.replace(b"Content-Length: 1000\r\n", b"Connection: close\r\n"))
            while True:
                sock.sendall(b"x")
                PAUSE.wait(0.005)
        except OSError:
            return


def deaf(sock: socket.socket) -> None:
    """Never read, so that the sender's buffers fill; ends when the other side does."""
    with sock:
        sock.settimeout(PATIENCE)
        peeked = sock.recv(1, socket.MSG_PEEK)
        until(lambda: not peeked or _gone(sock), "the sender's end")


def _gone(sock: socket.socket) -> bool:
    sock.setblocking(False)
    try:
        while sock.recv(1 << 20):
            pass
        return True
    except BlockingIOError:
        return False
    except OSError:
        return True


def network(url: str, **settings: Any) -> Network:
    return open_http(url, settings=Settings(deadline_rate=2**40, **settings), facts=FACTS)


CALLS: dict[str, Callable[[Network], object]] = {
    "reserve": lambda net: net.reserve(PAD),
    "write": lambda net: net.write(PAD, make_image(bytes(4 * 1024 * 1024))),
    "read": lambda net: net.read(PAD),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("peer", [silent, dripping, dripping_to_the_end])
def test_a_peer_that_never_ends_its_answer_is_cut_off(peer: Callable[[socket.socket], None], call: str) -> None:
    with listening(peer) as url:
        net = network(url, deadline_base=0.05)
        with pytest.raises(TransientNetworkError):
            CALLS[call](net)
        net.close()


@pytest.mark.parametrize("call", CALLS)
def test_close_ends_calls_that_run_in_other_threads(call: str) -> None:
    arrived = threading.Event()

    def hold(sock: socket.socket) -> None:
        arrived.set()
        silent(sock)

    errors: list[BaseException] = []
    with listening(hold) as url:
        net = network(url)

        def run() -> None:
            try:
                CALLS[call](net)
            except TransientNetworkError as error:
                errors.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        assert arrived.wait(PATIENCE)
        net.close()
        thread.join(PATIENCE)
    assert [("closed" in str(error)) for error in errors] == [True]


def test_a_closed_network_calls_nobody() -> None:
    with listening(silent) as url:
        net = network(url)
        net.close()
        with pytest.raises(TransientNetworkError, match="closed"):
            net.read(PAD)


def test_a_silent_peer_is_left_after_the_read_time_out() -> None:
    with listening(silent) as url:
        net = network(url, read_timeout=0.05)
        with pytest.raises(TransientNetworkError, match="timed out"):
            net.read(PAD)
        net.close()


def test_sending_has_the_read_time_out_on_every_connection() -> None:
    with listening(deaf) as url:
        net = network(url, connect_timeout=PATIENCE, read_timeout=0.05)
        with pytest.raises(TransientNetworkError):
            net.write(PAD, make_image(bytes(4 * 1024 * 1024)))
        net.close()
