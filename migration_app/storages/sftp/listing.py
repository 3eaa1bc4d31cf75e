"""Listing one folder: OPENDIR, READDIRs two at a time, READLINK for links. Attributes come with the names."""

import stat
from dataclasses import replace

from migration_app.storages.base import Answer, Entry, FolderListing, Kind, Path
from migration_app.storages.errors import (
    ConnectionLost,
    NameRefused,
    NotAFolder,
    OperationFailed,
    PermissionDenied,
    StorageError,
)
from migration_app.storages.names import LONGEST_PATH, refusal_of
from migration_app.storages.sftp import packets
from migration_app.storages.sftp.looks import as_it_was_made, look
from migration_app.storages.sftp.packets import Attributes, Cursor, MalformedPacket
from migration_app.storages.sftp.wire import SftpWire, wrong_answer

_AHEAD = 2
KINDS = {stat.S_IFREG: Kind.FILE, stat.S_IFDIR: Kind.FOLDER, stat.S_IFLNK: Kind.LINK}
MOST_LINK_TARGET = 4096
LONGEST_LINK_ASKED = 2048
"""Of servers that are not OpenSSH: ProFTPD's mod_sftp (1.3.8) dies of READLINK of one of more than some 3,000 bytes."""
MOST_LINKS_ASKED = 4096
MOST_ENTRIES = 1_000_000
"""Of one folder. One of 50,000 is already slow everywhere; a listing that goes on is no folder but an attack."""
MOST_BYTES = 128 * 1024 * 1024
"""Of the names of one folder and what its links hold."""
MOST_EMPTY_ANSWERS = 16
"""How many answers to READDIR may hold no name one after another."""


