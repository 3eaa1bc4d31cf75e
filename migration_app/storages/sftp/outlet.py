"""What is to leave over a channel: all of one turn of the event loop in one write, and only under a valid lease."""

import asyncio
from collections.abc import Callable
from typing import Any

import asyncssh

from migration_app.storages.base import Guard
from migration_app.storages.errors import ConnectionLost
from migration_app.storages.names import readable

LARGE = 64 * 1024
"""A piece of so many bytes leaves alone: to join it to others would copy it."""
SLICE = 256 * 1024
"""What is handed to the channel at once, so that it can say early that it has enough."""


class Outlet:
    """Holds back what the channel has no room for; `failed` is told when nothing more can leave, `emptied` when all
    has left."""

    def __init__(
        self,
        guard: Guard,
        failed: Callable[[ConnectionLost], None],
        emptied: Callable[[], None] | None = None,
    ) -> None:
        self._guard = guard
        self._failed = failed
        self._emptied = emptied
        self._loop = asyncio.get_running_loop()
        self._channel: Any = None
        self._out: list[bytes] = []
        self._is_due = False
        self._is_paused = False
        self._is_ended = False

    def attach(self, channel: "asyncssh.SSHClientChannel[bytes]") -> None:
        """The channel is there."""
        self._channel = channel
        self._schedule()

    @property
    def has_room(self) -> bool:
        """Whether the channel takes what it is given."""
        return not self._is_paused

    def put(self, *pieces: bytes) -> None:
        """Let this leave at the end of this turn of the loop."""
        self._out += pieces
        self._schedule()

    def end(self) -> None:
        """Say that nothing more comes, when all has left."""
        self._is_ended = True
        self._schedule()

    def clear(self) -> None:
        """Forget what has not left."""
        self._out.clear()

    def pause(self) -> None:
        """The channel has enough: the server, or the way to it, is slow."""
        self._is_paused = True

    def resume(self) -> None:
        """The channel has room again."""
        self._is_paused = False
        self._schedule()

    def _schedule(self) -> None:
        if not self._is_due:
            self._is_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._is_due = False
        if self._channel is None or self._is_paused:
            return
        out, end = self._out, 0
        if out and not self._guard():
            self._failed(ConnectionLost("The lease is over."))
            return
        try:
            # What the channel has no room for stays here, where the guard is asked again before it leaves.
            while end < len(out) and not self._is_paused:
                start, end = end, _end_of_slice(out, end)
                self._channel.write(b"".join(out[start:end]))
            del out[:end]
            if self._is_ended and not out:
                self._is_ended = False
                self._channel.write_eof()
        except (OSError, asyncssh.Error) as error:
            self._failed(ConnectionLost(f"The connection broke: {readable(str(error))}."))
            return
        if self._emptied is not None and not out and not self._is_paused:
            self._emptied()


def _end_of_slice(pieces: list[bytes], start: int) -> int:
    """Where the pieces end that leave together from `start` on."""
    end, size = start + 1, len(pieces[start])
    if size < LARGE:
        while end < len(pieces) and size < SLICE and (next_size := len(pieces[end])) < LARGE:
            end, size = end + 1, size + next_size
    return end
