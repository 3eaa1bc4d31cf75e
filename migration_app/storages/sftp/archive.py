"""Headers of archives as GNU tar writes and reads them (GNU tar manual, "Basic Tar Format"; POSIX.1-1988 ustar).

Only what bundles need: Python's tarfile takes 25 µs for a header, which is as much as all else that a small file costs.
"""

from dataclasses import dataclass

BLOCK = 512
END = bytes(2 * BLOCK)
_NAME = 100
_BLANK_SUM = b" " * 8
_MAGIC = b"ustar  \0"
_TAIL = bytes(BLOCK - 265)
_LONG_NAME = b"L"
_LONG_LINK = b"././@LongLink"
_FILES = (b"0", b"\0", b"7")


class MalformedArchive(Exception):
    """What should be an archive is none."""


@dataclass(frozen=True, slots=True)
class Header:
    """What a header says: `size` in bytes, of what follows it and is filled up to whole blocks."""

    name: bytes
    size: int
    is_file: bool
    is_long_name: bool
    """What follows is the name of the next entry."""

    @property
    def following(self) -> int:
        """Length of what follows, in whole blocks."""
        return self.size + padding(self.size)


def padding(size: int) -> int:
    """What is missing to whole blocks."""
    return -size % BLOCK


def file_header(name: bytes, *, size: int, mode: int, mtime: int) -> bytes:
    """The header of a file, and before it that of its name where it is long. `size` and `mtime` from 0 to 2**33 - 1.

    >>> read_header(file_header(b"a/b", size=5, mode=0o644, mtime=0))
    Header(name=b'a/b', size=5, is_file=True, is_long_name=False)
    """
    if len(name) <= _NAME:
        return _header(name, size, mode, mtime, b"0")
    long_name = name + b"\0"
    first = _header(_LONG_LINK, len(long_name), 0, 0, _LONG_NAME)
    return first + long_name + bytes(padding(len(long_name))) + _header(name[:_NAME], size, mode, mtime, b"0")


def _header(name: bytes, size: int, mode: int, mtime: int, kind: bytes) -> bytes:
    # Mode, owner, group, size, mtime.
    before = name.ljust(_NAME, b"\0") + b"%07o\0%07o\0%07o\0%011o\0%011o\0" % (mode, 0, 0, size, mtime)
    checksum = sum(before) + sum(_BLANK_SUM) + sum(kind) + sum(_MAGIC)
    return before + b"%06o\0 " % checksum + kind + bytes(_NAME) + _MAGIC + _TAIL


def read_header(block: bytes) -> Header | None:
    """What a block of `BLOCK` bytes says; None for one of zeros, of which the end is made. Raises MalformedArchive."""
    if not block[0] and not block.strip(b"\0"):
        return None
    kind = block[156:157]
    return Header(
        block[:_NAME].partition(b"\0")[0], _number(block[124:136]), kind in _FILES, kind == _LONG_NAME
    )


def _number(field: bytes) -> int:
    if field[0] & 0x80:
        # Where octal digits do not suffice (base-256); what is below 0 makes no sense for a size.
        return int.from_bytes(field, "big") & ~(0x80 << 88)
    try:
        return int(field.rstrip(b"\0 ") or b"0", 8)
    except ValueError:
        raise MalformedArchive from None
