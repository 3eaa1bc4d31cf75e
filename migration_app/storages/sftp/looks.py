"""Looking at what has a name, and at what a link holds, on servers that follow links where they should not.

ProFTPD's mod_sftp (1.3.8) answers LSTAT for what a link leads to, where that is there, and READLINK with a whole path.
"""

import posixpath
import stat
from collections.abc import Callable
from dataclasses import replace

from migration_app.storages.errors import ConnectionLost, StorageError
from migration_app.storages.sftp import packets
from migration_app.storages.sftp.packets import Attributes, Cursor
from migration_app.storages.sftp.wire import SftpWire, wrong_answer

Explain = Callable[[Attributes | StorageError], None]
LINK_MODE = stat.S_IFLNK | 0o777


def look(wire: SftpWire, name: bytes, then: Explain) -> None:
    """Find out what has a name (a field of a packet): LSTAT and, where that may follow links, READLINK beside it."""
    unanswered = 2 if wire.may_follow_links else 1
    found: Attributes | StorageError = ConnectionLost("Not answered.")
    is_link = False

    def looked(kind: int, data: bytes, error: StorageError | None) -> None:
        nonlocal found
        found = Cursor(data).attributes() if kind == packets.ATTRS else wrong_answer(kind, data, error)
        go_on()

    def read(kind: int, data: bytes, error: StorageError | None) -> None:
        nonlocal is_link
        is_link = kind == packets.NAME
        go_on()

    def go_on() -> None:
        nonlocal unanswered
        unanswered -= 1
        if unanswered:
            return
        if is_link and not isinstance(found, ConnectionLost):
            then(replace(found if isinstance(found, Attributes) else Attributes(), mode=LINK_MODE))
        else:
            then(found)

    wire.request(packets.LSTAT, name, looked)
    if wire.may_follow_links:
        wire.request(packets.READLINK, name, read)


def as_it_was_made(told: bytes, link: bytes, length: int) -> bytes:
    """What a link holds, when its size is `length` and the server tells of a path. A relative target that was told as
    a whole path is longer than the link, as a rule, or it is as long as the link again when it is made relative.

    `link` is the server's name of it.
    """
    if not length or len(told) == length or not (told.startswith(b"/") and link.startswith(b"/")):
        return told
    relative = posixpath.relpath(told, posixpath.dirname(link))
    return relative if len(relative) == length or len(told) > length else told
