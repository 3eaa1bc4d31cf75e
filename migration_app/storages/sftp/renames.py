"""Giving a file or link its final name.

ProFTPD's mod_sftp (1.3.8) follows links in both names, with RENAME and with `posix-rename`: what a link leads to would
get the other name, or be replaced. So on servers that are not known to be better, a link that has the final name goes
first, and a link is made anew under its final name.
"""

import stat

from migration_app.storages.base import Answer
from migration_app.storages.errors import (
    AlreadyExists,
    ConnectionLost,
    NotFound,
    OperationFailed,
    PermissionDenied,
    StorageError,
)
from migration_app.storages.sftp import packets
from migration_app.storages.sftp.looks import look
from migration_app.storages.sftp.new_links import NewLink
from migration_app.storages.sftp.packets import Attributes
from migration_app.storages.sftp.refusals import folder_or
from migration_app.storages.sftp.wire import SftpWire

POSIX_RENAME = b"posix-rename@openssh.com"


class Rename:
    """One file, or `link`, that gets another name; names are fields of packets."""

    def __init__(
        self, wire: SftpWire, name: bytes, final: bytes, link: NewLink | None, answer: Answer[None]
    ) -> None:
        self._wire = wire
        self._name = name
        self._final = final
        self._link = link
        self._answer = answer

    def start(self) -> None:
        """Ask for what comes first."""
        if self._link is not None:
            self._link.make(self._wire, self._final[4:], self._link_made)
        elif self._wire.may_follow_links:
            self._wire.request(packets.READLINK, self._final, self._link_told)
        else:
            self._rename()

    def _link_told(self, kind: int, data: bytes, error: StorageError | None) -> None:
        if error is not None:
            self._answer(error)
        elif kind == packets.NAME:
            look(self._wire, self._name, self._clear)
        else:
            self._rename()

    def _clear(self, found: Attributes | StorageError) -> None:
        if isinstance(found, StorageError):
            # Nothing would come in the place of what is removed.
            self._answer(found)
        else:
            self._wire.command(packets.REMOVE, self._final, self._cleared)

    def _cleared(self, error: StorageError | None) -> None:
        if error is None or isinstance(error, NotFound):
            self._rename()
        else:
            self._answer(error)

    # A link anew

    def _link_made(self, error: StorageError | None) -> None:
        if error is None:
            self._remove_other()
        elif isinstance(error, OperationFailed | AlreadyExists | PermissionDenied):
            look(self._wire, self._final, lambda found: self._make_room_for_link(found, error))
        else:
            self._answer(error)

    def _make_room_for_link(self, found: Attributes | StorageError, refusal: StorageError) -> None:
        if isinstance(found, StorageError) or found.file_type == stat.S_IFDIR:
            self._answer(folder_or(found, refusal))
        else:
            # That the server makes such links is known: this one is there under its other name.
            self._wire.command(packets.REMOVE, self._final, self._make_link_again)

    def _make_link_again(self, error: StorageError | None) -> None:
        def made(error: StorageError | None) -> None:
            if error is None:
                self._remove_other()
            else:
                self._answer(error)

        if self._link is None or not (error is None or isinstance(error, NotFound)):
            self._answer(error)
        else:
            self._link.make(self._wire, self._final[4:], made)

    def _remove_other(self) -> None:
        def removed(error: StorageError | None) -> None:
            # Else nobody would know of it any more.
            self._answer(error if isinstance(error, ConnectionLost) else None)

        self._wire.command(packets.REMOVE, self._name, removed)

    # A file

    def _rename(self) -> None:
        names = self._name + self._final
        if POSIX_RENAME in self._wire.extensions:
            self._wire.command(packets.EXTENDED, packets.text(POSIX_RENAME) + names, self._explain)
        else:
            self._wire.command(packets.RENAME, names, self._refused)

    def _explain(self, error: StorageError | None) -> None:
        if isinstance(error, OperationFailed | PermissionDenied):
            look(self._wire, self._final, lambda found: self._answer(folder_or(found, error)))
        else:
            self._answer(error)

    def _refused(self, error: StorageError | None) -> None:
        # RENAME of version 3 fails when the new name is taken (draft, 6.5). What has it is removed only when
        # that may be the reason, and there is something to put in its place.
        if not isinstance(error, OperationFailed | AlreadyExists | PermissionDenied):
            self._answer(error)
            return

        def looked(found: Attributes | StorageError) -> None:
            if isinstance(found, StorageError):
                self._answer(found)
            else:
                look(self._wire, self._final, lambda taken: self._make_room(taken, error))

        look(self._wire, self._name, looked)

    def _make_room(self, found: Attributes | StorageError, refusal: StorageError) -> None:
        if isinstance(found, StorageError) or found.file_type == stat.S_IFDIR:
            self._answer(folder_or(found, refusal))
            return
        self._wire.command(packets.REMOVE, self._final, lambda _: None)
        self._wire.command(packets.RENAME, self._name + self._final, self._explain)
