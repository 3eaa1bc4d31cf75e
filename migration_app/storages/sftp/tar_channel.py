"""One run of tar at the server, on the connection that SFTP uses, where the server gives a shell and has GNU tar."""

import asyncio
import secrets
import shlex
from collections.abc import Callable
from typing import Any

import asyncssh

from migration_app.storages.base import Guard
from migration_app.storages.errors import ConnectionLost
from migration_app.storages.names import readable
from migration_app.storages.sftp.opening import opening
from migration_app.storages.sftp.outlet import Outlet

PACK = "-c -f - --format=gnu --null --no-recursion --hard-dereference -T -"
"""Takes names, each ended by NUL, and gives what they name."""
UNPACK = "-x -f - -p --no-same-owner"
"""Takes an archive. A file that is there is removed first, never written through."""
_SCRIPT = (
    'cd -- {root} && case "$(tar --version 2>/dev/null)" in "tar (GNU tar)"*) ;; *) exit 96 ;; esac && '
    "echo {begin}''{end} && exec env -u TAR_OPTIONS LC_ALL=C tar {options}"
)
_MOST_SAID = 64 * 1024
"""What a login script may say before tar starts."""
_MOST_COMPLAINTS = 4096
_CHANNEL_WINDOW = 2 * 1024 * 1024
FIND_S = 5.0
SILENCE_S = 60.0
"""For so long tar may do nothing that it was asked for."""


class TarChannel(asyncssh.SSHClientSession[bytes]):
    """Goes from being opened to ready to ended; `changed` is called for each, `came` for what tar writes."""

    def __init__(
        self, guard: Guard, *, changed: Callable[[], None], came: Callable[[bytes], None] | None = None
    ) -> None:
        self.is_ready = False
        self.is_ended = False
        self.has_succeeded = False
        """Whether tar said that all went well."""
        self._word = secrets.token_hex(8)
        self._said = bytearray()
        """Before it was ready."""
        self._complaints = b""
        self._changed = changed
        self._came = came
        self._channel: Any = None
        self._outlet = Outlet(guard, self._failed, emptied=changed)
        self._is_reading_paused = False
        self._is_unwanted = False
        self._silence: asyncio.TimerHandle | None = None

    async def open(self, connection: asyncssh.SSHClientConnection, root: bytes, options: str) -> None:
        """Start tar below `root`; it is ready later, if ever."""
        script = _SCRIPT.format(
            root=shlex.quote(root.decode("utf-8", "surrogateescape")),
            # Only a shell takes the quotes away: a refusal may repeat the command.
            begin=self._word[:8],
            end=self._word[8:],
            options=options,
        )
        # The shell of an account may be one that does not know this language.
        command = f"exec sh -c {shlex.quote(script)}".encode("utf-8", "surrogateescape")
        try:
            with opening():
                # asyncssh joins no command of bytes to anything.
                found: Any = command
                await connection.create_session(
                    lambda: self, command=found, encoding=None, window=_CHANNEL_WINDOW
                )
        except (asyncssh.Error, OSError) as error:
            self._complaints = str(error).encode()
            self.connection_lost(None)
        if self._is_unwanted:
            self.abort()

    @property
    def reason(self) -> str:
        """Why it was of no use."""
        said = readable(self._complaints.decode("utf-8", "replace"))
        return said or ("it ended early" if self.is_ready else "there is no shell, or no GNU tar")

    @property
    def has_room(self) -> bool:
        """Whether the channel takes what it is given."""
        return self.is_ready and not self.is_ended and self._outlet.has_room

    def send(self, *pieces: bytes) -> None:
        """Give tar something to read."""
        self._outlet.put(*pieces)

    def end(self) -> None:
        """That was all for tar to read."""
        self._outlet.end()
        self._listen()

    def pause_reading(self) -> None:
        """Take nothing more of what tar writes for a while."""
        if self._channel is not None and not self.is_ended and not self._is_reading_paused:
            self._is_reading_paused = True
            self._channel.pause_reading()
            self._listen()

    def resume_reading(self) -> None:
        """Go on with that."""
        if self._channel is not None and not self.is_ended and self._is_reading_paused:
            self._is_reading_paused = False
            self._channel.resume_reading()
            self._listen()

    def abort(self) -> None:
        """Stop tar, as soon as it has started."""
        self._is_unwanted = True
        if self._channel is not None and not self.is_ended:
            self._channel.abort()
            # Not waited for: a server may say so only when its program has ended.
            asyncio.get_running_loop().call_soon(self.connection_lost, None)

    def _failed(self, _: ConnectionLost) -> None:
        self.abort()

    def _listen(self) -> None:
        """Tar should do something within `SILENCE_S`."""
        if self._silence is not None:
            self._silence.cancel()
        if not self.is_ended and not self._is_reading_paused:
            self._silence = asyncio.get_running_loop().call_later(SILENCE_S, self._fell_silent)

    def _fell_silent(self) -> None:
        self._complaints = f"it has done nothing for {SILENCE_S:.0f} s".encode()
        self.abort()

    # asyncssh calls these.

    def connection_made(self, chan: "asyncssh.SSHClientChannel[bytes]") -> None:
        """The channel is there."""
        self._channel = chan
        self._outlet.attach(chan)

    def pause_writing(self) -> None:
        """The channel has enough."""
        self._outlet.pause()

    def resume_writing(self) -> None:
        """The channel has room again."""
        self._outlet.resume()

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        """Bytes that the script or tar wrote."""
        if datatype is not None:
            self._complaints = (self._complaints + data)[-_MOST_COMPLAINTS:]
        elif self.is_ready:
            self._listen()
            if self._came is not None:
                self._came(data)
        else:
            self._said += data
            _, word, rest = bytes(self._said).partition(self._word.encode() + b"\n")
            if word:
                self._said.clear()
                self.is_ready = True
                self._changed()
                if rest and self._came is not None:
                    self._came(rest)
            elif len(self._said) > _MOST_SAID:
                self.abort()

    def exit_status_received(self, status: int) -> None:
        """Tar has ended."""
        self.has_succeeded = self.is_ready and status == 0

    def connection_lost(self, exc: Exception | None) -> None:
        """The channel is gone."""
        if not self.is_ended:
            self.is_ended = True
            if self._silence is not None:
                self._silence.cancel()
            self._outlet.clear()
            self._changed()


async def has_gnu_tar(connection: asyncssh.SSHClientConnection) -> bool:
    """Whether there is a shell that finds GNU tar."""
    try:
        async with asyncio.timeout(FIND_S):
            with opening():
                found = await connection.run(
                    "exec sh -c 'tar --version'", stdin=asyncssh.DEVNULL, errors="replace"
                )
    except (asyncssh.Error, OSError):
        # TimeoutError is an OSError.
        return False
    return "tar (GNU tar)" in str(found.stdout)
