"""One file being read or written over SFTP: small state machines on callbacks."""

import struct
from collections import deque
from collections.abc import Callable

from migration_app.storages.base import Answered, Entry, Reader, Writer
from migration_app.storages.errors import OperationFailed, SourceChanged, StorageError
from migration_app.storages.sftp import packets
from migration_app.storages.sftp.packets import Cursor
from migration_app.storages.sftp.wire import SftpWire, status_error

READ_AHEAD = 4 * 1024 * 1024
"""Bytes of one file that may be asked for and not taken yet."""
SYNC_FROM = 8 * 1024 * 1024
"""From this size on the server is asked to bring the file to its disk before it is renamed."""


class SftpReader(Reader):
    """Reads a file in order; several READs are on their way at once."""

    def __init__(
        self, wire: SftpWire, path: bytes, entry: Entry, on_data: Callable[[], None]
    ) -> None:
        self._wire = wire
        self._entry = entry
        self._on_data = on_data
        self._handle = b""
        self._is_closed = False
        self._asked = 0
        self._taken = 0
        self._pieces: dict[int, bytes] = {}
        self._ready: deque[bytes] = deque()
        self._is_checked = False
        body = packets.text(path) + packets.number(packets.READ_FLAG) + packets.attributes()
        wire.request(packets.OPEN, body, self._opened)

    def _opened(self, kind: int, data: bytes, error: StorageError | None) -> None:
        if kind != packets.HANDLE:
            self._fail(error or status_error(kind, data))
            return
        self._handle = Cursor(data).text()
        if self._is_closed:
            self._send_close()
            return
        self._ask()
        if self._asked >= self._entry.size:
            self._check()

    def _ask(self) -> None:
        size = self._entry.size
        while self._asked < size and self._asked - self._taken < READ_AHEAD:
            length = min(self._wire.longest_read, size - self._asked)
            self._read(self._asked, length)
            self._asked += length

    def _read(self, offset: int, length: int) -> None:
        def done(kind: int, data: bytes, error: StorageError | None) -> None:
            self._got(offset, length, kind, data, error)

        body = packets.text(self._handle) + struct.pack(">QI", offset, length)
        self._wire.request(packets.READ, body, done)

    def _got(
        self, offset: int, length: int, kind: int, data: bytes, error: StorageError | None
    ) -> None:
        if self._is_closed or self.error is not None:
            return
        if kind != packets.DATA:
            is_end = kind == packets.STATUS and Cursor(data).number() == packets.EOF
            self._fail(SourceChanged("The file became shorter.") if is_end else error or status_error(kind, data))
            return
        piece = Cursor(data).text()
        if not 0 < len(piece) <= length:
            self._fail(OperationFailed("The server sent data of the wrong length."))
            return
        self._pieces[offset] = piece
        if len(piece) < length:
            # A short answer is allowed (draft, 6.4); the rest is asked for again.
            self._read(offset + len(piece), length - len(piece))
        before = len(self._ready)
        next_offset = self._taken + sum(map(len, self._ready))
        while next_offset in self._pieces:
            chunk = self._pieces.pop(next_offset)
            self._ready.append(chunk)
            next_offset += len(chunk)
        if next_offset >= self._entry.size and not self._is_checked:
            self._check_later()
        if len(self._ready) > before:
            self._on_data()

    def _check_later(self) -> None:
        if self._entry.size > self._wire.longest_read * 4:
            self._check()

    def _check(self) -> None:
        """Ask what the file is now: it must still be what was listed."""
        self._is_checked = True
        self._wire.request(packets.FSTAT, packets.text(self._handle), self._checked)

    def _checked(self, kind: int, data: bytes, error: StorageError | None) -> None:
        if self._is_closed or self.error is not None:
            return
        if kind != packets.ATTRS:
            self._fail(error or status_error(kind, data))
            return
        found = Cursor(data).attributes()
        entry = self._entry
        if (found.size, found.mtime) not in ((entry.size, entry.mtime), (None, entry.mtime), (entry.size, None)):
            self._fail(SourceChanged("The file changed while it was read."))
            return
        self.is_verified = True
        self._on_data()

    is_verified = False

    def take(self) -> bytes | None:
        """See Reader."""
        if not self._ready:
            self.is_at_end = self.is_verified and self._taken >= self._entry.size
            return None
        chunk = self._ready.popleft()
        self._taken += len(chunk)
        self._ask()
        self.is_at_end = self.is_verified and self._taken >= self._entry.size
        return chunk

    def close(self) -> None:
        """See Reader."""
        if not self._is_closed:
            self._is_closed = True
            self._send_close()

    def _send_close(self) -> None:
        if self._handle and self._wire.error is None:
            self._wire.command(packets.CLOSE, packets.text(self._handle), lambda _: None)

    def _fail(self, error: StorageError | None) -> None:
        self.error = error or OperationFailed("The server gave an answer of the wrong kind.")
        self._on_data()


