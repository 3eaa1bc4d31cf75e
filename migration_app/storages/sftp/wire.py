"""The packet pipeline: requests go out without waiting for each other, answers come back by id.

All requests of one turn of the event loop leave in one write. A request costs a dictionary entry and a
callback: no future, no task. It knows nothing of files under way or of jobs.
"""

import asyncio
import struct
from collections.abc import Callable
from typing import Any

import asyncssh

from migration_app.storages.base import Guard
from migration_app.storages.errors import (
    AlreadyExists,
    ConnectFailed,
    ConnectionLost,
    HungUp,
    NameRefused,
    NoSpace,
    NotFound,
    OperationFailed,
    PermissionDenied,
    StorageError,
    Unavailable,
)
from migration_app.storages.names import readable
from migration_app.storages.sftp import packets
from migration_app.storages.sftp.outlet import Outlet
from migration_app.storages.sftp.packets import Cursor, MalformedPacket

LONGEST_PACKET = 1024 * 1024
SILENCE_S = 60.0
SMALL_DATA = 32 * 1024
"""What every version 3 server takes in one READ or WRITE (draft, section 3)."""
LEAST_DATA = 1024
MOST_DATA = 255 * 1024
ANSWER_PACKETS = frozenset(
    (packets.STATUS, packets.HANDLE, packets.DATA, packets.NAME, packets.ATTRS, packets.EXTENDED_REPLY)
)

Callback = Callable[[int, bytes, StorageError | None], None]
"""Packet type, its bytes after the id, of DATA what it holds, or an error instead. One that raises MalformedPacket is
called again, with the error: it has to read the packet before it changes anything."""


class SftpWire(asyncssh.SSHClientSession[bytes]):
    """One SFTP channel."""

    def __init__(self, guard: Guard) -> None:
        self.extensions: dict[bytes, bytes] = {}
        self.longest_read = SMALL_DATA
        self.longest_write = SMALL_DATA
        self.round_trip_s = 0.0
        """How long the server took to answer a question that costs it nothing; 0 when it was asked none."""
        self.most_handles = 0
        """How many files may be open; 0 when the server does not say."""
        self.may_follow_links = True
        """Whether LSTAT, RENAME and READLINK may be about what a link leads to."""
        self.takes_target_first: bool | None = None
        """Whether the first name of a SYMLINK is what the link leads to; None: not known yet."""
        self.error: StorageError | None = None
        self._loop = asyncio.get_running_loop()
        self._channel: asyncssh.SSHClientChannel[bytes] | None = None
        self._callbacks: dict[int, Callback] = {}
        self._next_id = 0
        self._outlet = Outlet(guard, self.fail)
        self._buffer = bytearray()
        self._version: asyncio.Future[None] = self._loop.create_future()
        self._heard_at = self._loop.time()
        self._watch: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Agree on version 3 and learn the server's extensions and limits.

        Raises ConnectFailed, MalformedPacket.
        """
        self._outlet.put(struct.pack(">IBI", 5, packets.INIT, packets.SFTP_VERSION))
        await self._version
        if b"limits@openssh.com" in self.extensions:
            await self._ask_limits()

    async def _ask_limits(self) -> None:
        answer: asyncio.Future[bytes] = self._loop.create_future()

        def done(kind: int, data: bytes, error: StorageError | None) -> None:
            if not answer.done():
                answer.set_result(data if kind == packets.EXTENDED_REPLY else b"")

        asked_at = self._loop.time()
        self.request(packets.EXTENDED, packets.text(b"limits@openssh.com"), done)
        cursor = Cursor(await answer)
        self.round_trip_s = self._loop.time() - asked_at
        if not cursor.is_at_end():
            cursor.long()
            self.longest_read = _limit(cursor.long())
            self.longest_write = _limit(cursor.long())
            self.most_handles = 0 if cursor.is_at_end() else cursor.long()

    def request(self, kind: int, body: bytes, callback: Callback, data: bytes = b"") -> None:
        """Send a request at the end of this turn of the loop; `callback` gets its answer. `data` ends it, uncopied."""
        if self.error is not None:
            self._loop.call_soon(callback, 0, b"", self.error)
            return
        if not self._callbacks:
            self._heard_at = self._loop.time()
        self._next_id = request_id = (self._next_id + 1) & 0xFFFFFFFF
        self._callbacks[request_id] = callback
        head = struct.pack(">IBI", len(body) + len(data) + 5, kind, request_id)
        self._outlet.put(head, body, *([data] if data else []))

    def command(
        self, kind: int, body: bytes, answered: Callable[[StorageError | None], None], data: bytes = b""
    ) -> None:
        """Send a request whose answer is a STATUS."""

        def done(kind: int, data: bytes, error: StorageError | None) -> None:
            answered(error or status_error(kind, data))

        self.request(kind, body, done, data)

    def fail(self, error: StorageError) -> None:
        """Answer everything that is under way, and all that comes, with an error; drop the connection."""
        if self.error is not None:
            return
        self.error = error
        # One that said something else, as a shell does that talks, will say it again.
        failed = ConnectFailed if self._buffer else HungUp
        self._outlet.clear()
        self._buffer.clear()
        if self._watch is not None:
            self._watch.cancel()
        if self._channel is not None:
            transport: Any = self._channel.get_connection()
            transport.abort()
        if not self._version.done():
            self._version.set_exception(failed(str(error)))
            # The one who waits for it may be gone already.
            self._version.exception()
        callbacks, self._callbacks = self._callbacks, {}
        for callback in callbacks.values():
            self._give(callback, 0, b"", error)

    def _give(self, callback: Callback, kind: int, data: bytes, error: StorageError | None) -> None:
        """Call a callback. Whatever it raises ends the connection, so that nobody waits for ever."""
        try:
            callback(kind, data, error)
        except MalformedPacket as malformed:
            lost = ConnectionLost(str(malformed))
            self.fail(lost)
            self._give(callback, 0, b"", lost)
        except Exception as bug:  # noqa: BLE001, RUF100 - asyncssh would swallow it
            self._loop.call_exception_handler({"message": "Taking an SFTP answer failed.", "exception": bug})
            self.fail(ConnectionLost("The connection was dropped after an error of our own."))

    def _check_silence(self) -> None:
        if self._callbacks and self._loop.time() - self._heard_at > SILENCE_S:
            self.fail(ConnectionLost(f"The server has not answered for {SILENCE_S:.0f} s."))
            return
        self._watch = self._loop.call_later(SILENCE_S / 4, self._check_silence)

    # asyncssh calls these.

    def connection_made(self, chan: "asyncssh.SSHClientChannel[bytes]") -> None:
        """The channel is there."""
        self._channel = chan
        self._outlet.attach(chan)
        self._check_silence()

    def pause_writing(self) -> None:
        """The channel has enough: the server, or the way to it, is slow."""
        self._outlet.pause()

    def resume_writing(self) -> None:
        """The channel has room again."""
        self._outlet.resume()

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        """Bytes of the server: one or more packets, or a part of one."""
        if datatype is not None or self.error is not None:
            return
        self._heard_at = self._loop.time()
        self._buffer += data
        try:
            self._take_packets()
        except MalformedPacket as error:
            self.fail(ConnectionLost(str(error)))

    def eof_received(self) -> bool:
        """The server says no more."""
        self.fail(ConnectionLost("The server closed the connection."))
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The channel is gone."""
        reason = f": {readable(str(exc))}" if exc is not None and str(exc) else ""
        self.fail(ConnectionLost(f"The connection broke{reason}."))

    def _take_packets(self) -> None:
        buffer, start = self._buffer, 0
        while len(buffer) - start >= 4 and self.error is None:
            length = int.from_bytes(buffer[start : start + 4], "big")
            if not 5 <= length <= LONGEST_PACKET:
                raise MalformedPacket("The server sent something that is no SFTP.")
            end = start + 4 + length
            if len(buffer) < end:
                break
            kind, number = _HEAD.unpack_from(buffer, start + 4)
            begin, stop = start + 9, end
            if kind == packets.DATA:
                begin += 4
                stop = begin + int.from_bytes(buffer[start + 9 : begin], "big")
                if stop > end:
                    raise MalformedPacket("The server sent a packet that is too short.")
            with memoryview(buffer) as view:
                data = bytes(view[begin:stop])
            start = end
            if kind == packets.VERSION:
                self._take_version(number, data)
            else:
                self._dispatch(kind, number, data)
        # Empty when it failed meanwhile.
        del buffer[:start]

    def _dispatch(self, kind: int, request_id: int, data: bytes) -> None:
        if kind not in ANSWER_PACKETS:
            raise MalformedPacket("The server sent something that is no SFTP.")
        callback = self._callbacks.pop(request_id, None)
        if callback is None:
            raise MalformedPacket("The server answered a question that was not asked.")
        self._give(callback, kind, data, None)

    def _take_version(self, number: int, data: bytes) -> None:
        if self._version.done():
            raise MalformedPacket("The server told its version twice.")
        if number != packets.SFTP_VERSION:
            raise MalformedPacket(f"The server speaks version {number} of SFTP, not 3.")
        cursor = Cursor(data)
        while not cursor.is_at_end():
            name = cursor.text()
            self.extensions[name] = cursor.text()
        self._version.set_result(None)


