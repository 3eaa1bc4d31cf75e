"""A tree on this machine."""

import asyncio
import contextlib
import errno
import os
import stat
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import ClassVar

from migration_app.storages.base import (
    OWNER_WRITES,
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
    ConnectionLost,
    NameRefused,
    NotAFolder,
    NotFound,
    OperationFailed,
    PermissionDenied,
    SourceChanged,
    StorageError,
)
from migration_app.storages.local.files import (
    FolderReading,
    LocalFile,
    LocalReader,
    LocalWriter,
    entry_of,
    give_attributes,
    translate,
)
from migration_app.storages.names import path_below, path_refusal, shown

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_REWRITE = os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_FOLDERS_OPEN = 64

Identity = tuple[int, int]


class LocalStorage(Storage):
    """A folder of this machine. `Address.local_roots` and `forbidden` bound it: a root that is not below an allowed
    folder, or a folder that is forbidden by whatever name, is PermissionDenied."""

    is_poolable: ClassVar[bool] = False
    _is_open = False
    _reason = "The local storage is closed."

    def copies_from(self, source: Storage) -> bool:
        """See Storage."""
        return isinstance(source, LocalStorage) and hasattr(os, "copy_file_range")

    @property
    def is_connected(self) -> bool:
        return self._is_open

    async def connect(self) -> None:
        if self._is_open:
            return
        self._loop = asyncio.get_running_loop()
        self._folders: OrderedDict[Path, int] = OrderedDict()
        self._files: set[LocalFile] = set()
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
            for file in list(self._files):
                file.close()

    # The way to the root

    def _allowed_base(self) -> tuple[bytes, list[bytes]]:
        """The allowed folder that the root lies below, as it really is, and the names from there to the root."""
        parts = [part for part in self.root.split(b"/") if part not in (b"", b".")]
        if not self.root.startswith(b"/") or b".." in parts or b"\0" in self.root:
            raise NameRefused(f"{shown(self.root)} is not an absolute path.")
        forbidden = [_parts(os.path.realpath(os.fsencode(name))) for name in self.address.forbidden]
        for allowed in filter(None, self.address.local_roots):
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

    def _open_below(self, parent: int | None, name: bytes) -> int:
        """Open a folder in an open one. Raises OSError, PermissionDenied for a forbidden one."""
        descriptor = os.open(name, _FOLDER, dir_fd=parent)
        status = os.fstat(descriptor)
        if (status.st_dev, status.st_ino) in self._forbidden:
            os.close(descriptor)
            raise PermissionDenied("This folder holds Haulier's own data.")
        return descriptor

    def _descend(self, descriptor: int, names: list[bytes], *, make: bool = False) -> int:
        """Open a folder far below an open one, which is closed. Raises OSError, PermissionDenied."""
        try:
            for name in names:
                if make:
                    with contextlib.suppress(FileExistsError):  # opening it tells what it is
                        os.mkdir(name, 0o755, dir_fd=descriptor)
                inner = self._open_below(descriptor, name)
                os.close(descriptor)
                descriptor = inner
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _open_root(self, *, make: bool = False) -> int:
        return self._descend(self._open_below(None, self._base), self._below, make=make)

    def _folder(self, path: Path) -> int:
        """The descriptor of a folder; the storage keeps it open at least until two more were asked for.

        Raises OSError, StorageError.
        """
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
        """Open a folder, from the nearest one above it that is open."""
        if not path:
            return self._open_root()
        if (refused := path_refusal(path)) is not None:
            raise refused
        names: list[bytes] = []
        above = path
        while above and (not names or above not in self._folders):
            above, _, name = above.rpartition(b"/")
            names.append(name)
        names.reverse()
        return self._descend(os.dup(self._folder(above)), names)

    def _split(self, path: Path) -> tuple[int, bytes]:
        """The descriptor of the folder that a path is in, and its name there. Raises OSError, StorageError."""
        parent, _, name = path.rpartition(b"/")
        # A folder that is open has been looked at before.
        unseen = name if parent and parent in self._folders else path
        if (refused := path_refusal(unseen)) is not None:
            raise refused
        return self._folder(parent), name

    async def root_entry(self) -> Entry:
        self._check_open()
        try:
            status = os.fstat(self._folder(b""))
        except OSError as error:
            raise self._root_error(error) from error
        return entry_of(b"", status, None)

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
        kind = translate(error)
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
        try:
            operation(*self._split(path))
        except OSError as error:
            return self._failure(error, path)
        except StorageError as error:
            return error
        return None

    def refusal(self) -> StorageError | None:
        """Why nothing may be changed any more, if so."""
        if self._is_open and not self.guard():
            self.abort("The lease is over.")
        return self.loss

    def _failure(self, error: OSError, path: Path) -> StorageError:
        folder = path.rpartition(b"/")[0]
        if error.errno in (errno.ENOENT, errno.ESTALE) and folder in self._folders:
            # Somebody may have put another folder in its place.
            os.close(self._folders.pop(folder))
        return translate(error)

    def list_folder(self, path: Path, answer: Answer[FolderListing]) -> None:
        if not self._is_open:
            answer(ConnectionLost(self._reason))
            return
        try:
            descriptor = self._open_folder(path)
        except OSError as error:
            answer(translate(error))
        except StorageError as error:
            answer(error)
        else:
            FolderReading(self, self._loop, path, descriptor, answer).go_on()

    def follow_link(self, path: Path, answer: Answer[Entry]) -> None:
        if not self._is_open:
            answer(ConnectionLost(self._reason))
            return
        try:
            found = self._followed(path)
        except OSError as error:
            answer(self._failure(error, path))
        except StorageError as error:
            answer(error)
        else:
            answer(found)

    def _followed(self, path: Path) -> Entry:
        """What a link leads to. Raises OSError, StorageError."""
        if (refused := path_refusal(path)) is not None:
            raise refused
        root = b"/" + b"/".join([*_parts(self._base), *self._below])
        real = path_below(root, os.path.realpath(root.rstrip(b"/") + b"/" + path))
        if not real:
            return entry_of(b"", os.fstat(self._folder(b"")), None)
        # What was resolved by name alone is opened as everything else: from the root, through no link.
        folder, name = self._split(real)
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if stat.S_ISLNK(status.st_mode):
            raise OperationFailed("It cannot be told where it leads to.")
        return entry_of(real, status, None)

    def open_reader(self, path: Path, answer: Answer[Reader]) -> None:
        if not self._is_open:
            answer(ConnectionLost(self._reason))
            return
        try:
            folder, name = self._split(path)
            descriptor = os.open(name, _READ, dir_fd=folder)
        except OSError as error:
            answer(self._failure(error, path))
            return
        except StorageError as error:
            answer(error)
            return
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode):
            answer(LocalReader(self, descriptor, status))
        else:
            os.close(descriptor)
            answer(SourceChanged("It is not a file any more."))

    def open_writer(self, path: Path, answer: Answer[Writer]) -> None:
        descriptor = -1

        def make(folder: int, name: bytes) -> None:
            nonlocal descriptor
            try:
                descriptor = os.open(name, _WRITE, 0o600, dir_fd=folder)
            except FileExistsError:
                os.unlink(name, dir_fd=folder)
                descriptor = os.open(name, _WRITE, 0o600, dir_fd=folder)

        error = self._change(make, path)
        answer(error if error is not None else LocalWriter(self, self._loop, descriptor))

    def reopen_writer(self, path: Path, answer: Answer[Writer]) -> None:
        descriptor = -1

        def reopen(folder: int, name: bytes) -> None:
            nonlocal descriptor
            descriptor = os.open(name, _REWRITE, dir_fd=folder)
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                os.close(descriptor)
                raise NotFound("It is not a file any more.")

        error = self._change(reopen, path)
        answer(error if error is not None else LocalWriter(self, self._loop, descriptor))

    def make_folder(self, path: Path, answer: Answer[None]) -> None:
        def make(folder: int, name: bytes) -> None:
            try:
                os.mkdir(name, 0o700, dir_fd=folder)
            except FileExistsError:
                if not stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                    raise NotAFolder("Something that is not a folder has this name.") from None

        self._run(answer, make, path)

    def open_up(self, path: Path, answer: Answer[None]) -> None:
        error = self.refusal()
        if error is None:
            try:
                folder = self._folder(path)
                os.fchmod(folder, stat.S_IMODE(os.fstat(folder).st_mode) | OWNER_WRITES)
            except OSError as failure:
                error = self._failure(failure, path)
            except StorageError as refused:
                error = refused
        answer(error)

    def make_link(self, path: Path, target: bytes, mtime: int, answer: Answer[None]) -> None:
        def make(folder: int, name: bytes) -> None:
            if not target or b"\0" in target:
                raise NameRefused(f"A link cannot point to {shown(target)!r}.")
            os.symlink(target, name, dir_fd=folder)
            # A link whose time could not be set is still the link.
            with contextlib.suppress(OSError, OverflowError):
                os.utime(name, (mtime, mtime), dir_fd=folder, follow_symlinks=False)

        self._run(answer, make, path)

    def rename(self, path: Path, new_path: Path, answer: Answer[None]) -> None:
        def move(folder: int, name: bytes) -> None:
            new_folder, new_name = self._split(new_path)
            os.rename(name, new_name, src_dir_fd=folder, dst_dir_fd=new_folder)

        self._run(answer, move, path)

    def remove(self, path: Path, answer: Answer[None]) -> None:
        self._run(answer, lambda folder, name: os.unlink(name, dir_fd=folder), path)

    def remove_folder(self, path: Path, answer: Answer[None]) -> None:
        def remove(folder: int, name: bytes) -> None:
            try:
                os.rmdir(name, dir_fd=folder)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                raise OperationFailed("The folder is not empty.") from error

        self._run(answer, remove, path)

    def set_attributes(
        self, path: Path, *, mode: int, mtime: int, answer: Answer[None], kind: Kind = Kind.FOLDER
    ) -> None:
        error = self.refusal()
        if error is None:
            try:
                if kind is Kind.FILE:
                    error = self._give_to_file(path, mode, mtime)
                else:
                    error = give_attributes(self._folder(path), mode, mtime)
            except OSError as failure:
                error = self._failure(failure, path)
            except StorageError as refused:
                error = refused
        answer(error)

    def _give_to_file(self, path: Path, mode: int, mtime: int) -> StorageError | None:
        """Raises OSError, StorageError."""
        folder, name = self._split(path)
        try:
            descriptor = os.open(name, _READ, dir_fd=folder)
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            raise NotFound("It is not a file any more.") from error
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise NotFound("It is not a file any more.")
            return give_attributes(descriptor, mode, mtime)
        finally:
            os.close(descriptor)

    def keep(self, file: "LocalFile") -> None:
        """Close a file with the storage, unless it is closed before."""
        self._files.add(file)

    def forget(self, file: "LocalFile") -> None:
        """A file is closed."""
        self._files.discard(file)

    @property
    def loss(self) -> ConnectionLost | None:
        """Why nothing can be asked for any more, if so."""
        return None if self._is_open else ConnectionLost(self._reason)


def _parts(path: bytes) -> list[bytes]:
    return [part for part in path.split(b"/") if part]