class SftpWriter(Writer):
    """Writes a file under its temp name; WRITEs, attributes and CLOSE do not wait for each other."""

    def __init__(
        self, wire: SftpWire, temp: bytes, final: bytes, on_ready: Callable[[], None]
    ) -> None:
        self._wire = wire
        self._temp = temp
        self._final = final
        self._on_ready = on_ready
        self._handle = b""
        self._offset = 0
        self._unanswered = 0
        self._finished: Answered | None = None
        self._discarded: Answered | None = None
        flags = packets.WRITE_FLAG | packets.CREATE_FLAG | packets.TRUNCATE_FLAG
        # Nobody else may read a file that is not whole yet.
        body = packets.text(temp) + packets.number(flags) + packets.attributes(mode=0o600)
        wire.request(packets.OPEN, body, self._opened)

    def _opened(self, kind: int, data: bytes, error: StorageError | None) -> None:
        if kind != packets.HANDLE:
            self.error = error or status_error(kind, data) or OperationFailed("No handle came.")
            if self._discarded is not None:
                self._discarded(None)
            else:
                self._on_ready()
            return
        self._handle = Cursor(data).text()
        self.is_open = True
        if self._discarded is not None:
            self._remove()
            return
        self._wire.on_room.add(self._on_ready)
        self._on_ready()

    @property
    def has_room(self) -> bool:
        """See Writer."""
        return self._wire.has_room

    def write(self, data: bytes) -> None:
        """See Writer."""
        longest = self._wire.longest_write
        for start in range(0, len(data), longest):
            piece = data[start : start + longest] if len(data) > longest else data
            self._send(piece)

    def _send(self, piece: bytes) -> None:
        size = len(piece)

        def answered(error: StorageError | None) -> None:
            self._wire.answered_bytes(size)
            self._one_answered(error)

        header = packets.text(self._handle) + struct.pack(">QI", self._offset, size)
        self._wire.unanswered_bytes += size
        self._unanswered += 1
        self._offset += size
        self._wire.command(packets.WRITE, header + piece, answered)

    def finish(self, *, mode: int, mtime: int, answered: Answered) -> None:
        """See Writer."""
        self._finished = answered
        handle = packets.text(self._handle)
        self._wire.on_room.discard(self._on_ready)
        self._unanswered += 2
        attributes = packets.attributes(mode=mode, mtime=mtime)
        self._wire.command(packets.FSETSTAT, handle + attributes, self._one_answered)
        if self._offset >= SYNC_FROM and b"fsync@openssh.com" in self._wire.extensions:
            self._unanswered += 1
            body = packets.text(b"fsync@openssh.com") + handle
            self._wire.command(packets.EXTENDED, body, self._one_answered)
        self.is_open = False
        self._wire.command(packets.CLOSE, handle, self._one_answered)

    def _one_answered(self, error: StorageError | None) -> None:
        self._unanswered -= 1
        if error is not None and self.error is None:
            self.error = error
            if self._finished is None and self._discarded is None:
                self._on_ready()
        if self._unanswered == 0 and self._finished is not None:
            finished, self._finished = self._finished, None
            finished(self.error)

    def publish(self, answered: Answered) -> None:
        """See Writer."""
        rename(self._wire, self._temp, self._final, answered)

    def discard(self, answered: Answered) -> None:
        """See Writer."""
        self._discarded = answered
        self._finished = None
        self._wire.on_room.discard(self._on_ready)
        if self._handle:
            self._remove()
        elif self.error is not None:
            answered(None)

    def _remove(self) -> None:
        if self.is_open:
            self.is_open = False
            self._wire.command(packets.CLOSE, packets.text(self._handle), lambda _: None)
        discarded = self._discarded
        assert discarded is not None
        self._wire.command(packets.REMOVE, packets.text(self._temp), discarded)


def rename(wire: SftpWire, temp: bytes, final: bytes, answered: Answered) -> None:
    """Rename over whatever file is there: in one step where the server can, else by removing it first."""
    names = packets.text(temp) + packets.text(final)
    if b"posix-rename@openssh.com" in wire.extensions:
        wire.command(packets.EXTENDED, packets.text(b"posix-rename@openssh.com") + names, answered)
        return

    def done(error: StorageError | None) -> None:
        # RENAME of version 3 fails when the new name is taken (draft, 6.5).
        if error is None or wire.error is not None:
            answered(error)
            return
        wire.command(packets.REMOVE, packets.text(final), lambda _: None)
        wire.command(packets.RENAME, names, answered)

    wire.command(packets.RENAME, names, done)
