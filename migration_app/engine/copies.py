"""How one item is copied: small state machines, driven by the answers of both storages."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import partial
from typing import TYPE_CHECKING

from migration_app.engine.items import Item, Way
from migration_app.engine.lanes import Lane
from migration_app.storages.errors import (
    AlreadyExists,
    AttributesRefused,
    ConnectionLost,
    NotFound,
    OperationFailed,
    PermissionDenied,
    StorageError,
)

if TYPE_CHECKING:
    from migration_app.engine.flow import Flow
    from migration_app.engine.new_folders import NewFolder


class Copy(ABC):
    """An item under way. It ends, with `Flow.end`, when nothing that it asked for is unanswered."""

    __slots__ = (
        "error",
        "flow",
        "is_over",
        "item",
        "lane",
        "refusal",
        "unanswered",
        "was_refused",
        "way",
    )

    def __init__(self, flow: Flow, lane: Lane, item: Item) -> None:
        self.flow = flow
        self.lane = lane
        self.item = item
        self.error: StorageError | None = None
        self.refusal: AttributesRefused | None = None
        self.unanswered = 0
        self.is_over = False
        self.way = Way.ALONE
        self.was_refused = False
        """Whether a file could not be opened, at either side."""

    @abstractmethod
    def start(self) -> None:
        """Ask for the first thing."""

    def fail(self, error: StorageError) -> None:
        """Clean up and end with an error."""
        if self.error is None:
            self.error = error
            if isinstance(error, ConnectionLost):
                self.flow.lose(error)
            self.let_go()
        self.wind_up()

    def give_up(self) -> None:
        """Clean up and end: the transfer is stopped."""
        self.fail(OperationFailed("The transfer was stopped."))

    def let_go(self) -> None:  # noqa: B027 - most have nothing open
        """Close what is open."""

    def wind_up(self) -> None:
        """End, unless something is unanswered."""
        if not self.unanswered and not self.is_over:
            self.is_over = True
            self.flow.end(self, self.error)


class Refusal(Copy):
    """Of something that cannot be copied."""

    __slots__ = ()

    def start(self) -> None:
        self.fail(OperationFailed("Not a regular file, folder or link; it is left out."))


class FolderCopy(Copy):
    """A folder; its mode and mtime are set when everything is in it."""

    __slots__ = ()

    def start(self) -> None:
        folder = self.flow.folders.make(self.item.entry.path)
        if folder is None:
            self.wind_up()
        else:
            self.unanswered = 1
            folder.when_answered(partial(self._answered, folder))

    def _answered(self, folder: NewFolder) -> None:
        self.unanswered = 0
        if folder.error is not None:
            self.fail(folder.error)
        else:
            self.wind_up()


class PlacedCopy(Copy):
    """Something made under its temp name first: `place`, then `go_on`, then `publish`."""

    __slots__ = ("folder", "has_temp", "is_kept", "is_published", "is_repeated", "temp")

    def __init__(self, flow: Flow, lane: Lane, item: Item) -> None:
        super().__init__(flow, lane, item)
        above, slash, _ = item.entry.path.rpartition(b"/")
        self.temp = above + slash + item.temp_name
        self.folder: NewFolder | None = None
        """The folder that it lies in, when that was not known to be there at the start."""
        self.has_temp = False
        self.is_kept = False
        self.is_repeated = False
        self.is_published = False
        """Whether its own name was asked for, so that it is whole."""

    def give_up(self) -> None:
        # Its answer is waited for: else nobody would know that it is in place.
        if not self.is_published:
            super().give_up()

    def start(self) -> None:
        folder = self.flow.folders.make(self.item.entry.path.rpartition(b"/")[0])
        if folder is not None and folder.reason is not None:
            self.fail(folder.reason)
            return
        self.folder = None if folder is None or folder.is_answered else folder
        self.begin()

    @abstractmethod
    def begin(self) -> None:
        """Ask for all that can be asked for at once."""

    @abstractmethod
    def place(self) -> None:
        """Make it under its temp name; `unanswered` counts this already. Calls `placed` or `not_placed`."""

    @abstractmethod
    def go_on(self) -> None:
        """It is there and its folder is a folder."""

    def placed(self) -> None:
        """It is there under its temp name, perhaps before its folder's answer."""
        self.has_temp = True
        folder = self.folder
        if folder is not None and not folder.is_answered and self.error is None:
            # Until then the folder's name could be a link, and what is written be somewhere else.
            folder.when_answered(self._folder_answered)
        else:
            self._folder_answered()

    def _folder_answered(self) -> None:
        self.unanswered -= 1
        reason = self.folder.reason if self.folder is not None else None
        if self.error is not None:
            self.let_go()
            self.wind_up()
        elif reason is not None:
            self.fail(reason)
        else:
            self.go_on()

    def not_placed(self, error: StorageError) -> None:
        """It could not be made: perhaps only because its folder was not there yet, or lets nobody write in it."""
        if self.folder is None or self.error is not None or isinstance(error, ConnectionLost):
            self._decide(None, error)
        else:
            self.folder.when_answered(partial(self._decide, self.folder, error))

    def _decide(self, folder: NewFolder | None, error: StorageError) -> None:
        reason = folder.reason if folder is not None else None
        may_help = self.error is None and reason is None and not self.is_repeated
        if may_help and folder is not None and isinstance(error, NotFound):
            self.is_repeated = True
            self.place()
        elif may_help and isinstance(error, PermissionDenied):
            self.is_repeated = True
            above = self.flow.folders.open_up(self.temp)
            above.when_answered(partial(self._opened_up, above, error))
        else:
            self.unanswered -= 1
            self.fail(reason or error)

    def _opened_up(self, folder: NewFolder, error: StorageError) -> None:
        if self.error is None and folder.error is None:
            self.place()
        else:
            self.unanswered -= 1
            self.fail(error)

    def publish(self) -> None:
        """Give it its own name: it is whole."""
        self.is_published = True
        self.unanswered += 1
        self.flow.destination.rename(self.temp, self.item.place or self.item.entry.path, self._renamed)

    def _renamed(self, error: StorageError | None) -> None:
        self.unanswered -= 1
        if error is not None:
            self.fail(error)
        else:
            self.has_temp = False
            self.wind_up()

    def wind_up(self) -> None:
        if self.has_temp and not self.is_kept and not self.unanswered and self.error is not None:
            self.has_temp = False
            self.unanswered = 1
            self.flow.destination.remove(self.temp, self._removed)
        else:
            super().wind_up()

    def _removed(self, _: StorageError | None) -> None:
        self.unanswered -= 1
        self.wind_up()


class LinkCopy(PlacedCopy):
    """A symbolic link, copied as it is."""

    __slots__ = ("_is_cleared",)

    def begin(self) -> None:
        self._is_cleared = False
        self.unanswered = 1
        self.place()

    def place(self) -> None:
        entry = self.item.entry
        if entry.target is None:
            self.not_placed(OperationFailed("It is not known where the link points to."))
        else:
            self.flow.destination.make_link(self.temp, entry.target, entry.mtime, self._answered)

    def _answered(self, error: StorageError | None) -> None:
        if error is None:
            self.placed()
        elif (
            isinstance(error, AlreadyExists | OperationFailed) and not self._is_cleared and self.error is None
        ):
            # An earlier attempt may have left its link; not every server says why it refuses.
            self._is_cleared = True
            self.flow.destination.remove(self.temp, lambda _: self.place())
        else:
            self.not_placed(error)

    def go_on(self) -> None:
        self.publish()
