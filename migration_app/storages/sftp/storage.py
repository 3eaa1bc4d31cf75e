"""A tree on an SFTP server."""

import asyncio
import stat
from collections.abc import Callable

import asyncssh

from migration_app.storages.base import (
    Address,
    Answered,
    Entry,
    Guard,
    Kind,
    Listing,
    Path,
    Reader,
    Storage,
    Writer,
    parent_of,
    sibling,
)
from migration_app.storages.errors import (
    AlreadyExists,
    ConnectionLost,
    NotAFolder,
    NotFound,
    OperationFailed,
    StorageError,
)
from migration_app.storages.sftp import packets
from migration_app.storages.sftp.connection import open_wire
from migration_app.storages.sftp.files import SftpReader, SftpWriter, rename
from migration_app.storages.sftp.listing import FolderLister
from migration_app.storages.sftp.packets import Attributes, Cursor
from migration_app.storages.sftp.wire import SftpWire, status_error


class SftpStorage(Storage):
    """Everything below a root, over one connection and one channel."""

    concurrency = 64

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
    def is_usable(self) -> bool:
        """Whether the channel is there."""
        return self._wire is not None and self._wire.error is None

    async def connect(self) -> None:
        """See Storage."""
        # The guard is asked through this object: a pool hands it to the next lease.
        found = await open_wire(self.address, lambda: self.guard())
        self._connection, self._wire, self.host_key = found

    async def close(self) -> None:
        """See Storage."""
        if self._connection is not None:
            self.wire.fail(ConnectionLost("Closed."))
            await self._connection.wait_closed()

    def abort(self) -> None:
        """See Storage."""
        if self._wire is not None:
            self._wire.abort()

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
                future.set_exception(_error_of(kind, data, error))

        self.wire.request(kind, packets.text(path), done)
        return await future

    def list_folder(self, path: Path, listed: Callable[[Listing], None]) -> None:
        """See Storage."""
        FolderLister(self.wire, path, self.absolute(path), listed).start()

    def make_folder(self, path: Path, answered: Answered) -> None:
        """See Storage."""
        absolute = self.absolute(path)

        def done(error: StorageError | None) -> None:
            # Version 3 has no word for "is there already": a refusal has to be looked into.
            if isinstance(error, OperationFailed | AlreadyExists):
                self._explain_mkdir(absolute, error, answered)
            else:
                answered(error)

        self.wire.command(
            packets.MKDIR, packets.text(absolute) + packets.attributes(mode=0o700), done
        )

    def _explain_mkdir(self, absolute: bytes, refusal: StorageError, answered: Answered) -> None:
        def done(kind: int, data: bytes, error: StorageError | None) -> None:
            if kind != packets.ATTRS:
                answered(error or refusal)
            elif Cursor(data).attributes().file_type in (None, stat.S_IFDIR):
                answered(AlreadyExists("The folder is there already."))
            else:
                answered(NotAFolder("A file or link is where a folder should be."))

        self.wire.request(packets.LSTAT, packets.text(absolute), done)

    def make_link(
        self, path: Path, target: bytes, temp_name: bytes, mtime: int, answered: Answered
    ) -> None:
        """See Storage."""
        temp, final = self.absolute(sibling(path, temp_name)), self.absolute(path)

        def linked(error: StorageError | None) -> None:
            if error is not None:
                answered(error)
            else:
                rename(self.wire, temp, final, published)

        def published(error: StorageError | None) -> None:
            if error is not None:
                self.wire.command(packets.REMOVE, packets.text(temp), lambda _: answered(error))
            else:
                answered(None)

        # What an earlier attempt left behind; that there is nothing is fine.
        self.wire.command(packets.REMOVE, packets.text(temp), lambda _: None)
        # OpenSSH takes the target first, against the draft, and the others follow it (PROTOCOL, 4.1).
        self.wire.command(packets.SYMLINK, packets.text(target) + packets.text(temp), linked)
        if b"lsetstat@openssh.com" in self.wire.extensions:
            body = packets.text(b"lsetstat@openssh.com") + packets.text(temp)
            self.wire.command(packets.EXTENDED, body + packets.attributes(mtime=mtime), lambda _: None)

    def set_folder(self, path: Path, *, mode: int, mtime: int, answered: Answered) -> None:
        """See Storage."""
        body = packets.text(self.absolute(path)) + packets.attributes(mode=mode, mtime=mtime)
        self.wire.command(packets.SETSTAT, body, answered)

    def open_reader(self, entry: Entry, on_data: Callable[[], None]) -> Reader:
        """See Storage."""
        return SftpReader(self.wire, self.absolute(entry.path), entry, on_data)

    def open_writer(self, path: Path, temp_name: bytes, on_ready: Callable[[], None]) -> Writer:
        """See Storage."""
        parent = self.absolute(parent_of(path)).rstrip(b"/")
        return SftpWriter(self.wire, parent + b"/" + temp_name, self.absolute(path), on_ready)


def _settle(future: "asyncio.Future[None]") -> Answered:
    def done(error: StorageError | None) -> None:
        if future.done():
            return
        if error is None or isinstance(error, AlreadyExists):
            future.set_result(None)
        else:
            future.set_exception(error)

    return done


def _error_of(kind: int, data: bytes, error: StorageError | None) -> StorageError:
    found = error or status_error(kind, data)
    return found or OperationFailed("The server gave an answer of the wrong kind.")
