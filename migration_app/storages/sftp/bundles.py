"""Small files to and from a server, many in one stream of tar: an answer for each bundle, in place of three for each
file. A stream is never the only way: what one does not bring is asked for again, file by file."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable

import asyncssh

from migration_app.storages.base import Guard
from migration_app.storages.errors import StorageError
from migration_app.storages.sftp.shell_channel import ShellChannel

BUNDLE_FILES = 250
QUIET_S = 0.03
"""A bundle is closed when nothing was put into it for so long."""
MOST_REFUSALS = 4
"""One after another, to start another run of tar."""
REFUSED_S = 0.25
"""The pause after one."""
MOST_CHANNELS = 3
"""At once on a connection, beside that of SFTP; OpenSSH allows ten."""


class TarBundles(ABC):
    """Keeps a run of tar ready for the next bundle."""

    def __init__(
        self,
        connection: asyncssh.SSHClientConnection,
        root: bytes,
        guard: Guard,
        loss: Callable[[], StorageError | None],
        useless: Callable[[], None],
    ) -> None:
        self._connection = connection
        self._root = root
        self._guard = guard
        self._loss = loss
        """Why the connection is gone, if it is."""
        self._useless = useless
        """Told when the server has no use for them at all."""
        self._loop = asyncio.get_running_loop()
        self._problem = ""
        self._is_ready = False
        self._is_over = False
        self._is_closed = False
        self._spare: ShellChannel | None = None
        self._channels: set[ShellChannel] = set()
        self._most_channels = MOST_CHANNELS
        self._opening: set[asyncio.Task[None]] = set()
        self._quiet: asyncio.TimerHandle | None = None
        self._touched_at = 0.0
        self._refusals = 0
        self._pause_until = 0.0
        self._start_spare()

    @property
    def is_ready(self) -> bool:
        """See Bundles."""
        return self._is_ready and not self._is_closed

    @property
    def problem(self) -> str:
        """See Bundles."""
        return self._problem

    def close(self) -> None:
        """See Bundles."""
        self._is_closed = True
        if self._quiet is not None:
            self._quiet.cancel()
        for channel in list(self._channels):
            channel.abort()

    @abstractmethod
    def _new_channel(self) -> ShellChannel:
        """One with this one's callbacks."""

    @abstractmethod
    def _go_on(self) -> None:
        """A channel has changed, or there is more to do."""

    @abstractmethod
    def _ended(self, channel: ShellChannel) -> None:
        """A channel is gone, perhaps with a bundle."""

    def _start_spare(self) -> None:
        is_over = self._is_over or self._is_closed or self._loss() is not None
        is_over = is_over or self._loop.time() < self._pause_until
        if self._spare is None and len(self._channels) < self._most_channels and not is_over:
            self._spare = channel = self._new_channel()
            self._channels.add(channel)
            task = self._loop.create_task(channel.open(self._connection, self._root))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    def _take_spare(self) -> ShellChannel | None:
        """A channel that is ready; another one is made ready."""
        if self._spare is None or not self._spare.is_ready:
            return None
        channel, self._spare = self._spare, None
        self._start_spare()
        return channel

    def _changed(self, channel: ShellChannel) -> None:
        if channel is self._spare and channel.is_ready and not self._is_over:
            self._is_ready = True
            self._refusals = 0
        if channel.is_ended and channel in self._channels:
            self._channels.remove(channel)
            if channel is self._spare:
                self._spare = None
                self._spare_ended(channel)
            self._ended(channel)
            self._start_spare()
        self._go_on()

    def _spare_ended(self, channel: ShellChannel) -> None:
        if self._channels:
            # The server lets no more of them run at once.
            self._most_channels = len(self._channels)
        elif self._is_ready and self._refusals < MOST_REFUSALS:
            # It may not have noticed yet that the last one has ended.
            self._refusals += 1
            self._pause_until = self._loop.time() + REFUSED_S
            self._loop.call_later(REFUSED_S, self._start_spare)
        else:
            self._give_up(channel)

    def _give_up(self, channel: ShellChannel) -> None:
        """No more bundles: they are of no use here."""
        if not self._is_closed and self._loss() is None:
            self._useless()
            self._is_over = True
            if self._is_ready:
                self._problem = channel.reason
        self._is_ready = False
        if self._spare is not None:
            # It may be ready any time, and would take one bundle, after which none comes.
            self._spare.abort()

    def _wait_for_more(self) -> None:
        """Call `_is_quiet` when this was not called for a while."""
        self._touched_at = self._loop.time()
        if self._quiet is None and not self._is_closed:
            self._quiet = self._loop.call_later(QUIET_S, self._look_whether_quiet)

    def _look_whether_quiet(self) -> None:
        self._quiet = None
        left_s = self._touched_at + QUIET_S - self._loop.time()
        if left_s > 0.001:
            self._quiet = self._loop.call_later(left_s, self._look_whether_quiet)
        else:
            self._is_quiet()

    @abstractmethod
    def _is_quiet(self) -> None:
        """Nothing has come for a while."""
