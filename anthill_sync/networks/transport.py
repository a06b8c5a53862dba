"""The one place that makes HTTP connections: time-outs, deadlines, proxies, certificates, and foreign errors translated.

One ``send`` is one request and one answer: retries are off, and requests' adapter is used without a session, which
would follow redirects (and, told not to, still read their bodies without limit), keep cookies, and look at netrc and
the environment each time. Proxies and certificate authorities are read once, from the settings or the usual
environment variables.
"""

from __future__ import annotations

import os
import re
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from urllib3.connection import HTTPConnection, HTTPSConnection

from ..errors import ConfigurationError, NetworkError, ProtocolError, TransientNetworkError
from ..settings import MIB, Settings
from .base import Buffer
from .deadlines import Call, Watchdog
from .local import is_loopback

_LENGTH = re.compile(r"[0-9]{1,12}")
_SLICE = MIB  # bytes handed to the socket at once: the read time-out is for each of them
_BROKEN_TLS = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)  # the connection ended, nothing was proved


class Slices:
    """``data`` in slices without a copy; may be iterated again. The length goes into Content-Length."""

    def __init__(self, data: Buffer) -> None:
        self._view = memoryview(data).cast("B")

    def __len__(self) -> int:
        return len(self._view)

    def __iter__(self) -> Iterator[memoryview]:
        return (self._view[start : start + _SLICE] for start in range(0, len(self._view), _SLICE))


@dataclass(frozen=True)
class Answer:
    """One answer, read to its end."""

    status: int
    headers: Mapping[str, str]  # names in any case
    body: bytes


class Transport:
    """Requests to one server, over at most ``connections`` connections shared by all threads."""

    def __init__(self, base: str, settings: Settings, connections: int) -> None:
        self.base = base
        self._settings = settings
        self._watchdog = Watchdog()
        self._timeout: Any = (settings.connect_timeout or None, settings.read_timeout or None)  # 0: only the deadline
        self._adapter = _Adapter(self._watchdog, settings, connections)
        self._proxies = _proxies(base, settings)
        self._verify = _authorities(settings)

    def send(
        self, method: str, path: str, headers: Mapping[str, str], body: Buffer | None = None, *, limit: int, expected: int = 0
    ) -> Answer:
        """The answer to one request, of at most ``limit`` bytes; the time it may take grows with the body and the
        ``expected`` bytes. A ``TransientNetworkError`` leaves open whether the server has acted."""
        request = self._request(method, path, headers, body)
        with self._watchdog.watching(self._seconds(max(expected, len(body or b"")))) as call:
            try:
                if call.cut:
                    raise TransientNetworkError(f"the connection to {self.base} was closed")
                with _current(call):
                    answer = self._exchange(request, limit)
                if call.cut:  # an answer without a length ends wherever its connection was cut
                    raise ConnectionError
                return answer
            except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
                raise self._translate(error, call) from error

    def close(self) -> None:
        """Running calls fail at once, idle connections are closed."""
        self._watchdog.close()
        self._adapter.close()

    def _seconds(self, size: int) -> float:
        return self._settings.deadline_base + size / self._settings.deadline_rate

    def _request(self, method: str, path: str, headers: Mapping[str, str], body: Buffer | None) -> requests.PreparedRequest:
        """Put together by hand: nothing is guessed, escaped or looked up."""
        request = requests.PreparedRequest()
        request.method, request.url = method, self.base + path
        request.headers = CaseInsensitiveDict({"Accept-Encoding": "identity", "User-Agent": "anthill", **headers})
        if method in ("PUT", "POST"):
            request.headers["Content-Length"] = str(len(body or b""))
        request.body = Slices(body) if body else None  # type: ignore[assignment]  # urllib3 takes any iterable of buffers
        return request

    def _exchange(self, request: requests.PreparedRequest, limit: int) -> Answer:
        response = self._adapter.send(request, stream=True, timeout=self._timeout, verify=self._verify, proxies=self._proxies)
        try:
            return Answer(response.status_code, response.headers, self._body(response, limit))
        finally:
            response.close()  # a connection that was read to its end is back in the pool already

    def _body(self, response: requests.Response, limit: int) -> bytes:
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise ProtocolError(f"{self.base} compresses its answers, unasked: is a proxy between us?")
        length = response.headers.get("Content-Length", "")
        chunked = "Transfer-Encoding" in response.headers  # then the length means nothing
        if _LENGTH.fullmatch(length) and int(length) <= limit and not chunked:
            data = response.raw.read(decode_content=False)  # complete, or an IncompleteRead
        else:
            data = response.raw.read(limit + 1, decode_content=False)
        if len(data) > limit:
            raise ProtocolError(f"{self.base} sends more than the {limit} bytes it was asked for")
        return bytes(data)

    # -- the border

    def _translate(self, error: Exception, call: Call) -> NetworkError | Exception:
        if call.cut and self._watchdog.closed:
            return TransientNetworkError(f"the connection to {self.base} was closed")
        if call.cut:
            return TransientNetworkError(f"{self.base} took longer than {call.seconds:.0f} seconds for one request")
        chain = list(_chain(error))
        for each in chain:
            if isinstance(each, ssl.SSLError) and not isinstance(each, _BROKEN_TLS):
                return ProtocolError(f"no safe connection to {self.base}: {_tls_reason(each)}")
        known = (requests.ConnectionError, requests.Timeout, requests.exceptions.ContentDecodingError)
        if isinstance(error, (*known, urllib3.exceptions.HTTPError, OSError)):
            return TransientNetworkError(f"cannot talk to {self.base}: {_reason(chain)}")
        return error


