"""A tree on an SFTP server."""

import asyncio
import stat
from collections.abc import Callable

import asyncssh

from migration_app.storages.base import (
    Address,
    Answer,
    Capabilities,
    Entry,
    FolderListing,
    Guard,
    Kind,
    Path,
    Reader,
    Storage,
    Writer,
)
from migration_app.storages.errors import (
    AlreadyExists,
    ConnectionLost,
    IsAFolder,
    NotAFolder,
    NotFound,
    OperationFailed,
    StorageError,
)
from migration_app.storages.sftp import packets
from migration_app.storages.sftp.connection import open_wire
from migration_app.storages.sftp.files import SftpReader, SftpWriter
from migration_app.storages.sftp.listing import FolderLister
from migration_app.storages.sftp.packets import Attributes, Cursor
from migration_app.storages.sftp.wire import SftpWire, wrong_answer


class SftpStorage(Storage):
    """Everything below a root, over one connection and one channel."""

    def __init__(self, address: Address, root: bytes, *, guard: Guard) -> None:
        super().__init__(address, root, guard=guard)
        self._connection: asyncssh.SSHClientConnection | None = None
        self._wire: SftpWire | None = None

    @property
    def wire(self) -> SftpWire:
        """The channel; raises ConnectionLost before `connect`."""
        if self._wire is None:
            raise ConnectionLost("Not connected.")
        return self._wire

    @property
    def is_connected(self) -> bool:
        """See Storage."""
        return self._wire is not None and self._wire.error is None

    async def connect(self) -> None:
        """See Storage."""
        # The guard is asked through this object: a pool hands it to the next lease.
        found = await open_wire(self.address, lambda: self.guard())
        self._connection, self._wire, self.host_key = found
        extensions = self._wire.extensions
        self.capabilities = Capabilities(
            chunk_size=min(self._wire.longest_read, self._wire.longest_write),
            atomic_rename=b"posix-rename@openssh.com" in extensions,
            link_times=b"lsetstat@openssh.com" in extensions,
            earliest_mtime=0,
            latest_mtime=packets.LATEST_MTIME,
        )

    async def close(self) -> None:
        """See Storage."""
        if self._connection is not None:
            self.wire.fail(ConnectionLost("Closed."))
            await self._connection.wait_closed()

    def abort(self, reason: str = "The connection was dropped.") -> None:
        """See Storage."""
        if self._wire is not None:
            self._wire.fail(ConnectionLost(reason))

    def absolute(self, path: Path) -> bytes:
        """The server's name of a path."""
        if not path:
            return self.root or b"/"
        return self.root.rstrip(b"/") + b"/" + path

    async def root_entry(self) -> Entry:
        """See Storage."""
        # The root itself may be a link, as hosters have it; what lies below is never followed.
        found = await self._attributes(packets.STAT, self.absolute(b""))
        if found.file_type not in (None, stat.S_IFDIR):
            raise NotAFolder("This is a file, not a folder.")
        return Entry(b"", Kind.FOLDER, 0, found.mtime or 0, (found.mode or 0o755) & 0o7777)

    async def make_root(self) -> None:
        """See Storage."""
        parts = [part for part in self.root.split(b"/") if part]
        for count in range(1, len(parts) + 1):
            path = b"/" + b"/".join(parts[:count])
            try:
                found = await self._attributes(packets.STAT, path)
            except NotFound:
                await self._mkdir(path)
                continue
            if found.file_type not in (None, stat.S_IFDIR):
                raise NotAFolder(f"{path.decode('utf-8', 'replace')} is a file, not a folder.")

    async def _mkdir(self, path: bytes) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        body = packets.text(path) + packets.attributes(mode=0o755)
        self.wire.command(packets.MKDIR, body, _settle(future))
        await future

    async def _attributes(self, kind: int, path: bytes) -> Attributes:
        future: asyncio.Future[Attributes] = asyncio.get_running_loop().create_future()

        def done(kind: int, data: bytes, error: StorageError | None) -> None:
            if future.done():
                return
            if kind == packets.ATTRS:
                future.set_result(Cursor(data).attributes())
            else:
                future.set_exception(wrong_answer(kind, data, error))

        self.wire.request(kind, packets.text(path), done)
        return await future

    def list_folder(self, path: Path, answer: Answer[FolderListing]) -> None:
        """See Storage."""
        FolderLister(self.wire, path, self.absolute(path), answer).start()

    def open_reader(self, path: Path, answer: Answer[Reader]) -> None:
        """See Storage."""
        flags = packets.number(packets.READ_FLAG) + packets.attributes()
        wire = self.wire

        def done(kind: int, data: bytes, error: StorageError | None) -> None:
            if kind == packets.HANDLE:
                answer(SftpReader(wire, Cursor(data).text()))
            else:
                answer(wrong_answer(kind, data, error))

        wire.request(packets.OPEN, packets.text(self.absolute(path)) + flags, done)

    def open_writer(self, path: Path, answer: Answer[Writer]) -> None:
        """See Storage."""
        flags = packets.WRITE_FLAG | packets.CREATE_FLAG | packets.TRUNCATE_FLAG
        # Nobody else may read a file that is not whole yet.
        body = packets.text(self.absolute(path)) + packets.number(flags) + packets.attributes(mode=0o600)
        wire = self.wire

        def done(kind: int, data: bytes, error: StorageError | None) -> None:
            if kind == packets.HANDLE:
                answer(SftpWriter(wire, Cursor(data).text()))
            else:
                answer(wrong_answer(kind, data, error))

        wire.request(packets.OPEN, body, done)

    def make_folder(self, path: Path, answer: Answer[None]) -> None:
        """See Storage."""
        absolute = self.absolute(path)

        def done(error: StorageError | None) -> None:
            # Version 3 has no word for "is there already": a refusal has to be looked into.
            if isinstance(error, OperationFailed | AlreadyExists):
                self._explain_mkdir(absolute, error, answer)
            else:
                answer(error)

        body = packets.text(absolute) + packets.attributes(mode=0o700)
        self.wire.command(packets.MKDIR, body, done)

    def _explain_mkdir(self, absolute: bytes, refusal: StorageError, answer: Answer[None]) -> None:
        def done(kind: int, data: bytes, error: StorageError | None) -> None:
            if kind != packets.ATTRS:
                answer(error or refusal)
            elif Cursor(data).attributes().file_type in (None, stat.S_IFDIR):
                answer(None)
            else:
                answer(NotAFolder("A file or link is where a folder should be."))

        self.wire.request(packets.LSTAT, packets.text(absolute), done)

    def make_link(self, path: Path, target: bytes, mtime: int, answer: Answer[None]) -> None:
        """See Storage."""
        link = packets.text(self.absolute(path))
        # OpenSSH takes the target first, against the draft, and the others follow it (PROTOCOL, 4.1).
        self.wire.command(packets.SYMLINK, packets.text(target) + link, answer)
        if self.capabilities.link_times:
            body = packets.text(b"lsetstat@openssh.com") + link + packets.attributes(mtime=mtime)
            # A link whose time could not be set is still the link.
            self.wire.command(packets.EXTENDED, body, lambda _: None)

    def rename(self, path: Path, new_path: Path, answer: Answer[None]) -> None:
        """See Storage."""
        wire, final = self.wire, packets.text(self.absolute(new_path))
        names = packets.text(self.absolute(path)) + final
        if self.capabilities.atomic_rename:
            body = packets.text(b"posix-rename@openssh.com") + names
            wire.command(packets.EXTENDED, body, lambda error: self._explain_rename(final, error, answer))
            return

        def done(error: StorageError | None) -> None:
            # RENAME of version 3 fails when the new name is taken (draft, 6.5).
            if isinstance(error, OperationFailed | AlreadyExists):
                wire.command(packets.REMOVE, final, lambda _: None)
                wire.command(packets.RENAME, names, lambda again: self._explain_rename(final, again, answer))
            else:
                answer(error)

        wire.command(packets.RENAME, names, done)

    def _explain_rename(self, final: bytes, refusal: StorageError | None, answer: Answer[None]) -> None:
        if not isinstance(refusal, OperationFailed):
            answer(refusal)
            return

        def done(kind: int, data: bytes, error: StorageError | None) -> None:
            is_folder = kind == packets.ATTRS and Cursor(data).attributes().file_type == stat.S_IFDIR
            answer(IsAFolder("A folder is where a file should be.") if is_folder else refusal)

        self.wire.request(packets.LSTAT, final, done)

    def remove(self, path: Path, answer: Answer[None]) -> None:
        """See Storage."""
        self.wire.command(packets.REMOVE, packets.text(self.absolute(path)), answer)

    def set_attributes(self, path: Path, *, mode: int, mtime: int, answer: Answer[None]) -> None:
        """See Storage."""
        attributes = packets.attributes(mode=mode & 0o777, mtime=mtime)
        self.wire.command(packets.SETSTAT, packets.text(self.absolute(path)) + attributes, answer)


def _settle(future: "asyncio.Future[None]") -> Callable[[StorageError | None], None]:
    def done(error: StorageError | None) -> None:
        if future.done():
            return
        if error is None or isinstance(error, AlreadyExists):
            future.set_result(None)
        else:
            future.set_exception(error)

    return done
