"""Files and folders of this machine that are open: reading, writing, listing."""

import asyncio
import errno
import os
import stat
import time
from typing import Protocol

from migration_app.storages.base import (
    FLUSH_FROM,
    Answer,
    Entry,
    FolderListing,
    Kind,
    Path,
    Reader,
    Writer,
)
from migration_app.storages.errors import (
    AlreadyExists,
    AttributesRefused,
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

_SLICE_S = 0.02
"""How long a listing may hold the loop."""


class Owner(Protocol):
    """What open files ask of the storage that they belong to."""

    @property
    def loss(self) -> ConnectionLost | None:
        """Why nothing can be asked for any more, if so."""

    def refusal(self) -> StorageError | None:
        """Why nothing may be changed any more, if so."""

    def keep(self, file: "LocalFile") -> None:
        """Close a file with the storage, unless it is closed before."""

    def forget(self, file: "LocalFile") -> None:
        """A file is closed."""


def translate(error: OSError) -> StorageError:
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


class FolderReading:
    """One folder being read, in slices, so that a huge one does not hold the loop."""

    def __init__(
        self,
        storage: Owner,
        loop: asyncio.AbstractEventLoop,
        path: Path,
        descriptor: int,
        answer: Answer[FolderListing],
    ) -> None:
        self._storage = storage
        self._loop = loop
        self._prefix = path + b"/" if path else b""
        self._descriptor = descriptor
        self._answer = answer
        self._found = FolderListing([])
        self._names: os._ScandirIterator[str] | None = None

    def go_on(self) -> None:
        error: StorageError | None = self._storage.loss
        try:
            if error is None and not self._is_read():
                self._loop.call_soon(self.go_on)
                return
        except OSError as failure:
            error = translate(failure)
        if self._names is not None:
            self._names.close()
        os.close(self._descriptor)
        self._answer(error or self._found)

    def _is_read(self) -> bool:
        """Read on for a while; whether the end came."""
        until = time.perf_counter() + _SLICE_S
        if self._names is None:
            self._names = os.scandir(self._descriptor)
        for name in self._names:
            self._take(name)
            if time.perf_counter() > until:
                return False
        return True

    def _take(self, found: "os.DirEntry[str]") -> None:
        name = os.fsencode(found.name)
        path = self._prefix + name
        try:
            status = found.stat(follow_symlinks=False)
            is_link = stat.S_ISLNK(status.st_mode)
            target = os.readlink(name, dir_fd=self._descriptor) if is_link else None
        except FileNotFoundError:
            return  # gone since the folder was read
        except OSError as error:
            self._found.problems.append((path, translate(error)))
            return
        self._found.entries.append(entry_of(path, status, target))


class LocalFile:
    """An open descriptor; the storage closes it if nobody else does."""

    __slots__ = ("__weakref__", "_descriptor", "_storage")

    def __init__(self, storage: Owner, descriptor: int) -> None:
        self._storage = storage
        self._descriptor = descriptor
        storage.keep(self)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._take_descriptor())

    def _take_descriptor(self) -> int:
        """The descriptor, which somebody else closes from now on."""
        descriptor, self._descriptor = self._descriptor, -1
        self._storage.forget(self)
        return descriptor

    def _state(self) -> StorageError | None:
        """Why nothing can be asked of this file any more, if so."""
        if self._storage.loss is not None:
            return self._storage.loss
        return OperationFailed("The file is closed.") if self._descriptor < 0 else None


