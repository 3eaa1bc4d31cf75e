"""Folders that a transfer makes: parents before children, without waiting for one before the next is asked for."""

from collections.abc import Callable, Collection
from functools import partial

from migration_app.storages.base import Storage
from migration_app.storages.errors import NotFound, PermissionDenied, StorageError
from migration_app.storages.names import shown


class NewFolder:
    """A folder being made, or one that is there being opened for its owner to write in."""

    __slots__ = (
        "_ask",
        "_folders",
        "_is_repeated",
        "_parent",
        "_waiting",
        "error",
        "is_answered",
        "path",
        "reason",
    )

    def __init__(
        self, folders: "NewFolders", path: bytes, parent: "NewFolder | None" = None, *, exists: bool = False
    ) -> None:
        self.path = path
        self.is_answered = False
        self.error: StorageError | None = None
        """Why it could not be made."""
        self.reason: StorageError | None = None
        """The same, for what is below it."""
        self._folders = folders
        self._parent = parent
        self._ask = folders.destination.open_up if exists else folders.destination.make_folder
        self._is_repeated = exists
        self._waiting: list[Callable[[], None]] = []

    def send(self) -> None:
        """Ask for it."""
        self._ask(self.path, self._answered)

    def when_answered(self, go_on: Callable[[], None]) -> None:
        """Call `go_on`, later, when it is known whether the folder is there."""
        if self.is_answered:
            self._folders.call_later(go_on)
        else:
            self._waiting.append(go_on)

    def _answered(self, error: StorageError | None) -> None:
        if isinstance(error, NotFound) and self._parent is not None and not self._is_repeated:
            # The server may not work in order: its parent's answer decides.
            self._is_repeated = True
            self._parent.when_answered(self._send_again)
        elif isinstance(error, PermissionDenied) and not self._is_repeated:
            self._is_repeated = True
            above = self._folders.open_up(self.path)
            above.when_answered(partial(self._opened_up, above, error))
        else:
            below = error and type(error)(f"The folder {shown(self.path)} could not be made: {error}")
            self._settle(error, below)

    def _send_again(self) -> None:
        above = self._parent.reason if self._parent is not None else None
        if above is not None:
            self._settle(above, above)
        else:
            self.send()

    def _opened_up(self, above: "NewFolder", error: StorageError) -> None:
        if above.error is None:
            self.send()
        else:
            self._answered(error)

    def _settle(self, error: StorageError | None, reason: StorageError | None) -> None:
        self.error, self.reason, self.is_answered = error, reason, True
        waiting, self._waiting = self._waiting, []
        for go_on in waiting:
            self._folders.call_later(go_on)


class NewFolders:
    """Which folders are there, and which are being made. `call_later` must not call at once."""

    def __init__(
        self, destination: Storage, known: Collection[bytes], call_later: Callable[[Callable[[], None]], None]
    ) -> None:
        self.destination = destination
        self.call_later = call_later
        self._known = known if isinstance(known, set | frozenset) else frozenset(known)
        self._made: dict[bytes, NewFolder] = {}
        self._opened: dict[bytes, NewFolder] = {}

    def make(self, path: bytes) -> NewFolder | None:
        """See to it that a folder and those above it are there; None when it was there before."""
        if not path or path in self._known:
            return None
        folder = self._made.get(path)
        if folder is None:
            missing = [path]
            above = path.rpartition(b"/")[0]
            while above and above not in self._known and above not in self._made:
                missing.append(above)
                above = above.rpartition(b"/")[0]
            folder = self._made.get(above)
            for name in reversed(missing):
                folder = self._made[name] = NewFolder(self, name, folder)
                folder.send()
        return folder

    def open_up(self, path: bytes) -> NewFolder:
        """Let the owner write in the folder that holds `path`. It gets its mode back with those of all folders."""
        above = path.rpartition(b"/")[0]
        folder = self._opened.get(above)
        if folder is None:
            folder = self._opened[above] = NewFolder(self, above, exists=True)
            folder.send()
        return folder
