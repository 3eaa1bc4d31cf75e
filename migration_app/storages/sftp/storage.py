"""A tree on an SFTP server."""

import asyncio
import contextlib
import stat
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, TypeVar

import asyncssh

from migration_app.storages.base import (
    OWNER_WRITES,
    Address,
    Answer,
    BundledReaders,
    BundledWriters,
    Capabilities,
    Entry,
    Features,
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
    AttributesRefused,
    ConnectionLost,
    NameRefused,
    NoSpace,
    NotAFolder,
    NotFound,
    OperationFailed,
    PermissionDenied,
    SourceChanged,
    StorageError,
)
from migration_app.storages.names import path_refusal, shown
from migration_app.storages.sftp import packets
from migration_app.storages.sftp.connection import has_shell, open_wire
from migration_app.storages.sftp.digests import digest_beginning_by_command, digest_by_command
from migration_app.storages.sftp.files import COPY_DATA, SftpReader, SftpWriter
from migration_app.storages.sftp.find_ahead import FindAhead
from migration_app.storages.sftp.links import LinkFollower
from migration_app.storages.sftp.listing import FolderLister
from migration_app.storages.sftp.looks import Explain, look
from migration_app.storages.sftp.new_links import LSETSTAT, NewLink
from migration_app.storages.sftp.packets import Attributes, Cursor
from migration_app.storages.sftp.refusals import about, file_or, folder_or, is_full, taken_or
from migration_app.storages.sftp.renames import POSIX_RENAME, Rename
from migration_app.storages.sftp.tar_programs import has_gnu_tar
from migration_app.storages.sftp.tar_readers import TarReaders
from migration_app.storages.sftp.tar_writers import TarWriters
from migration_app.storages.sftp.wire import Callback, SftpWire, wrong_answer

NEAR_FILES = 64
"""Small files under way, where a round trip costs nothing."""
FAR_FILES = 256
MORE_FILES_PER_S = 4800
"""So many more for each second of a round trip."""
T = TypeVar("T")
Refusal = TypeVar("Refusal", StorageError, StorageError | None)


