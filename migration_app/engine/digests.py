"""SHA-256 of many files: worked out where they are, or read, many at once, the pieces of each in their order."""

import hashlib
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from functools import partial

from migration_app.engine.pace import Pace
from migration_app.engine.pump import Pump
from migration_app.engine.rounds import Rounds
from migration_app.storages.base import Entry, Path, Reader, Storage, files_at_once
from migration_app.storages.errors import ConnectionLost, OperationFailed, SourceChanged, StorageError

WINDOW = 8 * 2**20
"""Bytes that were asked for and have not come yet."""
BATCH_S = 0.2
BATCH_FILES = 500

Digest = tuple[int, bytes | StorageError]
"""Index of an entry, and its digest or why there is none."""
Found = tuple[bytes | StorageError, bool]
"""A digest or why there is none, and whether the file went over the wire for it."""


async def find_digests(
    storage: Storage, files: Sequence[Entry], *, pace: Pace | None = None
) -> dict[Path, Found]:
    """Digests by path: each file is hashed where it is, else read, no faster than `pace`. Raises ConnectionLost."""
    size = sum(entry.size for entry in files)
    there = await storage.digests_there(list({entry.read_path: None for entry in files}), size=size)
    found: dict[Path, Found] = {
        entry.path: (there[entry.read_path], False) for entry in files if entry.read_path in there
    }
    rest = [entry for entry in files if entry.path not in found]
    is_remote = storage.address.protocol != "local"
    async for batch in read_digests(storage, rest, pace=pace if is_remote else None):
        for number, result in batch:
            found[rest[number].path] = (result, is_remote)
    return found


async def read_digests(
    storage: Storage,
    files: Sequence[Entry],
    *,
    pace: Pace | None = None,
    is_whole: bool = True,
    start: int = 0,
) -> AsyncGenerator[list[Digest], None]:
    """Read `files` and hash them; a batch at least every 0.2 s, perhaps empty. Raises ConnectionLost.

    Where it `is_whole`, a file of another size than its entry is SourceChanged; else as much of its beginning is taken,
    without its first `start` bytes.
    """
    reading = _Reading(storage, files, pace=pace or Pace(), is_whole=is_whole, start=start)
    try:
        while (batch := await reading.advance()) is not None:
            yield batch
    finally:
        reading.close()
    if reading.lost is not None:
        raise reading.lost


class _Reading:
    """All files under way."""

    def __init__(
        self, storage: Storage, files: Sequence[Entry], *, pace: Pace, is_whole: bool, start: int
    ) -> None:
        self.storage = storage
        self.pace = pace
        self.is_whole = is_whole
        self.start = start
        self.lost: ConnectionLost | None = None
        self.in_window = 0
        self.hungry: deque[_FileReading] = deque()
        self.under_way: set[_FileReading] = set()
        self._left = deque(enumerate(files))
        self._rounds = Rounds[tuple[int, Entry]](files_at_once(storage.capabilities))
        self._done: list[Digest] = []
        self.pump = Pump(self._step)

    @property
    def chunk_size(self) -> int:
        """How much to ask for at once."""
        return min(self.storage.capabilities.chunk_size, self.pace.largest_piece)

    async def advance(self) -> list[Digest] | None:
        if self._is_over and not self._done:
            return None
        if not self._is_over:
            self.pump.schedule()
            await self.pump.wait(BATCH_S)
        done, self._done = self._done, []
        return done

    def close(self) -> None:
        self.pump.stop()
        for one in list(self.under_way):
            one.let_go()

    @property
    def _is_over(self) -> bool:
        return self.lost is not None or not (self._left or self.under_way or self._rounds.put_off)

    def end(self, one: "_FileReading", result: bytes | StorageError) -> None:
        """A file is done."""
        self.under_way.discard(one)
        if isinstance(result, ConnectionLost):
            self.lost = self.lost or result
        elif not self._tries_again(one, result):
            self._done.append((one.number, result))
        if len(self._done) >= BATCH_FILES or self._is_over:
            self.pump.wake()
        self.pump.schedule()

    def _tries_again(self, one: "_FileReading", result: bytes | StorageError) -> bool:
        """Whether a file comes again later, as it may have been refused because others were open."""
        if one.was_opened:
            self._rounds.get_on()
        is_transient = isinstance(result, StorageError) and result.is_transient
        is_refused = is_transient or (not one.was_opened and type(result) is OperationFailed)
        return is_refused and self._rounds.puts_off((one.number, one.entry), is_transient=is_transient)

    def _step(self) -> bool:
        if self.lost is not None:
            return False
        if self._rounds.put_off and not (self._left or self.under_way):
            if self._rounds.waits(self.pump.schedule):
                return False
            self._left.extend(self._rounds.begin_next())
        if self.hungry and self.in_window < WINDOW and not self.pump.waits_for(self.pace):
            self.hungry.popleft().ask()
            return True
        if self._left and len(self.under_way) < self._rounds.at_once and self.in_window < WINDOW:
            number, entry = self._left.popleft()
            one = _FileReading(self, number, entry)
            self.under_way.add(one)
            self.storage.open_reader(entry.read_path, one.opened)
            return True
        return False


