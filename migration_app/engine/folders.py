"""Gives folders their mode and mtime, after everything below them is in place; and files that are right otherwise."""

from collections.abc import AsyncGenerator, Sequence
from functools import partial

from migration_app.engine.items import Done
from migration_app.engine.pump import Pump
from migration_app.storages.base import Entry, Storage
from migration_app.storages.errors import AttributesRefused, ConnectionLost, StorageError

FOLDERS_AT_ONCE = 128
BATCH_FOLDERS = 500
BATCH_S = 0.2


async def set_attributes(destination: Storage, folders: Sequence[Entry]) -> AsyncGenerator[list[Done], None]:
    """Set mode and mtime of folders, deepest first, or of files; `Done.number` is an index in `folders`. Raises
    ConnectionLost."""
    ascent = _Ascent(destination, folders)
    try:
        while batch := await ascent.advance():
            yield batch
    finally:
        ascent.close()
    if ascent.lost is not None:
        raise ascent.lost


class _Ascent:
    """Sends a folder when all of those below it were answered: a mode may close it for what it holds."""

    def __init__(self, destination: Storage, folders: Sequence[Entry]) -> None:
        self.lost: ConnectionLost | None = None
        self._destination = destination
        self._folders = folders
        self._above = _nearest_above(folders)
        self._below = [0] * len(folders)
        for above in self._above:
            if above is not None:
                self._below[above] += 1
        self._ready = [number for number, count in enumerate(self._below) if not count]
        self._under_way = 0
        self._done: list[Done] = []
        self._pump = Pump(self._send)

    async def advance(self) -> list[Done]:
        """What was done since the last batch; empty when all is."""
        self._pump.schedule()
        while self.lost is None and (self._ready or self._under_way):
            await self._pump.wait(BATCH_S)
            if self._done:
                break
        batch, self._done = self._done, []
        return batch

    def close(self) -> None:
        """Send no more."""
        self._pump.stop()

    def _send(self) -> bool:
        if not self._ready or self._under_way >= FOLDERS_AT_ONCE or self.lost is not None:
            return False
        number = self._ready.pop()
        folder = self._folders[number]
        self._under_way += 1
        self._destination.set_attributes(
            folder.path,
            mode=folder.mode & 0o777,
            mtime=folder.mtime,
            kind=folder.kind,
            answer=partial(self._answered, number),
        )
        return True

    def _answered(self, number: int, error: StorageError | None) -> None:
        self._under_way -= 1
        if isinstance(error, ConnectionLost):
            self.lost = self.lost or error
            self._pump.wake()
            return
        path = self._folders[number].path
        if isinstance(error, AttributesRefused):
            self._done.append(Done(number, path, 0, None, refusal=error))
        else:
            self._done.append(Done(number, path, 0, error))
        above = self._above[number]
        if above is not None:
            self._below[above] -= 1
            if not self._below[above]:
                self._ready.append(above)
        if len(self._done) >= BATCH_FOLDERS or not (self._ready or self._under_way):
            self._pump.wake()
        self._pump.schedule()


def _nearest_above(folders: Sequence[Entry]) -> list[int | None]:
    """For each folder the number of the nearest one above it that is to be set too."""
    numbers = {folder.path: number for number, folder in enumerate(folders)}

    def nearest(path: bytes) -> int | None:
        while path:
            path = path.rpartition(b"/")[0]
            if path in numbers:
                return numbers[path]
        return None

    return [nearest(folder.path) for folder in folders]
