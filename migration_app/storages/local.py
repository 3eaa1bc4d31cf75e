"""Folders of this machine, below the allowed ones, opened component by component so that no link is ever followed."""

import asyncio
import errno
import os
import stat
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import ClassVar

from migration_app.storages.base import (
    FLUSH_FROM,
    Answer,
    Entry,
    FolderListing,
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
    NameRefused,
    NoSpace,
    NotAFolder,
    NotFound,
    OperationFailed,
    PermissionDenied,
    SourceChanged,
    StorageError,
)
from migration_app.storages.names import shown

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
_FOLDERS_OPEN = 64
_SLICE_S = 0.02
"""How long a listing may hold the loop."""

Identity = tuple[int, int]


def _translate(error: OSError) -> StorageError:
    """The storage's error for one of the system's."""
    match error.errno:
        case errno.ENOENT:
            return NotFound("No such file or folder.")
        case errno.EACCES | errno.EPERM:
            return PermissionDenied("Permission denied.")
        case errno.EROFS:
            return PermissionDenied("The file system is read-only.")
        case errno.EEXIST | errno.ENOTEMPTY:
            return AlreadyExists("Something of that name is there already.")
        case errno.ENOTDIR:
            return NotAFolder("Not a folder, or a symbolic link, which is not followed.")
        case errno.EISDIR:
            return IsAFolder("A folder is where a file should be.")
        case errno.ELOOP:
            return NameRefused("A symbolic link is not followed.")
        case errno.ENOSPC | errno.EDQUOT:
            return NoSpace("The disk is full or the quota used up.")
        case errno.ENAMETOOLONG | errno.EILSEQ | errno.EINVAL:
            return NameRefused("The system does not take this name.")
        case _:
            return OperationFailed(f"{error.strerror or 'The system refused it'}.")