_HEAD = struct.Struct(">BI")


def _limit(told: int) -> int:
    """How much data to put in one request; 0 says that the server has no limit to tell."""
    return max(min(told or SMALL_DATA, MOST_DATA), LEAST_DATA)


def status_error(kind: int, data: bytes) -> StorageError | None:
    """The error that a STATUS answer tells; None when it says OK."""
    if kind != packets.STATUS:
        return OperationFailed("The server gave an answer of the wrong kind.")
    cursor = Cursor(data)
    code = cursor.number()
    if code == packets.OK:
        return None
    said = readable(cursor.text().decode("utf-8", "replace")) if not cursor.is_at_end() else ""
    if code == packets.NO_SUCH_FILE:
        return NotFound("No such file or folder.")
    if code == packets.PERMISSION_DENIED:
        return PermissionDenied("Permission denied.")
    if code == packets.FILE_ALREADY_EXISTS:
        return AlreadyExists("Something of that name is there already.")
    if code == packets.BAD_MESSAGE:
        # OpenSSH's word for what the system calls an invalid argument or too long a name.
        return NameRefused("The server does not take such a name or value.")
    if code in (packets.NO_CONNECTION, packets.CONNECTION_LOST):
        # What lies behind the server, as with a gateway to another one, is out of its reach.
        return Unavailable(f"The server cannot do this now: {said or 'it gives no reason'}.")
    if code in (packets.NO_SPACE, packets.QUOTA_EXCEEDED):
        return NoSpace("The disk is full or the quota used up.")
    if code == packets.OP_UNSUPPORTED:
        return OperationFailed("The server does not support this.")
    return OperationFailed(f"The server refused: {said or f'status {code}'}.")


def wrong_answer(kind: int, data: bytes, error: StorageError | None) -> StorageError:
    """Why an answer is not what was asked for."""
    found = error or status_error(kind, data)
    return found or OperationFailed("The server gave an answer of the wrong kind.")
