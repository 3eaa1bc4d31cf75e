"""Listing one folder: OPENDIR, READDIRs two at a time, READLINK for links. Attributes come with the names."""

import stat

from migration_app.storages.base import Answer, Entry, FolderListing, Kind, Path
from migration_app.storages.errors import NameRefused, StorageError
from migration_app.storages.names import refusal_of
from migration_app.storages.sftp import packets
from migration_app.storages.sftp.packets import Attributes, Cursor, MalformedPacket
from migration_app.storages.sftp.wire import SftpWire, wrong_answer

_AHEAD = 2
_KINDS = {stat.S_IFREG: Kind.FILE, stat.S_IFDIR: Kind.FOLDER, stat.S_IFLNK: Kind.LINK}
MOST_LINK_TARGET = 4096


class FolderLister:
    """One folder being listed."""

    def __init__(self, wire: SftpWire, path: Path, absolute: bytes, answer: Answer[FolderListing]) -> None:
        self._wire = wire
        self._path = path
        self._absolute = absolute
        self._answer = answer
        self._handle = b""
        self._entries: list[Entry] = []
        self._problems: list[tuple[Path, StorageError]] = []
        self._error: StorageError | None = None
        self._outstanding = 0
        self._is_at_end = False

    def start(self) -> None:
        """Send the first request."""
        self._wire.request(packets.OPENDIR, packets.text(self._absolute), self._opened)

    def _opened(self, kind: int, data: bytes, error: StorageError | None) -> None:
        if kind != packets.HANDLE:
            self._answer(wrong_answer(kind, data, error))
            return
        self._handle = Cursor(data).text()
        for _ in range(_AHEAD):
            self._read()

    def _read(self) -> None:
        self._outstanding += 1
        self._wire.request(packets.READDIR, packets.text(self._handle), self._names)

    def _names(self, kind: int, data: bytes, error: StorageError | None) -> None:
        self._outstanding -= 1
        if kind == packets.NAME and not self._is_at_end:
            self._take(data)
            self._read()
        elif not self._is_at_end:
            self._is_at_end = True
            is_end = kind == packets.STATUS and Cursor(data).number() == packets.EOF
            if not is_end:
                self._error = wrong_answer(kind, data, error)
            self._wire.command(packets.CLOSE, packets.text(self._handle), lambda _: None)
        self._finish()

    def _take(self, data: bytes) -> None:
        cursor = Cursor(data)
        for _ in range(cursor.number()):
            name = cursor.text()
            longname = cursor.text()
            found = cursor.attributes()
            if name in (b".", b".."):
                continue
            path = self._path + b"/" + name if self._path else name
            refused = refusal_of(path, name)
            if refused is not None:
                self._problems.append((path, refused))
            else:
                self._add(path, longname, found)

    def _add(self, path: Path, longname: bytes, found: Attributes) -> None:
        kind = _kind(found, longname)
        size = (found.size or 0) if kind is Kind.FILE else 0
        entry = Entry(path, kind, size, found.mtime or 0, (found.mode or 0o644) & 0o7777)
        if kind is not Kind.LINK:
            self._entries.append(entry)
            return
        self._outstanding += 1
        absolute = self._absolute.rstrip(b"/") + b"/" + path.rpartition(b"/")[2]

        def done(kind: int, data: bytes, error: StorageError | None) -> None:
            self._outstanding -= 1
            self._add_link(entry, kind, data, error)
            self._finish()

        self._wire.request(packets.READLINK, packets.text(absolute), done)

    def _add_link(self, entry: Entry, kind: int, data: bytes, error: StorageError | None) -> None:
        if kind == packets.NAME:
            cursor = Cursor(data)
            if cursor.number() != 1:
                raise MalformedPacket("The server gave a link two targets.")
            target = cursor.text()
            if 0 < len(target) <= MOST_LINK_TARGET and b"\0" not in target:
                self._entries.append(
                    Entry(entry.path, Kind.LINK, len(target), entry.mtime, entry.mode, target)
                )
                return
            error = NameRefused("The server sent a link target that cannot be one.")
            kind = packets.STATUS
        self._problems.append((entry.path, error or wrong_answer(kind, data, error)))

    def _finish(self) -> None:
        if self._is_at_end and self._outstanding == 0:
            self._answer(self._error or FolderListing(self._entries, self._problems))


def _kind(found: Attributes, longname: bytes) -> Kind:
    if found.file_type is not None:
        return _KINDS.get(found.file_type, Kind.OTHER)
    # A server without permissions in its attributes still writes a line as `ls -l` does.
    return {b"d": Kind.FOLDER, b"l": Kind.LINK, b"-": Kind.FILE}.get(longname[:1], Kind.FILE)
