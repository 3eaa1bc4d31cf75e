"""Paths as bytes in the engine and as text in columns and JSON."""

import hashlib
import re
from array import array
from bisect import bisect_left
from collections.abc import Iterable

_ESCAPED = re.compile(rb"\\(?:\\|x([0-9a-f]{2}))")


def path_text(path: bytes) -> str:
    r"""A reversible text: UTF-8 as it is, other bytes as `\xNN`, a backslash doubled.

    >>> path_text(b"caf\xc3\xa9/\xff\\")
    'café/\\xff\\\\'
    """
    return path.replace(b"\\", b"\\\\").decode("utf-8", "backslashreplace")


def path_bytes(text: str) -> bytes:
    r"""The inverse of `path_text`.

    >>> path_bytes(path_text(b"\xff\\x41")) == b"\xff\\x41"
    True
    """
    return _ESCAPED.sub(_unescaped, text.encode())


def path_shown(path: bytes) -> str:
    r"""A path as answers have it: UTF-8 as it is, and only what is none in the form of `path_text`.

    >>> [path_shown(path) for path in (b"a\\b", b"\xff\\b")]
    ['a\\b', '\\xff\\\\b']
    """
    try:
        return path.decode()
    except UnicodeDecodeError:
        return path_text(path)


def text_shown(text: str) -> str:
    """`path_shown` of what `path_text` made."""
    # Nearly all paths are the same in both forms.
    return path_shown(path_bytes(text)) if "\\" in text else text


def path_meant(text: str) -> bytes:
    r"""The inverse of `path_shown`, but for a name that spells out bytes which are no UTF-8.

    >>> [path_meant(path_shown(path)) for path in (b"a\\\\b", b"\xff\\x41")]
    [b'a\\\\b', b'\xff\\x41']
    """
    path = path_bytes(text)
    try:
        path.decode()
    except UnicodeDecodeError:
        return path
    return text.encode()


def _unescaped(match: re.Match[bytes]) -> bytes:
    return bytes([int(match[1], 16)]) if match[1] else b"\\"


def path_hash(path: bytes) -> int:
    """A signed 64-bit number to find a path by, which those of one folder have near each other: written in the order of
    the walk they go to the same pages of an index, however many there are.

    >>> low, high = hashes_in(b"a/b")
    >>> low <= path_hash(b"a/b/c") <= high, low <= path_hash(b"a/c") <= high
    (True, False)
    """
    above, _, name = path.rpartition(b"/")
    return hashes_in(above)[0] + int.from_bytes(_digest(name, 4), "big")


def hashes_in(folder: bytes) -> tuple[int, int]:
    """The lowest and the highest `path_hash` that what lies directly in a folder may have."""
    low = int.from_bytes(_digest(folder, 4), "big", signed=True) << 32
    return low, low + 2**32 - 1


def _digest(data: bytes, size: int) -> bytes:
    return hashlib.blake2b(data, digest_size=size).digest()


class PathSet:
    """Very many paths in little memory, 8 bytes each. One path in 10¹³ is wrongly taken for one of a million."""

    __slots__ = ("_hashes",)

    def __init__(self, paths: Iterable[bytes] = ()) -> None:
        # Two steps: a sorted list of numbers alone takes five times as much as the array.
        self._hashes = array("q", map(self._hash, paths))
        self._hashes = array("q", sorted(self._hashes))

    def __len__(self) -> int:
        return len(self._hashes)

    def __contains__(self, path: bytes) -> bool:
        wanted = self._hash(path)
        place = bisect_left(self._hashes, wanted)
        return place < len(self._hashes) and self._hashes[place] == wanted

    @staticmethod
    def _hash(path: bytes) -> int:
        return int.from_bytes(_digest(path, 8), "big", signed=True)


def ancestors(path: bytes) -> list[bytes]:
    """The folders above a path, nearest first, without the root.

    >>> ancestors(b"a/b/c")
    [b'a/b', b'a']
    """
    found = []
    while b"/" in path:
        path = path.rpartition(b"/")[0]
        found.append(path)
    return found