class LocalReader(LocalFile, Reader):
    __slots__ = ("_has_holes", "_mtime_ns", "_size")

    def __init__(self, storage: Owner, descriptor: int, status: os.stat_result) -> None:
        super().__init__(storage, descriptor)
        self._size = status.st_size
        self._mtime_ns = status.st_mtime_ns
        # Blocks of 512 bytes, whatever the file system's own are.
        self._has_holes = status.st_blocks * 512 < status.st_size

    def next_data(self, offset: int) -> int:
        if not self._has_holes or self._descriptor < 0:
            return offset
        try:
            return os.lseek(self._descriptor, offset, os.SEEK_DATA)
        except OSError as error:
            return self._size if error.errno == errno.ENXIO else offset

    def read(self, offset: int, size: int, answer: Answer[bytes]) -> None:
        if (error := self._state()) is not None:
            answer(error)
            return
        try:
            data = os.pread(self._descriptor, size, offset)
            while len(data) < size and (
                more := os.pread(self._descriptor, size - len(data), offset + len(data))
            ):
                data += more
        except OSError as failure:
            answer(translate(failure))
        else:
            answer(data)

    def copy_to(self, descriptor: int, offset: int, length: int) -> StorageError | None:
        """Let the system copy a piece to the same place of another file; why it did not, if so."""
        if (error := self._state()) is not None:
            return error
        try:
            while length:
                copied = os.copy_file_range(self._descriptor, descriptor, length, offset, offset)
                if not copied:
                    return SourceChanged("It became shorter while it was read.")
                offset, length = offset + copied, length - copied
        except OSError as failure:
            # Not between all file systems (copy_file_range(2)).
            return translate(failure)
        return None

    def measure(self, answer: Answer[tuple[int, int]]) -> None:
        if (error := self._state()) is not None:
            answer(error)
            return
        try:
            status = os.fstat(self._descriptor)
        except OSError as failure:
            answer(translate(failure))
            return
        found, mtime_ns = (status.st_size, status.st_mtime_ns // 10**9), self._mtime_ns
        if found == (self._size, mtime_ns // 10**9) and status.st_mtime_ns != mtime_ns:
            # Within one second, which is all that is compared otherwise.
            answer(SourceChanged("It changed while it was read."))
        else:
            answer(found)


class LocalWriter(LocalFile, Writer):
    __slots__ = ("_error", "_loop")

    def __init__(self, storage: Owner, loop: asyncio.AbstractEventLoop, descriptor: int) -> None:
        super().__init__(storage, descriptor)
        self._loop = loop
        self._error: StorageError | None = None

    def write(self, offset: int, data: bytes, answer: Answer[None]) -> None:
        error = self._storage.refusal() or self._state()
        if error is None:
            try:
                written = os.pwrite(self._descriptor, data, offset)
                while written < len(data):
                    written += os.pwrite(self._descriptor, data[written:], offset + written)
            except OSError as failure:
                error = translate(failure)
        self._error = self._error or error
        answer(error)

    def copy(self, reader: Reader, offset: int, length: int, answer: Answer[None]) -> None:
        error = self._storage.refusal() or self._state()
        if error is None and isinstance(reader, LocalReader):
            error = reader.copy_to(self._descriptor, offset, length)
        self._error = self._error or error
        answer(error)

    def finish(self, *, mode: int, mtime: int, size: int, answer: Answer[None]) -> None:
        error = self._storage.refusal() or self._state() or self._error
        if error is not None:
            self.close()
            answer(error)
            return
        descriptor = self._take_descriptor()
        if size < FLUSH_FROM:
            answer(_seal(descriptor, mode, mtime, False))
            return
        flushed = self._loop.run_in_executor(None, _seal, descriptor, mode, mtime, True)
        flushed.add_done_callback(lambda done: answer(self._storage.loss or done.result()))


def give_attributes(descriptor: int, mode: int, mtime: int) -> AttributesRefused | None:
    try:
        os.fchmod(descriptor, mode & 0o777)
        os.utime(descriptor, (mtime, mtime))
    except OSError as error:
        return AttributesRefused(str(translate(error)))
    return None


def _seal(descriptor: int, mode: int, mtime: int, flush: bool) -> StorageError | None:
    try:
        try:
            refusal = give_attributes(descriptor, mode, mtime)
            if flush:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        return translate(error)
    return refusal


def entry_of(path: Path, status: os.stat_result, target: bytes | None) -> Entry:
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
