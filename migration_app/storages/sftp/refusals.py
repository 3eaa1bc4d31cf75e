"""What is behind a server's refusal, by what a second question found: version 3 has one word for many reasons."""

import stat

from migration_app.storages.errors import (
    AlreadyExists,
    ConnectionLost,
    IsAFolder,
    NotAFolder,
    NotFound,
    StorageError,
)
from migration_app.storages.names import shown
from migration_app.storages.sftp.packets import Attributes, Cursor

ROOM_FOR_A_FILE = 2**20


def is_full(reply: Cursor) -> bool:
    """Whether a file system has no room for another file: its answer to statvfs (OpenSSH's PROTOCOL, 3.4)."""
    _, fragment, _, _, blocks_free, files, _, files_free = (reply.long() for _ in range(8))
    return blocks_free * fragment < ROOM_FOR_A_FILE or (files > 0 and files_free == 0)


def about(path: bytes, error: StorageError) -> StorageError:
    """The same error, naming the path."""
    if isinstance(error, NotFound):
        return NotFound(f"The folder {shown(path)} does not exist.")
    if isinstance(error, ConnectionLost):
        return error
    return type(error)(f"{shown(path)}: {error}")


def folder_or(found: Attributes | StorageError, refusal: StorageError) -> StorageError:
    """Why something was refused, after a look at its name: a folder is there, or as the server said."""
    if isinstance(found, ConnectionLost):
        return found
    is_folder = isinstance(found, Attributes) and found.file_type == stat.S_IFDIR
    return IsAFolder("A folder is where a file should be.") if is_folder else refusal


def file_or(found: Attributes | StorageError, refusal: StorageError | None) -> StorageError | None:
    """Why a folder is not removed, after a look at its name: it is none, or as the server said."""
    if isinstance(found, ConnectionLost):
        return found
    is_file = isinstance(found, Attributes) and found.file_type != stat.S_IFDIR
    return NotAFolder("It is not a folder any more.") if is_file else refusal


def taken_or(found: Attributes | StorageError, refusal: StorageError) -> StorageError:
    """Why something was refused, after a look at its name: it is taken, or as the server said."""
    if isinstance(found, ConnectionLost):
        return found
    is_taken = isinstance(found, Attributes)
    return AlreadyExists("Something of that name is there already.") if is_taken else refusal