class SftpStorage(Storage):
    """Everything below a root, over one connection and one channel.

    Version 3 names everything by its whole path, which the server resolves, and has no flag against following links.
    So a link that somebody puts in place of a folder between two requests is followed by the server; all that can be
    done is to make that hard and to notice it:
    - a folder is looked at (LSTAT) in the same flight as it is opened for listing, and refused when it is a link;
    - a file is opened for writing with EXCL, which follows no link; what has its name is removed first;
    - a file that is read is measured afterwards (FSTAT), and is not taken when that is not what was listed;
    - a folder's mode and mtime are set with lsetstat, where the server has it, or after a look;
    - a look asks for what a link holds beside LSTAT, where that may follow links, and so does a rename.
    An attacker who writes in the tree as it is moved should be given an account of his own by the server.
    """

    def __init__(self, address: Address, root: bytes, *, guard: Guard) -> None:
        super().__init__(address, root, guard=guard)
        self._connection: asyncssh.SSHClientConnection | None = None
        self._wire: SftpWire | None = None
        self._may_have_shell = True
        self._has_hashed = False
        self._may_bundle = True
        self._may_find = True
        self._ahead: FindAhead | None = None
        self._is_openssh = False
        self._real_roots: dict[bytes, bytes] = {}
        """What the server calls roots that it was asked about."""
        self._new_links: dict[Path, NewLink] = {}
        """Links that were made and have not got their final name, where they cannot be renamed."""

    @property
    def is_connected(self) -> bool:
        """See Storage."""
        return self._wire is not None and self._wire.error is None

    async def connect(self) -> None:
        """See Storage."""
        # The guard is asked through this object: a pool hands it to the next lease.
        found = await open_wire(self.address, lambda: self.guard(), self.trace)  # noqa: PLW0108
        self._connection, self._wire = found
        self.host_key = self.trace.host_key
        self._is_openssh = "OpenSSH" in self._connection.get_extra_info("server_version", "")
        # Whoever comes next for this connection knows the key by then.
        self.address = self.address.pinned_to(self.trace)
        self._wire.may_follow_links = not self._is_openssh
        self._wire.takes_target_first = True if self._is_openssh else None
        extensions = self._wire.extensions
        self.capabilities = Capabilities(
            chunk_size=min(self._wire.longest_read, self._wire.longest_write),
            # A small file takes three round trips: the further away, the more of them keep the line busy.
            files_at_once=NEAR_FILES + int(self._wire.round_trip_s * MORE_FILES_PER_S),
            # One that does not say how many may be open is asked for no more than nearly all of them bear.
            most_files=min(
                FAR_FILES, max(1, self._wire.most_handles // 2) if self._wire.most_handles else NEAR_FILES
            ),
            in_order=self._is_openssh,
            atomic_rename=POSIX_RENAME in extensions,
            link_times=LSETSTAT in extensions,
            # What stands before a store of objects may wait for every byte, in its order; OpenSSH has real files.
            holes=self._is_openssh,
            earliest_mtime=0,
            latest_mtime=packets.LATEST_MTIME,
        )

    async def features(self) -> Features:
        """See Storage."""
        if self._connection is None or self._wire is None:
            return Features()
        compression = self._connection.get_extra_info("send_compression")
        return Features(
            sftp_version=packets.SFTP_VERSION,
            extensions=tuple(sorted(name.decode("utf-8", "replace") for name in self._wire.extensions)),
            compression_types=(compression,) if compression else (),
            has_shell=await has_shell(self._connection),
        )

    async def digests_there(self, paths: Sequence[Path], *, size: int = 0) -> dict[Path, bytes]:
        """See Storage."""
        if self._connection is None or not self.is_connected or not self._may_have_shell:
            return {}
        try:
            found = await digest_by_command(self._connection, self.root, paths, size=size)
        except (asyncssh.Error, OSError) as error:
            if self._connection.is_closed():
                raise ConnectionLost("The connection broke while the server hashed files.") from error
            # What runs in the shell's place, a forced SFTP server for one, has left without reading the names.
            found = None
        # A server that gives SFTP alone is asked once; one that has hashed before may be short of sessions just now.
        self._has_hashed = self._has_hashed or found is not None
        self._may_have_shell = self._has_hashed
        return found or {}

    async def must_be_read_back(self) -> bool:
        """See Storage."""
        await self.digests_there([b"."])
        return not self._may_have_shell

    async def beginning_digest_there(self, path: Path, length: int) -> bytes | None:
        """See Storage."""
        if self._connection is None or not self.is_connected or not self._may_have_shell:
            return None
        try:
            return await digest_beginning_by_command(self._connection, self.root, path, length)
        except (asyncssh.Error, OSError) as error:
            if self._connection.is_closed():
                raise ConnectionLost("The connection broke while the server hashed a file.") from error
            return None

    def copies_from(self, source: Storage) -> bool:
        """See Storage."""
        is_same = isinstance(source, SftpStorage) and source.address == self.address
        return is_same and self._wire is not None and COPY_DATA in self._wire.extensions

    def open_original(self, source: Storage, path: Path, answer: Answer[Reader]) -> None:
        """See Storage: opened on this one's connection, as handles are good for one alone."""
        if isinstance(source, SftpStorage) and (name := source._name(path, answer)) is not None:
            self._open_to_read(name, answer)

    async def can_bundle(self) -> bool:
        """See Storage."""
        return self._connection is not None and await has_gnu_tar(self._connection)

    def bundled_readers(self) -> BundledReaders | None:
        """See Storage."""
        if self._connection is None or not self._may_bundle:
            return None
        return TarReaders(
            *self._of_bundles(self._connection),
            open_reader=self.open_reader,
            measure=self._measure,
        )

    def bundled_writers(self) -> BundledWriters | None:
        """See Storage."""
        if self._connection is None or not self._may_bundle:
            return None
        return TarWriters(*self._of_bundles(self._connection))

    def _of_bundles(self, connection: asyncssh.SSHClientConnection) -> tuple[Any, ...]:
        return connection, self.root, lambda: self.guard(), self._loss, self._bundle_no_more  # noqa: PLW0108

    def _bundle_no_more(self) -> None:
        self._may_bundle = False

    def _loss(self) -> StorageError | None:
        return self._wire.error if self._wire is not None else None

    def _measure(self, path: Path, answer: Answer[tuple[int, int]]) -> None:
        def looked(found: Attributes | StorageError) -> None:
            if isinstance(found, StorageError):
                answer(found)
            elif found.size is None or found.mtime is None:
                answer(OperationFailed("The server does not tell size and time of a file."))
            elif found.file_type not in (None, stat.S_IFREG):
                answer(SourceChanged("It is no file any more."))
            else:
                answer((found.size, found.mtime))

        if (name := self._name(path, answer)) is not None:
            self._look(name, looked)

    async def close(self) -> None:
        """See Storage."""
        if self._connection is not None:
            self.abort("The connection is closed.")
            await self._connection.wait_closed()

    def abort(self, reason: str = "The connection was dropped.") -> None:
        """See Storage."""
        if self._wire is not None:
            self._wire.fail(ConnectionLost(reason))

    # Names and requests

    def absolute(self, path: Path) -> bytes:
        """The server's name of a path."""
        if not path:
            return self.root or b"/"
        return self.root.rstrip(b"/") + b"/" + path

    def _name(self, path: Path, answer: Callable[[StorageError], None]) -> bytes | None:
        """A path as a field of a packet; None after a refusal."""
        refused = path_refusal(path)
        if refused is None:
            return packets.text(self.absolute(path))
        answer(refused)
        return None

    def _request(self, kind: int, body: bytes, callback: Callback) -> None:
        if self._wire is None:
            callback(0, b"", ConnectionLost("Not connected."))
        else:
            self._wire.request(kind, body, callback)

    def _command(self, kind: int, body: bytes, answered: Callable[[StorageError | None], None]) -> None:
        if self._wire is None:
            answered(ConnectionLost("Not connected."))
        else:
            self._wire.command(kind, body, answered)

    def _look(self, name: bytes, then: Explain, *, follow: bool = False) -> None:
        """Find out what has a name, as a rule to explain a refusal: version 3 has one word for many reasons."""

        def done(kind: int, data: bytes, error: StorageError | None) -> None:
            then(
                Cursor(data).attributes() if kind == packets.ATTRS else wrong_answer(kind, data, error),
            )

        if self._wire is None:
            then(ConnectionLost("Not connected."))
        elif follow:
            self._wire.request(packets.STAT, name, done)
        else:
            look(self._wire, name, then)

    def _blame_disk(self, error: Refusal, answer: Callable[[Refusal], None]) -> None:
        """Give NoSpace in place of an error that may be one: OpenSSH has the same word for it as for all else."""
        extension = b"statvfs@openssh.com"
        # Only what says no more than that it failed.
        is_unclear = type(error) is OperationFailed
        if not is_unclear or self._wire is None or extension not in self._wire.extensions:
            answer(error)
            return

        def done(kind: int, data: bytes, loss: StorageError | None) -> None:
            lacks_room = kind == packets.EXTENDED_REPLY and is_full(Cursor(data))
            full = NoSpace("The disk is full or the quota used up.") if lacks_room else None
            answer(full or loss or error)

        self._request(packets.EXTENDED, packets.text(extension) + packets.text(self.absolute(b"")), done)

    # The root

    async def root_entry(self) -> Entry:
        """See Storage."""
        # The root itself may be a link, as hosters have it; what lies below is never followed.
        try:
            found = await self._attributes(self.absolute(b""))
        except OperationFailed as error:
            # Not every server tells that what is on the way there is no folder.
            raise await self._file_on_the_way() or error from None
        if found.file_type not in (None, stat.S_IFDIR):
            raise NotAFolder(f"{shown(self.root)} is a file, not a folder.")
        return Entry(b"", Kind.FOLDER, 0, found.mtime or 0, (found.mode or 0o755) & 0o7777)

    async def make_root(self) -> None:
        """See Storage."""
        try:
            await self.root_entry()
        except NotFound:
            await self._make_folders()

    async def _make_folders(self) -> None:
        for path in self._folders_to_root():
            try:
                found = await self._attributes(path)
            except NotFound:
                found = await self._made(path)
            if found.file_type not in (None, stat.S_IFDIR):
                raise NotAFolder(f"{shown(path)} is a file, not a folder.")

    def _folders_to_root(self) -> list[bytes]:
        parts = [part for part in self.root.split(b"/") if part]
        start = b"/" if self.root.startswith(b"/") else b""
        return [start + b"/".join(parts[:count]) for count in range(1, len(parts) + 1)]

    async def _file_on_the_way(self) -> NotAFolder | None:
        for path in self._folders_to_root():
            with contextlib.suppress(StorageError):
                found = await self._attributes(path)
                if found.file_type not in (None, stat.S_IFDIR):
                    return NotAFolder(f"{shown(path)} is a file, not a folder.")
        return None

    async def _made(self, path: bytes) -> Attributes:
        future: asyncio.Future[StorageError | None] = asyncio.get_running_loop().create_future()
        body = packets.text(path) + packets.attributes(mode=0o755)
        self._command(packets.MKDIR, body, partial(_settle, future))
        refusal = await future
        try:
            return await self._attributes(path)
        except NotFound as error:
            # Else somebody made it at the same time.
            raise (about(path, refusal) if refusal is not None else error) from error

    async def _attributes(self, path: bytes) -> Attributes:
        """What has a name, links followed. Raises StorageError."""
        future: asyncio.Future[Attributes | StorageError] = asyncio.get_running_loop().create_future()
        if b"\0" in path:
            raise NameRefused(f"{shown(path)} is not a path.")
        self._look(packets.text(path), partial(_settle, future), follow=True)
        found = await future
        if isinstance(found, StorageError):
            raise about(path, found)
        return found

    # Operations

    def list_folder(self, path: Path, answer: Answer[FolderListing]) -> None:
        """See Storage."""
        if self._wire is None:
            answer(ConnectionLost("Not connected."))
        elif path and (refused := path_refusal(path)) is not None:
            answer(refused)
        elif self._ahead is not None:
            self._ahead.list_folder(path, answer, partial(self._list_folder, self._wire, path))
        else:
            self._list_folder(self._wire, path, answer)

    def _list_folder(self, wire: SftpWire, path: Path, answer: Answer[FolderListing]) -> None:
        FolderLister(wire, path, self.absolute(path), answer).start()

    @contextlib.contextmanager
    def listing_ahead(self) -> Iterator[None]:
        """See Storage."""
        if self._connection is not None and self._may_find:
            self._ahead = FindAhead(
                self._connection,
                lambda: self.guard(),  # noqa: PLW0108
                self.absolute,
                self._find_no_more,
            )
        try:
            yield
        finally:
            if self._ahead is not None:
                self._ahead.close()
                self._ahead = None

    def _find_no_more(self) -> None:
        self._may_find = False

    def follow_link(self, path: Path, answer: Answer[Entry]) -> None:
        """See Storage."""
        if self._wire is None:
            answer(ConnectionLost("Not connected."))
        elif (refused := path_refusal(path)) is not None:
            answer(refused)
        else:
            LinkFollower(self._wire, self.root or b"/", self.absolute(path), self._real_roots, answer).start()

    def open_reader(self, path: Path, answer: Answer[Reader]) -> None:
        """See Storage."""
        if (name := self._name(path, answer)) is not None:
            self._open_to_read(name, answer)

    def _open_to_read(self, name: bytes, answer: Answer[Reader]) -> None:
        def done(kind: int, data: bytes, error: StorageError | None) -> None:
            if kind == packets.HANDLE and self._wire is not None:
                answer(SftpReader(self._wire, Cursor(data).text()))
            else:
                answer(wrong_answer(kind, data, error))

        flags = packets.number(packets.READ_FLAG) + packets.attributes()
        self._request(packets.OPEN, name + flags, done)

    def open_writer(self, path: Path, answer: Answer[Writer]) -> None:
        """See Storage."""
        if (name := self._name(path, answer)) is None:
            return

        def replace(refusal: StorageError) -> None:
            if isinstance(refusal, OperationFailed | AlreadyExists):
                make_room(refusal)
            elif isinstance(refusal, PermissionDenied):
                # ProFTPD's word for a folder or link that has the name.
                self._look(name, lambda found: judge(found, refusal))
            else:
                answer(refusal)

        def judge(found: Attributes | StorageError, refusal: StorageError) -> None:
            if isinstance(found, Attributes) and found.file_type == stat.S_IFLNK:
                make_room(refusal)
            else:
                answer(folder_or(found, refusal))

        def make_room(_: StorageError) -> None:
            self._command(packets.REMOVE, name, lambda _: None)
            self._open_new(name, answer, explain)

        def explain(refusal: StorageError) -> None:
            self._look(name, lambda found: self._blame_disk(folder_or(found, refusal), answer))

        self._open_new(name, answer, replace)

    def _open_new(self, name: bytes, answer: Answer[Writer], refused: Callable[[StorageError], None]) -> None:
        def done(kind: int, data: bytes, error: StorageError | None) -> None:
            if kind == packets.HANDLE and self._wire is not None:
                answer(self._writer(self._wire, name, data))
            else:
                refused(wrong_answer(kind, data, error))

        # TRUNCATE is for servers that do not know EXCLUSIVE. Nobody else may read a file that is not whole yet.
        flags = packets.WRITE_FLAG | packets.CREATE_FLAG | packets.EXCLUSIVE_FLAG | packets.TRUNCATE_FLAG
        body = name + packets.number(flags) + packets.attributes(mode=0o600)
        self._request(packets.OPEN, body, done)

    def _writer(self, wire: SftpWire, name: bytes, data: bytes) -> SftpWriter:
        # OpenSSH refuses what it can write but a part of. Others say OK then, as on a disk that is full.
        measure = None if self._is_openssh else partial(self._look, name, follow=True)
        return SftpWriter(wire, Cursor(data).text(), self._blame_disk, measure)

    def reopen_writer(self, path: Path, answer: Answer[Writer]) -> None:
        """See Storage."""
        if (name := self._name(path, answer)) is None:
            return

        def looked(found: Attributes | StorageError) -> None:
            if isinstance(found, StorageError):
                answer(found)
            elif found.file_type not in (None, stat.S_IFREG):
                answer(NotFound("It is not a file any more."))
            else:
                body = name + packets.number(packets.WRITE_FLAG) + packets.attributes()
                self._request(packets.OPEN, body, opened)

        def opened(kind: int, data: bytes, error: StorageError | None) -> None:
            if kind == packets.HANDLE and self._wire is not None:
                answer(self._writer(self._wire, name, data))
            else:
                answer(wrong_answer(kind, data, error))

        self._look(name, looked)

    def make_folder(self, path: Path, answer: Answer[None]) -> None:
        """See Storage."""
        if (name := self._name(path, answer)) is None:
            return

        def done(error: StorageError | None) -> None:
            if isinstance(error, OperationFailed | AlreadyExists | PermissionDenied):
                self._look(name, lambda found: self._blame_disk(judge(found, error), answer))
            else:
                answer(error)

        def judge(found: Attributes | StorageError, refusal: StorageError) -> StorageError | None:
            if isinstance(found, StorageError):
                return found if isinstance(found, ConnectionLost) else refusal
            if found.file_type in (None, stat.S_IFDIR):
                return None
            return NotAFolder("A file or link is where a folder should be.")

        self._command(packets.MKDIR, name + packets.attributes(mode=0o700), done)

    def open_up(self, path: Path, answer: Answer[None]) -> None:
        """See Storage."""
        if path and (refused := path_refusal(path)) is not None:
            answer(refused)
            return
        name = packets.text(self.absolute(path))

        def looked(found: Attributes | StorageError) -> None:
            if isinstance(found, StorageError):
                answer(found)
            elif found.mode is None or found.file_type != stat.S_IFDIR:
                answer(PermissionDenied("Permission denied."))
            else:
                mode = packets.attributes(mode=(found.mode & 0o7777) | OWNER_WRITES)
                self._command(packets.SETSTAT, name + mode, answer)

        self._look(name, looked, follow=not path)

    def make_link(self, path: Path, target: bytes, mtime: int, answer: Answer[None]) -> None:
        """See Storage."""
        if (name := self._name(path, answer)) is None:
            return
        if not target or b"\0" in target:
            answer(NameRefused(f"A link cannot point to {shown(target)!r}."))
            return

        link, wire = NewLink(target, mtime), self._wire
        if wire is None:
            answer(ConnectionLost("Not connected."))
            return

        def done(error: StorageError | None) -> None:
            if error is None and wire.may_follow_links:
                self._new_links[path] = link
            if isinstance(error, OperationFailed):
                self._look(name, lambda found: answer(taken_or(found, error)))
            else:
                answer(error)

        link.make(wire, self.absolute(path), done)

    def rename(self, path: Path, new_path: Path, answer: Answer[None]) -> None:
        """See Storage."""
        link = self._new_links.pop(path, None)
        name, final = self._name(path, answer), None
        if name is not None:
            final = self._name(new_path, answer)
        if name is None or final is None:
            return
        if self._wire is None:
            answer(ConnectionLost("Not connected."))
        else:
            Rename(self._wire, name, final, link, answer).start()

    def remove(self, path: Path, answer: Answer[None]) -> None:
        """See Storage."""
        self._new_links.pop(path, None)
        if (name := self._name(path, answer)) is None:
            return

        def done(error: StorageError | None) -> None:
            # Some systems call the removal of a folder forbidden.
            if isinstance(error, OperationFailed | PermissionDenied):
                self._look(name, lambda found: explain(found, error))
            else:
                answer(error)

        def explain(found: Attributes | StorageError, refusal: StorageError) -> None:
            answer(found if isinstance(found, NotFound) else folder_or(found, refusal))

        self._command(packets.REMOVE, name, done)

    def remove_folder(self, path: Path, answer: Answer[None]) -> None:
        """See Storage."""
        if (name := self._name(path, answer)) is None:
            return

        def done(error: StorageError | None) -> None:
            if isinstance(error, OperationFailed | NotFound):
                self._look(name, lambda found: answer(file_or(found, error)))
            else:
                answer(error)

        def looked(found: Attributes | StorageError) -> None:
            error = found if isinstance(found, StorageError) else file_or(found, None)
            if error is None:
                self._command(packets.RMDIR, name, done)
            else:
                answer(error)

        if self._wire is not None and self._wire.may_follow_links:
            # ProFTPD's mod_sftp (1.3.8) would remove the folder that a link leads to.
            look(self._wire, name, looked)
        else:
            self._command(packets.RMDIR, name, done)

    def set_attributes(
        self, path: Path, *, mode: int, mtime: int, answer: Answer[None], kind: Kind = Kind.FOLDER
    ) -> None:
        """See Storage."""
        if path and (refused := path_refusal(path)) is not None:
            answer(refused)
            return
        name = packets.text(self.absolute(path))
        attributes = packets.attributes(mode=mode & 0o777, mtime=mtime)

        def look(error: StorageError | None) -> None:
            # Not every system can set a mode without following links.
            if isinstance(error, OperationFailed):
                self._look(name, set_looked_at, follow=not path)
            else:
                done(error)

        def done(error: StorageError | None) -> None:
            is_refused = isinstance(error, OperationFailed | PermissionDenied)
            answer(AttributesRefused(str(error)) if is_refused else error)

        def set_looked_at(found: Attributes | StorageError) -> None:
            if isinstance(found, StorageError):
                answer(found)
            elif kind is Kind.FILE and found.file_type not in (None, stat.S_IFREG):
                answer(NotFound("It is not a file any more."))
            elif kind is Kind.FOLDER and found.file_type not in (None, stat.S_IFDIR):
                answer(NotAFolder("A file or link is where a folder should be."))
            else:
                self._command(packets.SETSTAT, name + attributes, done)

        if path and self.capabilities.link_times:
            body = packets.text(LSETSTAT) + name + attributes
            self._command(packets.EXTENDED, body, look)
        else:
            self._look(name, set_looked_at, follow=not path)


def _settle(future: "asyncio.Future[T]", result: T) -> None:
    if not future.done():  # nobody waits for a cancelled one
        future.set_result(result)
