"""Keeps a transfer to so many bytes a second."""

from collections.abc import Callable
from time import monotonic

BURST_S = 0.4
"""What may be made up for after a while in which less was asked for than allowed."""
PIECE_S = 0.1
LEAST_PIECE = 4096
LONGEST_WAIT_S = 0.25
"""Before somebody who has to wait looks again: the rate may be set to another one meanwhile."""


class Pace:
    """A bucket of bytes that fills at `rate`. A piece may be asked for when it is not overdrawn, and may overdraw it.

    `rate` is in bytes a second, 0 without a limit; it may be set at any time, from any thread.
    """

    def __init__(self, rate: float = 0, *, clock: Callable[[], float] = monotonic) -> None:
        self.rate = rate
        self.taken = 0
        """All bytes that were asked for."""
        self._clock = clock
        self._filled_at = clock()
        self._bytes = 0.0
        self._held_s = 0.0
        self._held_since: float | None = None

    @property
    def largest_piece(self) -> int:
        """How much to ask for at once, so that what is let through comes evenly."""
        return max(LEAST_PIECE, int(self.rate * PIECE_S)) if self.rate else 2**63

    def wait_s(self) -> float:
        """Seconds until something may be asked for; 0 when it may now."""
        rate, now = self.rate, self._clock()
        passed_s, self._filled_at = now - self._filled_at, now
        self._bytes = min(self._bytes + rate * passed_s, rate * BURST_S) if rate else 0.0
        wait_s = max(0.0, -self._bytes / rate) if rate else 0.0
        if wait_s and self._held_since is None:
            self._held_since = now
        elif not wait_s and self._held_since is not None:
            self._held_s += now - self._held_since
            self._held_since = None
        return wait_s

    def take_held_s(self) -> float:
        """For how long somebody had to wait since the last time that this was asked."""
        now, held_s = self._clock(), self._held_s
        self._held_s = 0.0
        if self._held_since is not None:
            held_s += now - self._held_since
            self._held_since = now
        return held_s

    def take(self, size: int) -> None:
        """Note that so much was asked for."""
        self._bytes -= size
        self.taken += size
