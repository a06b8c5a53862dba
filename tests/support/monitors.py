"""A monitor of this process, on a free port of the loopback: it remembers which paths were asked for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Monitor:
    """``answer`` says with which status a path is answered, and may wait."""

    def __init__(self, answer: Callable[[str], int] = lambda path: 200) -> None:
        self.paths: list[str] = []
        monitor = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                monitor.paths.append(self.path)
                self.send_response(answer(self.path))
                self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"OK")

            def log_message(self, *arguments: object) -> None:
                """Nothing onto the tests' stderr."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def serve(self) -> None:
        self._server.serve_forever(poll_interval=0.01)

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def monitoring(answer: Callable[[str], int] = lambda path: 200) -> Iterator[Monitor]:
    """A running monitor for the time of a ``with``."""
    monitor = Monitor(answer)
    thread = threading.Thread(target=monitor.serve, daemon=True)
    thread.start()
    try:
        yield monitor
    finally:
        monitor.stop()
        thread.join()