class FolderLister:
    """One folder being listed. A server may answer in another order than it was asked."""

    def __init__(self, wire: SftpWire, path: Path, absolute: bytes, answer: Answer[FolderListing]) -> None:
        self._wire = wire
        self._path = path
        self._absolute = absolute
        self._answer = answer
        self._handle: bytes | None = None
        self._entries: list[Entry] = []
        self._problems: list[tuple[Path, StorageError]] = []
        self._error: StorageError | None = None
        self._outstanding = 0
        self._reading = 0
        self._names_seen = 0
        self._bytes_seen = 0
        self._empty_answers = 0
        self._is_at_end = False
        self._is_proved = False

    def start(self) -> None:
        """Send the first requests."""
        name = packets.text(self._absolute)
        if self._path:
            # OPENDIR follows a link, and version 3 cannot forbid it. The root may be one.
            self._outstanding += 1
            look(self._wire, name, self._looked)
        self._outstanding += 1
        self._wire.request(packets.OPENDIR, name, self._opened)

    def _looked(self, found: Attributes | StorageError) -> None:
        self._outstanding -= 1
        if isinstance(found, Attributes) and found.file_type not in (None, stat.S_IFDIR):
            self._error = NotAFolder("Not a folder, or a symbolic link, which is not followed.")
        self._begin()

    def _opened(self, kind: int, data: bytes, error: StorageError | None) -> None:
        if kind == packets.HANDLE:
            self._handle = Cursor(data).text()
        else:
            self._error = self._error or wrong_answer(kind, data, error)
        self._outstanding -= 1
        self._begin()

    def _begin(self) -> None:
        if self._outstanding:
            return
        if self._error is not None:
            self._end()
            self._finish()
        else:
            self._read_on()

    def _end(self) -> None:
        """Read no more; close the folder when nothing is read from it any more."""
        self._is_at_end = True
        if not self._reading and self._handle is not None:
            handle, self._handle = self._handle, None
            self._wire.command(packets.CLOSE, packets.text(handle), lambda _: None)

    def _read_on(self) -> None:
        while (
            self._reading < _AHEAD
            and self._outstanding < MOST_LINKS_ASKED
            and not self._is_at_end
            and self._handle is not None
        ):
            self._reading += 1
            self._outstanding += 1
            self._wire.request(packets.READDIR, packets.text(self._handle), self._listed)

    def _listed(self, kind: int, data: bytes, error: StorageError | None) -> None:
        names, failure = None, None
        if kind == packets.NAME:
            names = _names(data)
        elif kind != packets.STATUS or Cursor(data).number() != packets.EOF:
            failure = wrong_answer(kind, data, error)
        self._reading -= 1
        self._outstanding -= 1
        if names is not None:
            self._take(names)
        # After the end a server may say of its handle what it likes.
        elif failure is not None and (not self._is_at_end or isinstance(failure, ConnectionLost)):
            self._error = self._error or failure
        if names is None or self._error is not None or self._is_at_end:
            self._end()
        else:
            self._read_on()
        self._finish()

    def _take(self, names: list[tuple[bytes, bytes, Attributes]]) -> None:
        self._names_seen += len(names)
        self._empty_answers = 0 if names else self._empty_answers + 1
        for name, longname, found in names:
            self._bytes_seen += len(name)
            if name in (b".", b".."):
                continue
            path = self._path + b"/" + name if self._path else name
            refused = refusal_of(path, name)
            if refused is None and len(self._absolute) + 1 + len(name) >= LONGEST_PATH:
                # OpenSSH cuts such a path off and gives the attributes of what it then finds, as its folder's.
                refused = NameRefused(f"The whole path is longer than {LONGEST_PATH - 1:,} bytes.")
            if refused is not None:
                self._problems.append((path, refused))
            else:
                self._add(path, longname, found)
        if self._names_seen > MOST_ENTRIES or self._bytes_seen > MOST_BYTES:
            self._give_up(
                OperationFailed(f"The folder has more than {MOST_ENTRIES:,} names, or endless ones.")
            )
        elif self._empty_answers > MOST_EMPTY_ANSWERS:
            self._give_up(OperationFailed("The server's listing of the folder does not end."))

    def _give_up(self, error: StorageError) -> None:
        self._error = self._error or error
        self._entries.clear()
        self._problems.clear()

    def _entered(self, kind: int, data: bytes, error: StorageError | None) -> None:
        found = wrong_answer(kind, data, error)
        if isinstance(found, PermissionDenied | ConnectionLost):
            self._error = found
        self._outstanding -= 1
        self._finish()

    def _add(self, path: Path, longname: bytes, found: Attributes) -> None:
        kind = _kind(found, longname)
        size = (found.size or 0) if kind is Kind.FILE else 0
        entry = Entry(path, kind, size, found.mtime or 0, (found.mode or 0o644) & 0o7777)
        if kind is not Kind.LINK:
            self._entries.append(entry)
            return
        if self._wire.may_follow_links and (found.size or 0) > LONGEST_LINK_ASKED:
            self._problems.append(
                (path, NameRefused("The link is longer than this server can be asked about."))
            )
            return
        self._outstanding += 1
        absolute = self._absolute.rstrip(b"/") + b"/" + path.rpartition(b"/")[2]

        def done(kind: int, data: bytes, error: StorageError | None) -> None:
            self._add_link(entry, absolute, found.size or 0, kind, data, error)
            self._outstanding -= 1
            self._read_on()
            self._finish()

        self._wire.request(packets.READLINK, packets.text(absolute), done)

    def _add_link(
        self, entry: Entry, absolute: bytes, length: int, kind: int, data: bytes, error: StorageError | None
    ) -> None:
        refused = error
        if kind == packets.NAME:
            target = one_name(data)
            if self._wire.may_follow_links:
                target = as_it_was_made(target, absolute, length)
            if 0 < len(target) <= MOST_LINK_TARGET and b"\0" not in target:
                self._bytes_seen += len(target)
                self._entries.append(replace(entry, target=target))
                return
            refused = NameRefused("The server sent a link target that cannot be one.")
        self._problems.append((entry.path, refused or wrong_answer(kind, data, error)))

    def _finish(self) -> None:
        if not self._is_at_end or self._outstanding:
            return
        if not self._names_seen and self._error is None and not self._is_proved:
            # OpenSSH leaves out what it cannot look at, its own `.` too: a folder that may be read but not entered.
            self._is_proved = True
            self._outstanding += 1
            self._wire.request(packets.LSTAT, packets.text(self._absolute + b"/."), self._entered)
            return
        # A folder that is changed meanwhile may give a name twice.
        entries = list({entry.path: entry for entry in self._entries}.values())
        self._answer(self._error or FolderListing(entries, self._problems))


def _names(data: bytes) -> list[tuple[bytes, bytes, Attributes]]:
    """The names of a NAME packet, with their lines as of `ls -l`, and their attributes."""
    cursor = Cursor(data)
    return [(cursor.text(), cursor.text(), cursor.attributes()) for _ in range(cursor.number())]


def one_name(data: bytes) -> bytes:
    """The name of a NAME packet that answers READLINK or REALPATH."""
    cursor = Cursor(data)
    if cursor.number() != 1:
        raise MalformedPacket("The server gave a link two targets.")
    return cursor.text()


def _kind(found: Attributes, longname: bytes) -> Kind:
    if found.file_type is not None:
        return KINDS.get(found.file_type, Kind.OTHER)
    # A server without permissions in its attributes still writes a line as `ls -l` does.
    return {b"d": Kind.FOLDER, b"l": Kind.LINK, b"-": Kind.FILE}.get(longname[:1], Kind.FILE)
