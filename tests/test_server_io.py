"""Limits of the server's connections, on a clock of their own."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from anthill_sync.server_io import BODY_RATE, BODY_SECONDS, HEADER_SECONDS, Body, Reader, Writer, step_seconds


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def test_a_byte_now_and_then_does_not_keep_a_step_alive(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    clock = Clock()
    reader = Reader(ours, clock)
    reader.begin(HEADER_SECONDS)
    target = memoryview(bytearray(10))
    taken = 0
    for _ in range(4):
        theirs.send(b"x")
        taken += reader.readinto(target[taken:])
        clock.now += HEADER_SECONDS / 4
    theirs.send(b"x")
    with pytest.raises(TimeoutError):
        reader.readinto(target[taken:])
    assert taken == 4


def test_an_answer_nobody_reads_ends_after_its_time(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, _ = pair
    clock = Clock()

    class Slow(socket.socket):
        def send(self, data: Any, flags: int = 0) -> int:
            clock.now += 1.0
            return 1

    with Slow(fileno=os.dup(ours.fileno())) as slow, pytest.raises(TimeoutError):
        Writer(slow, clock).write(bytes(1000))
    assert clock.now - 100.0 == pytest.approx(step_seconds(1000), abs=1.0)


def test_large_bodies_get_the_time_they_need_at_the_least_rate() -> None:
    assert step_seconds(0) == BODY_SECONDS
    assert step_seconds(10 * BODY_RATE) == BODY_SECONDS + 10


def test_lines_and_bodies_come_out_as_they_went_in(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    theirs.sendall(b"GET / HTTP/1.1\r\nlong line\r\nbodyNEXT")
    reader = Reader(ours)
    assert [reader.readline(256), reader.readline(4), reader.readline(256)] == [b"GET / HTTP/1.1\r\n", b"long", b" line\r\n"]
    body, target = Body(reader, 4), bytearray(100)
    assert body.readinto(memoryview(target)) == 4
    assert (bytes(target[:4]), body.readinto(memoryview(target))) == (b"body", 0)
    assert reader.has_data()
    theirs.close()
    assert [reader.readline(256), reader.readline(256)] == [b"NEXT", b""]


def test_what_a_refusal_left_of_a_body_is_thrown_away(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    theirs.sendall(b"refused bodyNEXT\n")
    reader = Reader(ours)
    body = Body(reader, 12)
    assert body.read(12) == b""
    assert (body.remaining, reader.readline(256)) == (0, b"NEXT\n")
