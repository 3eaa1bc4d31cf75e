"""Paths as bytes in the engine and as text in columns and JSON."""

import hashlib
import re

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


def _unescaped(match: re.Match[bytes]) -> bytes:
    return bytes([int(match[1], 16)]) if match[1] else b"\\"


def path_hash(path: bytes) -> int:
    """A signed 64-bit number to find a path by."""
    return int.from_bytes(hashlib.blake2b(path, digest_size=8).digest(), "big", signed=True)


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