class LocalStorage(Storage):
    """A folder of this machine. `Address.local_roots` and `forbidden` bound it: a root that is not below an allowed
    folder, or a folder that is forbidden by whatever name, is PermissionDenied."""

    is_poolable: ClassVar[bool] = False
    _is_open = False
    _reason = "The local storage is closed."

    @property
    def is_connected(self) -> bool:
        return self._is_open

    async def connect(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._folders: OrderedDict[Path, int] = OrderedDict()
        self._base, self._below = self._allowed_base()
        self._forbidden = frozenset(self._identities(self.address.forbidden))
        self._is_open = True

    async def close(self) -> None:
        self._drop()

    def abort(self, reason: str = "The connection was dropped.") -> None:
        if self._is_open:
            self._reason = reason
            self._drop()

    def _drop(self) -> None:
        if self._is_open:
            self._is_open = False
            while self._folders:
                os.close(self._folders.popitem()[1])

    # The way to the root

    def _allowed_base(self) -> tuple[bytes, list[bytes]]:
        """The allowed folder that the root lies below, as it really is, and the names from there to the root."""
        parts = [part for part in self.root.split(b"/") if part not in (b"", b".")]
        if not self.root.startswith(b"/") or b".." in parts or b"\0" in self.root:
            raise NameRefused(f"{shown(self.root)} is not an absolute path.")
        forbidden = [_parts(os.path.realpath(os.fsencode(name))) for name in self.address.forbidden]
        for allowed in self.address.local_roots:
            real = os.path.realpath(os.fsencode(allowed))
            for spelling in (os.fsencode(allowed), real):
                above = _parts(spelling)
                if parts[: len(above)] == above:
                    whole = _parts(real) + parts[len(above) :]
                    if not any(whole[: len(no)] == no for no in forbidden):
                        return real, parts[len(above) :]
        raise PermissionDenied(f"{shown(self.root)} is not in a folder that may be reached here.")

    @staticmethod
    def _identities(paths: tuple[str, ...]) -> Iterator[Identity]:
        for path in paths:
            if os.path.exists(path):
                status = os.stat(path)
                yield status.st_dev, status.st_ino

    def _open_below(self, parent: int, name: bytes) -> int:
        """Open a folder in an open one. Raises OSError, PermissionDenied for a forbidden one."""
        descriptor = os.open(name, _FOLDER, dir_fd=parent)
        status = os.fstat(descriptor)
        if (status.st_dev, status.st_ino) in self._forbidden:
            os.close(descriptor)
            raise PermissionDenied("This folder holds Haulier's own data.")
        return descriptor

    def _open_root(self, *, make: bool = False) -> int:
        descriptor = os.open(self._base, _FOLDER)
        try:
            for name in self._below:
                if make:
                    try:
                        os.mkdir(name, 0o755, dir_fd=descriptor)
                    except FileExistsError:
                        pass  # opening it tells what it is
                inner = self._open_below(descriptor, name)
                os.close(descriptor)
                descriptor = inner
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _folder(self, path: Path) -> int:
        """The descriptor of a folder; the storage keeps it open for a while. Raises OSError, StorageError."""
        descriptor = self._folders.get(path)
        if descriptor is not None:
            self._folders.move_to_end(path)
            return descriptor
        descriptor = self._open_folder(path)
        self._folders[path] = descriptor
        if len(self._folders) > _FOLDERS_OPEN:
            os.close(self._folders.popitem(last=False)[1])
        return descriptor

    def _open_folder(self, path: Path) -> int:
        if not path:
            return self._open_root()
        parent, _, name = path.rpartition(b"/")
        if name in (b"", b".", b".."):
            raise NameRefused(f"{shown(path)} is not a path.")
        return self._open_below(self._folder(parent), name)

    async def root_entry(self) -> Entry:
        self._check_open()
        try:
            status = os.fstat(self._folder(b""))
        except OSError as error:
            raise self._root_error(error) from error
        return _entry(b"", status, None)

    async def make_root(self) -> None:
        self._check_open()
        if not self.guard():
            self.abort("The lease is over.")
            self._check_open()
        try:
            os.close(self._open_root(make=True))
        except OSError as error:
            raise self._root_error(error) from error

    def _root_error(self, error: OSError) -> StorageError:
        kind = _translate(error)
        where = shown(self.root)
        if isinstance(kind, NotFound):
            return NotFound(f"The folder {where} does not exist.")
        if isinstance(kind, NotAFolder | NameRefused):
            return NotAFolder(
                f"{where} is not a folder, or is reached through a symbolic link, which is not followed."
            )
        return type(kind)(f"{where}: {kind}")

    def _check_open(self) -> None:
        if not self._is_open:
            raise ConnectionLost(self._reason)

    # Operations

    def _run(self, answer: Answer[None], operation: Callable[[int, bytes], None], path: Path) -> None:
        """Answer what a changing operation on a name in an open folder did."""
        answer(self._change(operation, path))

    def _change(self, operation: Callable[[int, bytes], None], path: Path) -> StorageError | None:
        if (refused := self.refusal()) is not None:
            return refused
        parent, _, name = path.rpartition(b"/")
        try:
            operation(self._folder(parent), name)
        except OSError as error:
            return self._failure(error, parent)
        except StorageError as error:
            return error
        return None

    def refusal(self) -> StorageError | None:
        """Why nothing may be changed any more, if so."""
        if self._is_open and not self.guard():
            self.abort("The lease is over.")
        return None if self._is_open else ConnectionLost(self._reason)

    def _failure(self, error: OSError, folder: Path) -> StorageError:
        if error.errno in (errno.ENOENT, errno.ESTALE) and folder in self._folders:
            # Somebody may have put another folder in its place.
            os.close(self._folders.pop(folder))
        return _translate(error)

    def list_folder(self, path: Path, answer: Answer[FolderListing]) -> None:
        if not self._is_open:
            answer(ConnectionLost(self._reason))
            return
        try:
            descriptor = self._open_folder(path)
        except OSError as error:
            answer(_translate(error))
        except StorageError as error:
            answer(error)
        else:
            _Listing(self._loop, path, descriptor, answer).go_on()

    def open_reader(self, path: Path, answer: Answer[Reader]) -> None:
        if not self._is_open:
            answer(ConnectionLost(self._reason))
            return
        parent, _, name = path.rpartition(b"/")
        try:
            descriptor = os.open(name, _READ, dir_fd=self._folder(parent))
        except OSError as error:
            answer(self._failure(error, parent))
        except StorageError as error:
            answer(error)
        else:
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                answer(_LocalReader(self, descriptor))
            else:
                os.close(descriptor)
                answer(SourceChanged("It is not a file any more."))

    def open_writer(self, path: Path, answer: Answer[Writer]) -> None:
        descriptor = -1

        def make(folder: int, name: bytes) -> None:
            nonlocal descriptor
            descriptor = os.open(name, _WRITE, 0o600, dir_fd=folder)

        error = self._change(make, path)
        answer(error if error is not None else _LocalWriter(self, self._loop, descriptor))

    def make_folder(self, path: Path, answer: Answer[None]) -> None:
        def make(folder: int, name: bytes) -> None:
            try:
                os.mkdir(name, 0o700, dir_fd=folder)
            except FileExistsError:
                if not stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                    raise NotAFolder("Something that is not a folder has this name.") from None

        self._run(answer, make, path)

    def make_link(self, path: Path, target: bytes, mtime: int, answer: Answer[None]) -> None:
        def make(folder: int, name: bytes) -> None:
            os.symlink(target, name, dir_fd=folder)
            os.utime(name, (mtime, mtime), dir_fd=folder, follow_symlinks=False)

        self._run(answer, make, path)

    def rename(self, path: Path, new_path: Path, answer: Answer[None]) -> None:
        def move(folder: int, name: bytes) -> None:
            parent, _, new_name = new_path.rpartition(b"/")
            os.rename(name, new_name, src_dir_fd=folder, dst_dir_fd=self._folder(parent))

        self._run(answer, move, path)

    def remove(self, path: Path, answer: Answer[None]) -> None:
        self._run(answer, lambda folder, name: os.unlink(name, dir_fd=folder), path)

    def set_attributes(self, path: Path, *, mode: int, mtime: int, answer: Answer[None]) -> None:
        def give(_folder: int, _name: bytes) -> None:
            descriptor = self._folder(path)
            os.fchmod(descriptor, mode & 0o777)
            os.utime(descriptor, (mtime, mtime))

        self._run(answer, give, path)


class _Listing:
    """One folder being read, in slices, so that a huge one does not hold the loop."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, path: Path, descriptor: int, answer: Answer[FolderListing]
    ) -> None:
        self._loop = loop
        self._prefix = path + b"/" if path else b""
        self._descriptor = descriptor
        self._answer = answer
        self._found = FolderListing([])
        self._names: os._ScandirIterator[str] | None = None

    def go_on(self) -> None:
        until = time.perf_counter() + _SLICE_S
        try:
            if self._names is None:
                self._names = os.scandir(self._descriptor)
            for name in self._names:
                self._take(name)
                if time.perf_counter() > until:
                    self._loop.call_soon(self.go_on)
                    return
        except OSError as error:
            self._close()
            self._answer(_translate(error))
            return
        self._close()
        self._answer(self._found)

    def _take(self, found: "os.DirEntry[str]") -> None:
        name = os.fsencode(found.name)
        path = self._prefix + name
        try:
            status = found.stat(follow_symlinks=False)
            target = os.readlink(name, dir_fd=self._descriptor) if found.is_symlink() else None
        except FileNotFoundError:
            return  # gone since the folder was read
        except OSError as error:
            self._found.problems.append((path, _translate(error)))
            return
        self._found.entries.append(_entry(path, status, target))

    def _close(self) -> None:
        if self._names is not None:
            self._names.close()
        os.close(self._descriptor)


class _LocalReader(Reader):
    __slots__ = ("_descriptor", "_storage")

    def __init__(self, storage: LocalStorage, descriptor: int) -> None:
        self._storage = storage
        self._descriptor = descriptor

    def read(self, offset: int, size: int, answer: Answer[bytes]) -> None:
        try:
            data = os.pread(self._descriptor, size, offset)
            while len(data) < size and (
                more := os.pread(self._descriptor, size - len(data), offset + len(data))
            ):
                data += more
        except OSError as error:
            answer(_translate(error))
        else:
            answer(data)

    def measure(self, answer: Answer[tuple[int, int]]) -> None:
        try:
            status = os.fstat(self._descriptor)
        except OSError as error:
            answer(_translate(error))
        else:
            answer((status.st_size, status.st_mtime_ns // 10**9))

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class _LocalWriter(Writer):
    __slots__ = ("_descriptor", "_error", "_loop", "_storage")

    def __init__(self, storage: LocalStorage, loop: asyncio.AbstractEventLoop, descriptor: int) -> None:
        self._storage = storage
        self._loop = loop
        self._descriptor = descriptor
        self._error: StorageError | None = None

    def write(self, offset: int, data: bytes, answer: Answer[None]) -> None:
        error = self._storage.refusal()
        if error is None:
            try:
                written = os.pwrite(self._descriptor, data, offset)
                while written < len(data):
                    written += os.pwrite(self._descriptor, data[written:], offset + written)
            except OSError as failure:
                error = _translate(failure)
        self._error = self._error or error
        answer(error)

    def finish(self, *, mode: int, mtime: int, size: int, answer: Answer[None]) -> None:
        error = self._error or self._storage.refusal()
        descriptor, self._descriptor = self._descriptor, -1
        if error is None and size >= FLUSH_FROM:
            flushed = self._loop.run_in_executor(None, _seal, descriptor, mode, mtime, True)
            flushed.add_done_callback(lambda done: answer(done.result()))
            return
        if error is None:
            error = _seal(descriptor, mode, mtime, False)
        else:
            os.close(descriptor)
        answer(error)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _seal(descriptor: int, mode: int, mtime: int, flush: bool) -> StorageError | None:
    try:
        try:
            os.fchmod(descriptor, mode & 0o777)
            os.utime(descriptor, (mtime, mtime))
            if flush:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        return _translate(error)
    return None


def _entry(path: Path, status: os.stat_result, target: bytes | None) -> Entry:
    mode = status.st_mode
    if stat.S_ISREG(mode):
        kind, size = Kind.FILE, status.st_size
    elif stat.S_ISDIR(mode):
        kind, size = Kind.FOLDER, 0
    elif stat.S_ISLNK(mode):
        kind, size = Kind.LINK, 0
    else:
        kind, size = Kind.OTHER, 0
    return Entry(path, kind, size, status.st_mtime_ns // 10**9, stat.S_IMODE(mode), target)


def _parts(path: bytes) -> list[bytes]:
    return [part for part in path.split(b"/") if part]
