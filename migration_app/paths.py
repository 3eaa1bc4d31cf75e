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
