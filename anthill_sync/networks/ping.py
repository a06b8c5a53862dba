"""Tells a monitor over HTTP that a command began and how it ended, in the manner of healthchecks: ``URL/start``, then
``URL/<exit code>``.

The URL's path is a secret: whoever knows it can silence the monitor. No message repeats more than scheme and host.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from urllib.parse import urlsplit

from ..errors import AnthillError, ConfigurationError, ProtocolError
from ..settings import MIB, Settings

PING_SECONDS = 10.0  # that a command may wait for its monitor, in all
_URL = re.compile(r"https?://[!-~]+", re.IGNORECASE)
_ANSWER = MIB  # most bytes of an answer


class Ping:
    """One command's messages. What fails is kept in words, and never raised."""

    def __init__(self, url: str, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        """``ConfigurationError`` for what is no URL of a monitor; ``settings`` for proxy and authorities."""
        self.base, self._path, self._query = _parts(url)
        self._settings = replace(settings, deadline_base=PING_SECONDS, connect_timeout=PING_SECONDS, read_timeout=PING_SECONDS)
        self._clock = clock
        self._failure: str | None = None
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Say that the command begins; does not wait."""
        self._send("start")

    def end(self, code: int, seconds: float = PING_SECONDS) -> str | None:
        """Say how it ended; returns after ``seconds`` at most, with what failed in words, or None."""
        ends = self._clock() + seconds
        for thread in self._threads:
            thread.join(seconds / 2)
        self._send(str(code))
        for thread in self._threads:
            thread.join(max(0.0, ends - self._clock()))
        if any(thread.is_alive() for thread in self._threads):
            return f"{self.base} did not answer within {seconds:.0f} seconds"
        return self._failure

    def _send(self, what: str) -> None:
        """In a thread of its own, because looking up a host's name cannot be given a limit; nobody waits for its end."""
        thread = threading.Thread(target=self._try, args=(what,), name=f"anthill-ping-{what}", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            self._failure = f"{self.base}: no thread can be started"
        else:
            self._threads.append(thread)

    def _try(self, what: str) -> None:
        try:
            self._tell(what)
        except AnthillError as error:
            self._failure = str(error)
        except Exception as error:  # noqa: BLE001  (nobody else would see it, and its own words may quote the URL)
            self._failure = f"{self.base}: {type(error).__name__}"

    def _tell(self, what: str) -> None:
        from .transport import Transport

        transport = Transport(self.base, self._settings, 1)
        try:
            answer = transport.send("GET", f"{self._path}/{what}{self._query}", {}, limit=_ANSWER)
        finally:
            transport.close()
        if not 200 <= answer.status < 300:
            raise ProtocolError(f"{self.base} answered {answer.status}")


def _parts(url: str) -> tuple[str, str, str]:
    """Scheme and host; path; query."""
    wrong = "not the URL of a monitor: write https://host/path"
    if not _URL.fullmatch(url):
        raise ConfigurationError(wrong)
    try:
        parts = urlsplit(url)
        port = "" if parts.port is None else f":{parts.port}"
    except ValueError:
        raise ConfigurationError(wrong) from None
    if not parts.hostname or "@" in parts.netloc or parts.fragment:
        raise ConfigurationError(f"{wrong}; without user, password or fragment")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}{port}", parts.path.rstrip("/"), f"?{parts.query}" if parts.query else ""
