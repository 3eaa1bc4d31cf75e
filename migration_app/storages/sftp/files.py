"""One file being read or written over SFTP."""

import stat
import struct
from collections.abc import Callable

from migration_app.storages.base import FLUSH_FROM, Answer, Reader, Writer
from migration_app.storages.errors import (
    AttributesRefused,
    ConnectionLost,
    OperationFailed,
    StorageError,
)
from migration_app.storages.sftp import packets
from migration_app.storages.sftp.packets import Attributes, Cursor
from migration_app.storages.sftp.wire import SftpWire, wrong_answer

COPY_DATA = b"copy-data"
COARSEST_S = 2
"""How far a time that was kept may be from what was given, as on FAT."""
Explain = Callable[[StorageError, Callable[[StorageError], None]], None]
"""Finds out what is behind an error, and gives that or the error itself."""
Look = Callable[[Callable[[Attributes | StorageError], None]], None]
"""Finds out what has a certain name."""


class SftpReader(Reader):
    """A handle open for reading."""

    def __init__(self, wire: SftpWire, handle: bytes) -> None:
        self._wire = wire
        self.handle = packets.text(handle)
        """As a field of a packet."""
        self._is_open = True

    def read(self, offset: int, size: int, answer: Answer[bytes]) -> None:
        """See Reader."""
        if self._is_open:
            self._read(offset, size, [], answer)
        else:
            answer(OperationFailed("The file is closed."))

    def _read(self, offset: int, size: int, before: list[bytes], answer: Answer[bytes]) -> None:
        def done(kind: int, data: bytes, error: StorageError | None) -> None:
            if kind == packets.DATA:
                if not 0 < len(data) <= size:
                    answer(OperationFailed("The server sent data of the wrong length."))
                elif len(data) < size:
                    # A short answer does not mean the end (draft, 6.4): the rest is asked for again.
                    before.append(data)
                    self._read(offset + len(data), size - len(data), before, answer)
                else:
                    answer(b"".join((*before, data)) if before else data)
            elif kind == packets.STATUS and Cursor(data).number() == packets.EOF:
                answer(b"".join(before))
            else:
                answer(wrong_answer(kind, data, error))

        self._wire.request(packets.READ, self.handle + struct.pack(">QI", offset, size), done)

    def measure(self, answer: Answer[tuple[int, int]]) -> None:
        """See Reader."""

        def done(kind: int, data: bytes, error: StorageError | None) -> None:
            if kind != packets.ATTRS:
                answer(wrong_answer(kind, data, error))
                return
            found = Cursor(data).attributes()
            if found.size is None or found.mtime is None:
                answer(OperationFailed("The server does not tell size and time of an open file."))
            else:
                answer((found.size, found.mtime))

        if self._is_open:
            self._wire.request(packets.FSTAT, self.handle, done)
        else:
            answer(OperationFailed("The file is closed."))

    def close(self) -> None:
        """See Reader."""
        if self._is_open:
            self._is_open = False
            self._wire.command(packets.CLOSE, self.handle, lambda _: None)


class SftpWriter(Writer):
    """A handle open for writing; WRITEs, attributes and CLOSE do not wait for each other.

    `look` is for the closed file, of a server whose word is not enough that it kept all of it.
    """

    def __init__(self, wire: SftpWire, handle: bytes, explain: Explain, look: Look | None) -> None:
        self._wire = wire
        self._handle = packets.text(handle)
        self._explain = explain
        self._look = look
        self._size = self._mtime = 0
        self._is_open = True
        self._unanswered = 0
        self._error: StorageError | None = None
        self._refusal: AttributesRefused | None = None
        self._finished: Answer[None] | None = None

    def write(self, offset: int, data: bytes, answer: Answer[None]) -> None:
        """See Writer."""
        header = self._handle + struct.pack(">QI", offset, len(data))
        self._send(packets.WRITE, header, answer, data)

    def _send(self, kind: int, body: bytes, answer: Answer[None], data: bytes = b"") -> None:
        """Ask for something that gives the file more of its contents."""

        def answered(error: StorageError | None) -> None:
            if error is None or self._error is not None:
                taken(error)
            else:
                self._explain(error, taken)

        def taken(error: StorageError | None) -> None:
            self._unanswered -= 1
            self._error = self._error or error
            answer(error)
            self._settle()

        if not self._is_open:
            answer(OperationFailed("The file is closed."))
            return
        self._unanswered += 1
        self._wire.command(kind, body, answered, data)

    def copy(self, reader: Reader, offset: int, length: int, answer: Answer[None]) -> None:
        """See Writer: `copy-data`, which OpenSSH has since 9.0 (draft-ietf-secsh-filexfer-extensions-00, 7)."""
        if not isinstance(reader, SftpReader):
            answer(OperationFailed("The file is not on this server."))
            return
        place = struct.pack(">Q", offset)
        body = (
            packets.text(COPY_DATA) + reader.handle + place + struct.pack(">Q", length) + self._handle + place
        )
        self._send(packets.EXTENDED, body, answer)

    def finish(self, *, mode: int, mtime: int, size: int, answer: Answer[None]) -> None:
        """See Writer."""
        if not self._is_open:
            answer(OperationFailed("The file is closed."))
            return
        self._finished, self._size = answer, size
        self._mtime = min(max(mtime, 0), packets.LATEST_MTIME)
        self._unanswered += 2
        attributes = packets.attributes(mode=mode & 0o777, mtime=mtime)
        self._wire.command(packets.FSETSTAT, self._handle + attributes, self._attributes_answered)
        if size >= FLUSH_FROM and b"fsync@openssh.com" in self._wire.extensions:
            self._unanswered += 1
            body = packets.text(b"fsync@openssh.com") + self._handle
            self._wire.command(packets.EXTENDED, body, self._one_answered)
        self._is_open = False
        self._wire.command(packets.CLOSE, self._handle, self._one_answered)

    def _attributes_answered(self, error: StorageError | None) -> None:
        if error is not None and not isinstance(error, ConnectionLost):
            self._refusal, error = AttributesRefused(str(error)), None
        self._one_answered(error)

    def _one_answered(self, error: StorageError | None) -> None:
        self._unanswered -= 1
        self._error = self._error or error
        self._settle()

    def _settle(self) -> None:
        if self._unanswered or self._finished is None:
            return
        if self._look is not None and self._error is None:
            look, self._look = self._look, None
            self._unanswered = 1
            look(self._looked)
            return
        finished, self._finished = self._finished, None
        finished(self._error or self._refusal)

    def _looked(self, found: Attributes | StorageError) -> None:
        if isinstance(found, StorageError):
            # It may hide files; what is lost with the connection is not known to be there.
            self._one_answered(found if isinstance(found, ConnectionLost) else None)
        elif found.file_type not in (None, stat.S_IFREG) or found.size in (None, self._size):
            if found.mtime is not None and abs(found.mtime - self._mtime) > COARSEST_S:
                # Said OK and did not do it, as ProFTPD does with IgnoreSFTPSetTimes.
                self._refusal = self._refusal or AttributesRefused("The server does not keep times.")
            self._one_answered(None)
        else:
            self._one_answered(OperationFailed(f"The server kept {found.size:,} bytes of {self._size:,}."))

    def close(self) -> None:
        """See Writer."""
        if self._is_open:
            self._is_open = False
            self._wire.command(packets.CLOSE, self._handle, lambda _: None)
