"""Does something to entries of a tree, each after all that are below it."""

from collections.abc import AsyncGenerator, Callable, Sequence
from functools import partial

from migration_app.engine.items import Done
from migration_app.engine.pump import Pump
from migration_app.storages.base import Answer, Entry
from migration_app.storages.errors import AttributesRefused, ConnectionLost, StorageError

AT_ONCE = 128
BATCH = 500
BATCH_S = 0.2

Ask = Callable[[Entry, Answer[None]], None]


async def from_the_deepest(entries: Sequence[Entry], ask: Ask) -> AsyncGenerator[list[Done], None]:
    """`ask` for each entry when all of those below it were answered; `Done.number` is an index in `entries`. Raises
    ConnectionLost."""
    ascent = _Ascent(entries, ask)
    try:
        while batch := await ascent.advance():
            yield batch
    finally:
        ascent.close()
    if ascent.lost is not None:
        raise ascent.lost


class _Ascent:
    def __init__(self, entries: Sequence[Entry], ask: Ask) -> None:
        self.lost: ConnectionLost | None = None
        self._entries = entries
        self._ask = ask
        self._above = _nearest_above(entries)
        self._below = [0] * len(entries)
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
        if not self._ready or self._under_way >= AT_ONCE or self.lost is not None:
            return False
        number = self._ready.pop()
        self._under_way += 1
        self._ask(self._entries[number], partial(self._answered, number))
        return True

    def _answered(self, number: int, error: StorageError | None) -> None:
        self._under_way -= 1
        if isinstance(error, ConnectionLost):
            self.lost = self.lost or error
            self._pump.wake()
            return
        path = self._entries[number].path
        if isinstance(error, AttributesRefused):
            self._done.append(Done(number, path, 0, None, refusal=error))
        else:
            self._done.append(Done(number, path, 0, error))
        above = self._above[number]
        if above is not None:
            self._below[above] -= 1
            if not self._below[above]:
                self._ready.append(above)
        if len(self._done) >= BATCH or not (self._ready or self._under_way):
            self._pump.wake()
        self._pump.schedule()


def _nearest_above(entries: Sequence[Entry]) -> list[int | None]:
    """For each entry the number of the nearest one above it that is among them."""
    numbers = {entry.path: number for number, entry in enumerate(entries)}

    def nearest(path: bytes) -> int | None:
        while path:
            path = path.rpartition(b"/")[0]
            if path in numbers:
                return numbers[path]
        return None

    return [nearest(entry.path) for entry in entries]
