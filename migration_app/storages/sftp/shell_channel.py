"""One run of a program at the server, on the connection that SFTP uses, where the server gives a shell."""

import asyncio
import secrets
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import asyncssh

from migration_app.storages.base import Guard
from migration_app.storages.errors import ConnectionLost
from migration_app.storages.names import readable
from migration_app.storages.sftp.opening import opening
from migration_app.storages.sftp.outlet import Outlet

_MOST_SAID = 64 * 1024
"""What a login script may say before the program starts."""
_MOST_COMPLAINTS = 4096
_CHANNEL_WINDOW = 2 * 1024 * 1024
SILENCE_S = 60.0
"""For so long the program may do nothing that it was asked for."""


@dataclass(frozen=True, slots=True)
class Program:
    """What to run in the shell, words of its language: `command` where `condition` holds."""

    name: str
    """For people."""
    condition: str
    command: str


class ShellChannel(asyncssh.SSHClientSession[bytes]):
    """Goes from being opened to ready to ended; `changed` is called for each, `came` for what the program writes.

    It is aborted when it was silent for `silence_s`.
    """

    def __init__(
        self,
        guard: Guard,
        program: Program,
        *,
        changed: Callable[[], None],
        came: Callable[[bytes], None] | None = None,
        silence_s: float | None = None,
    ) -> None:
        self._program = program
        self._silence_s = SILENCE_S if silence_s is None else silence_s
        self.is_ready = False
        self.is_ended = False
        self.has_succeeded = False
        """Whether the program said that all went well."""
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

    async def open(self, connection: asyncssh.SSHClientConnection, folder: bytes) -> None:
        """Start the program in a folder; it is ready later, if ever."""
        program = self._program
        where = shlex.quote(folder.decode("utf-8", "surrogateescape"))
        # Only a shell takes the quotes away: a refusal may repeat the command.
        word = f"{self._word[:8]}''{self._word[8:]}"
        script = f"cd -- {where} && {program.condition} && echo {word} && exec {program.command}"
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
        return said or (
            "it ended early" if self.is_ready else f"there is no shell, or no {self._program.name}"
        )

    @property
    def complaints(self) -> bytes:
        """The last of what the program said of problems, as it is."""
        return self._complaints

    @property
    def has_room(self) -> bool:
        """Whether the channel takes what it is given."""
        return self.is_ready and not self.is_ended and self._outlet.has_room

    def send(self, *pieces: bytes) -> None:
        """Give the program something to read."""
        self._outlet.put(*pieces)

    def end(self) -> None:
        """That was all for the program to read."""
        self._outlet.end()
        self._listen()

    def pause_reading(self) -> None:
        """Take nothing more of what the program writes for a while."""
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
        """Stop the program, as soon as it has started."""
        self._is_unwanted = True
        if self._channel is not None and not self.is_ended:
            self._channel.abort()
            # Not waited for: a server may say so only when its program has ended.
            asyncio.get_running_loop().call_soon(self.connection_lost, None)

    def _failed(self, _: ConnectionLost) -> None:
        self.abort()

    def _listen(self) -> None:
        """The program should do something within its time."""
        if self._silence is not None:
            self._silence.cancel()
        if not self.is_ended and not self._is_reading_paused:
            self._silence = asyncio.get_running_loop().call_later(self._silence_s, self._fell_silent)

    def _fell_silent(self) -> None:
        self._complaints = f"it has done nothing for {self._silence_s:.0f} s".encode()
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
        """Bytes that the script or the program wrote."""
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
        """The program has ended."""
        self.has_succeeded = self.is_ready and status == 0

    def connection_lost(self, exc: Exception | None) -> None:
        """The channel is gone."""
        if not self.is_ended:
            self.is_ended = True
            if self._silence is not None:
                self._silence.cancel()
            self._outlet.clear()
            self._changed()
