"""Following one link: REALPATH, and LSTAT of what the server says it leads to."""

import stat

from migration_app.storages.base import Answer, Entry, Kind
from migration_app.storages.errors import OperationFailed, StorageError
from migration_app.storages.names import path_below
from migration_app.storages.sftp import packets
from migration_app.storages.sftp.listing import KINDS, one_name
from migration_app.storages.sftp.packets import Cursor
from migration_app.storages.sftp.wire import SftpWire, wrong_answer


class LinkFollower:
    """One link being followed. The root may be reached through links itself, so the server is asked about it too,
    in the same flight, unless `real_roots` has its answer."""

    def __init__(
        self, wire: SftpWire, root: bytes, link: bytes, real_roots: dict[bytes, bytes], answer: Answer[Entry]
    ) -> None:
        self._wire = wire
        self._root = root
        self._link = link
        self._real_roots = real_roots
        self._answer = answer
        self._real = b""
        self._error: StorageError | None = None
        self._outstanding = 0

    def start(self) -> None:
        """Send the first requests."""
        self._outstanding = 1
        if self._root not in self._real_roots:
            self._outstanding = 2
            self._wire.request(packets.REALPATH, packets.text(self._root), self._root_told)
        self._wire.request(packets.REALPATH, packets.text(self._link), self._link_told)

    def _root_told(self, kind: int, data: bytes, error: StorageError | None) -> None:
        if kind == packets.NAME:
            self._real_roots[self._root] = one_name(data)
        else:
            self._error = wrong_answer(kind, data, error)
        self._go_on()

    def _link_told(self, kind: int, data: bytes, error: StorageError | None) -> None:
        if kind == packets.NAME:
            self._real = one_name(data)
        else:
            self._error = wrong_answer(kind, data, error)
        self._go_on()

    def _go_on(self) -> None:
        self._outstanding -= 1
        if self._outstanding:
            return
        if self._error is not None:
            self._answer(self._error)
            return
        try:
            path = path_below(self._real_roots[self._root], self._real)
        except StorageError as error:
            self._answer(error)
            return

        def looked(kind: int, data: bytes, error: StorageError | None) -> None:
            self._answer(_entry(path, kind, data, error))

        name = self._root.rstrip(b"/") + b"/" + path
        self._wire.request(packets.LSTAT, packets.text(name), looked)


def _entry(path: bytes, kind: int, data: bytes, error: StorageError | None) -> Entry | StorageError:
    if kind != packets.ATTRS:
        return wrong_answer(kind, data, error)
    found = Cursor(data).attributes()
    if found.file_type in (None, stat.S_IFLNK):
        # Some servers only tidy the path that they are given.
        return OperationFailed("It cannot be told where it leads to.")
    what = KINDS.get(found.file_type, Kind.OTHER)
    size = (found.size or 0) if what is Kind.FILE else 0
    return Entry(path, what, size, found.mtime or 0, (found.mode or 0) & 0o7777)