class _FileReading:
    """One file: pieces are asked for ahead and hashed in order."""

    __slots__ = (
        "_asked",
        "_asks_size",
        "_hash",
        "_hashed",
        "_is_measured",
        "_is_over",
        "_pieces",
        "_reader",
        "_reading",
        "entry",
        "number",
    )

    def __init__(self, reading: _Reading, number: int, entry: Entry) -> None:
        self.number = number
        self._reading = reading
        self.entry = entry
        self._hash = hashlib.sha256()
        self._asked = self._hashed = reading.start
        self._pieces: dict[int, bytes] = {}
        self._reader: Reader | None = None
        self._is_over = False
        self._asks_size = self._is_measured = not reading.is_whole

    @property
    def was_opened(self) -> bool:
        """Whether the storage let it be read."""
        return self._reader is not None

    def opened(self, reader: Reader | StorageError) -> None:
        """The file is open, or cannot be read."""
        if isinstance(reader, StorageError):
            self._end(reader)
        elif self._is_over:
            reader.close()
        else:
            self._reader = reader
            self._go_on()

    def ask(self) -> None:
        """Ask for the next piece."""
        reader, reading = self._reader, self._reading
        if self._is_over or reader is None:
            return
        offset = self._asked
        length = min(self.entry.size - offset, reading.chunk_size)
        self._asked += length
        reading.in_window += length
        reading.pace.take(length)
        reader.read(offset, length, partial(self._read, offset, length))
        self._go_on()

    def _go_on(self) -> None:
        if self._is_over:
            return
        if self._asked < self.entry.size:
            self._reading.hungry.append(self)
            self._reading.pump.schedule()
        else:
            if not self._asks_size and self._reader is not None:
                self._asks_size = True
                self._reader.measure(self._measured)
            self._end_when_done()

    def _measured(self, found: tuple[int, int] | StorageError) -> None:
        if self._is_over:
            return
        if isinstance(found, StorageError):
            self._end(found)
        elif found[0] != self.entry.size:
            self._end(SourceChanged("It has another size by now."))
        else:
            self._is_measured = True
            self._end_when_done()

    def _end_when_done(self) -> None:
        if self._is_measured and self._hashed == self.entry.size:
            self._end(self._hash.digest())

    def _read(self, offset: int, length: int, data: bytes | StorageError) -> None:
        self._reading.in_window -= length
        self._reading.pump.schedule()
        if self._is_over:
            return
        if isinstance(data, StorageError):
            self._end(data)
        elif len(data) != length:
            self._end(SourceChanged("It became shorter while it was read."))
        else:
            self._pieces[offset] = data
            while (piece := self._pieces.pop(self._hashed, None)) is not None:
                self._hash.update(piece)
                self._hashed += len(piece)
            self._end_when_done()

    def _end(self, result: bytes | StorageError) -> None:
        if not self._is_over:
            self.let_go()
            self._reading.end(self, result)

    def let_go(self) -> None:
        """Close the file."""
        self._is_over = True
        self._pieces.clear()
        if self._reader is not None:
            self._reader.close()
