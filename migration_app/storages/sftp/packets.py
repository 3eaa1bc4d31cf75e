"""SFTP version 3 packets: numbers, building and reading (draft-ietf-secsh-filexfer-02)."""

import stat
import struct
from dataclasses import dataclass

SFTP_VERSION = 3
INIT, VERSION = 1, 2
OPEN, CLOSE, READ, WRITE, LSTAT, FSTAT, SETSTAT, FSETSTAT = 3, 4, 5, 6, 7, 8, 9, 10
OPENDIR, READDIR, REMOVE, MKDIR, RMDIR = 11, 12, 13, 14, 15
REALPATH, STAT, RENAME, READLINK, SYMLINK = 16, 17, 18, 19, 20
STATUS, HANDLE, DATA, NAME, ATTRS = 101, 102, 103, 104, 105
EXTENDED, EXTENDED_REPLY = 200, 201

OK, EOF, NO_SUCH_FILE, PERMISSION_DENIED, FAILURE, BAD_MESSAGE = 0, 1, 2, 3, 4, 5
NO_CONNECTION, CONNECTION_LOST = 6, 7
OP_UNSUPPORTED, FILE_ALREADY_EXISTS, NO_SPACE, QUOTA_EXCEEDED = 8, 11, 14, 15

READ_FLAG, WRITE_FLAG, CREATE_FLAG, TRUNCATE_FLAG, EXCLUSIVE_FLAG = 0x01, 0x02, 0x08, 0x10, 0x20

_HAS_SIZE, _HAS_IDS, _HAS_MODE, _HAS_TIMES, _HAS_EXTENDED = 0x01, 0x02, 0x04, 0x08, 0x80000000
LATEST_MTIME = 2**32 - 1


class MalformedPacket(Exception):
    """The server sent something that is no SFTP."""


def text(value: bytes) -> bytes:
    """A string field: its length and its bytes."""
    return struct.pack(">I", len(value)) + value


def number(value: int) -> bytes:
    """A uint32 field."""
    return struct.pack(">I", value)


def attributes(*, mode: int | None = None, mtime: int | None = None) -> bytes:
    """An ATTRS field. Times of version 3 are unsigned 32-bit seconds: what is outside is set to the nearest."""
    flags, fields = 0, b""
    if mode is not None:
        flags |= _HAS_MODE
        fields += number(mode)
    if mtime is not None:
        flags |= _HAS_TIMES
        seconds = min(max(mtime, 0), LATEST_MTIME)
        fields += struct.pack(">II", seconds, seconds)
    return number(flags) + fields


@dataclass(frozen=True, slots=True)
class Attributes:
    """What a server said of a file; None where it said nothing."""

    size: int | None = None
    mode: int | None = None
    mtime: int | None = None

    @property
    def file_type(self) -> int | None:
        """The type bits of the mode, or None."""
        return stat.S_IFMT(self.mode) if self.mode is not None else None


class Cursor:
    """Reads fields of a packet one after another; raises MalformedPacket when they are not there."""

    __slots__ = ("_data", "_offset")

    def __init__(self, data: bytes, offset: int = 0) -> None:
        self._data = data
        self._offset = offset

    def number(self) -> int:
        """A uint32."""
        end = self._offset + 4
        if end > len(self._data):
            raise MalformedPacket("The server sent a packet that is too short.")
        value = int.from_bytes(self._data[self._offset : end], "big")
        self._offset = end
        return value

    def long(self) -> int:
        """A uint64."""
        return self.number() << 32 | self.number()

    def text(self) -> bytes:
        """A string."""
        length = self.number()
        end = self._offset + length
        if end > len(self._data):
            raise MalformedPacket("The server sent a packet that is too short.")
        value = self._data[self._offset : end]
        self._offset = end
        return value

    def is_at_end(self) -> bool:
        """Whether nothing follows."""
        return self._offset >= len(self._data)

    def attributes(self) -> Attributes:
        """An ATTRS field."""
        flags = self.number()
        size = self.long() if flags & _HAS_SIZE else None
        if flags & _HAS_IDS:
            self.long()
        mode = self.number() if flags & _HAS_MODE else None
        mtime = None
        if flags & _HAS_TIMES:
            self.number()
            mtime = self.number()
        if flags & _HAS_EXTENDED:
            for _ in range(self.number()):
                self.text()
                self.text()
        return Attributes(size, mode, mtime)
