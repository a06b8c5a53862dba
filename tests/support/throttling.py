"""What a server allows that throttles."""

from __future__ import annotations

import threading
import time


class TokenBucket:
    """``rate`` requests a second and ``most`` at once; the others are refused."""

    def __init__(self, rate: float, most: float = 1.0) -> None:
        self.taken = self.refused = 0
        self._rate, self._most, self._last = rate, most, time.monotonic()
        self._tokens = self._most
        self._lock = threading.Lock()  # guards the numbers

    def take(self) -> bool:
        """True: this request is allowed now."""
        with self._lock:
            now = time.monotonic()
            self._tokens = min(self._most, self._tokens + (now - self._last) * self._rate)
            self._last = now
            allowed = self._tokens >= 1
            self._tokens -= allowed
            self.taken, self.refused = self.taken + allowed, self.refused + (not allowed)
            return allowed
