"""Goes through the folders of a tree, many at a time, and can go on later from where it stood."""

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from migration_app.engine.pump import Pump
from migration_app.engine.rounds import Rounds
from migration_app.storages.base import Capabilities, Entry, FolderListing, Kind, files_at_once
from migration_app.storages.errors import ConnectionLost, NameRefused, OperationFailed, StorageError

BATCH_ENTRIES = 1000
BATCH_S = 0.15
MOST_WAITING = 4 * BATCH_ENTRIES
"""Entries that wait for a slow consumer before the walk stops and waits too."""

Folder = TypeVar("Folder")


class Walk(Generic[Folder]):
    """Calls `visit` for each folder; `visit` sees to it that `visited` or `lose` is called, perhaps later. As many
    folders are open as the `sides` where they are listed bear, the more the further away.

    The folders found last are visited first: what is left over stays short, also in a wide tree.
    """

    def __init__(
        self, frontier: Sequence[Folder], visit: Callable[[Folder], None], *sides: Capabilities
    ) -> None:
        self.lost: ConnectionLost | None = None
        self._visit = visit
        self._stack = list(reversed(frontier))
        self._open: dict[Folder, None] = {}
        self._rounds = Rounds[Folder](files_at_once(*sides))
        self._waiting = 0
        self._pump = Pump(self._launch)

    @property
    def is_over(self) -> bool:
        """Whether nothing comes any more."""
        return self.lost is not None or not (self._stack or self._open or self._rounds.put_off)

    def frontier(self) -> list[Folder]:
        """Folders that were not visited to the end."""
        return [*self._open, *reversed(self._stack), *self._rounds.put_off]

    def tries_again(self, folder: Folder, *found: FolderListing | StorageError) -> bool:
        """Whether a folder comes again later, as it may have been refused because others were open."""
        is_transient = any(isinstance(one, StorageError) and one.is_transient for one in found)
        is_refused = is_transient or any(type(one) is OperationFailed for one in found)
        if not is_refused:
            self._rounds.get_on()
        elif self._rounds.puts_off(folder, is_transient=is_transient):
            del self._open[folder]
            self._pump.schedule()
            return True
        return False

    def visited(self, folder: Folder, inside: Sequence[Folder], count: int) -> None:
        """A folder is done: it had `count` entries, and the folders `inside` are to be visited."""
        del self._open[folder]
        self._stack.extend(reversed(inside))
        self._waiting += count + 1
        if self._waiting >= BATCH_ENTRIES or self.is_over:
            self._pump.wake()
        self._pump.schedule()

    def lose(self, error: ConnectionLost) -> None:
        """The connection is gone: the folders under way stay in the frontier."""
        self.lost = self.lost or error
        self._pump.wake()

    async def advance(self) -> bool:
        """Wait until it is time for a batch; False when the batch before was the last."""
        if self.is_over and not self._waiting:
            return False
        self._pump.schedule()
        await self._pump.wait(BATCH_S)
        self._waiting = 0
        return True

    def close(self) -> None:
        """Visit no more folders."""
        self._pump.stop()

    def _launch(self) -> bool:
        if self._rounds.put_off and not (self._stack or self._open):
            if self._rounds.waits(self._pump.schedule):
                return False
            self._stack = self._rounds.begin_next()
        is_full = len(self._open) >= self._rounds.at_once or self._waiting >= MOST_WAITING
        if is_full or not self._stack or self.lost is not None:
            return False
        folder = self._stack.pop()
        self._open[folder] = None
        self._visit(folder)
        return True


def take_once(found: FolderListing) -> list[Entry]:
    """The entries of a listing; a name that the server lists twice becomes a problem the second time."""
    if len({entry.path for entry in found.entries}) == len(found.entries):
        return found.entries
    entries: dict[bytes, Entry] = {}
    for entry in found.entries:
        if entries.setdefault(entry.path, entry) is not entry:
            refused = NameRefused("The server lists this name more than once.")
            found.problems.append((entry.path, refused))
    return list(entries.values())


def is_folder(entry: Entry) -> bool:
    """Whether an entry can hold others."""
    return entry.kind is Kind.FOLDER