# -- connections that can be ended from outside


class _Local(threading.local):
    call: Call | None = None


_LOCAL = _Local()  # the call of this thread: urllib3 makes its connections on the thread that asks for one


@contextmanager
def _current(call: Call) -> Iterator[None]:
    _LOCAL.call = call
    try:
        yield
    finally:
        _LOCAL.call = None


class _Watched:
    """Mixed into urllib3's connections: tells the watchdog who uses it, and gives sending the read time-out, because
    urllib3 sends bodies with the time-out for connecting."""

    sock: Any
    timeout: Any
    watchdog: Watchdog
    read_timeout: float | None

    def request(self, *arguments: Any, **options: Any) -> None:
        self._attach()
        if self.sock is not None:
            self.timeout = self.read_timeout
        super().request(*arguments, **options)  # type: ignore[misc]

    def connect(self) -> None:
        self._attach()
        super().connect()  # type: ignore[misc]
        self._attach()
        self.sock.settimeout(self.read_timeout)

    def _attach(self) -> None:
        if _LOCAL.call is not None:
            self.watchdog.attach(_LOCAL.call, self)


class _Adapter(HTTPAdapter):
    """One pool for all threads, which waits when it is empty instead of throwing connections away."""

    def __init__(self, watchdog: Watchdog, settings: Settings, connections: int) -> None:
        how = {"watchdog": watchdog, "read_timeout": settings.read_timeout or None}
        plain = type("WatchedConnection", (_Watched, HTTPConnection), how)
        safe = type("WatchedTLSConnection", (_Watched, HTTPSConnection), how)
        self._pools = {
            "http": type("WatchedPool", (urllib3.HTTPConnectionPool,), {"ConnectionCls": plain}),
            "https": type("WatchedTLSPool", (urllib3.HTTPSConnectionPool,), {"ConnectionCls": safe}),
        }
        super().__init__(pool_connections=1, pool_maxsize=connections, max_retries=0, pool_block=True)

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, **options)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **options)
        manager.pool_classes_by_scheme = self._pools
        return manager


# -- what is read once


def _proxies(base: str, settings: Settings) -> dict[str, str]:
    """The proxy for ``base``: the setting, else the environment's; nobody but us reaches our own loopback."""
    if settings.proxy:
        found = {"http": settings.proxy, "https": settings.proxy}
    elif is_loopback(urlsplit(base).hostname or ""):
        return {}
    else:
        found = dict(requests.utils.get_environ_proxies(base))
    scheme = urlsplit(base).scheme
    proxy = found.get(scheme) or found.get("all")
    if proxy and urlsplit(proxy).scheme not in ("http", "https"):
        raise ConfigurationError("the proxy's URL has to begin with http:// or https://")
    return {scheme: proxy} if proxy else {}


def _authorities(settings: Settings) -> str | bool:
    """File or folder of certificate authorities, or True: those that come with ``requests``."""
    path = settings.ca_file or os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")
    if path and not os.path.exists(path):
        raise ConfigurationError(f"there is no file of certificate authorities at {path}")
    return path or True


# -- reasons


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and everything it was caused by, outermost first; urllib3 keeps some causes in arguments."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        each = waiting.pop(0)
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        inner = [each.__cause__, each.__context__, getattr(each, "reason", None), *each.args]
        waiting.extend(found for found in inner if isinstance(found, BaseException))


def _tls_reason(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is refused ({error.verify_message}); a private authority is named by the setting ca_file"
    return f"it does not speak TLS as we do ({error.reason or 'no reason given'})"


def _reason(chain: list[BaseException]) -> str:
    """The innermost system error in words, else the innermost error's name: texts of libraries may quote URLs."""
    for each in reversed(chain):
        if isinstance(each, OSError) and each.strerror and not isinstance(each, requests.RequestException):
            return each.strerror
    if any(isinstance(each, (TimeoutError, requests.Timeout)) for each in chain):
        return "timed out"
    return "the connection ended" if isinstance(chain[-1], ConnectionError) else type(chain[-1]).__name__
