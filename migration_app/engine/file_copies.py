"""How one file is copied: through this machine, alone or in bundles, or by the destination itself."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from migration_app.engine.copies import PlacedCopy
from migration_app.engine.items import Item, Way
from migration_app.engine.lanes import Lane
from migration_app.storages.base import Reader, Writer
from migration_app.storages.errors import (
    AttributesRefused,
    ConnectionLost,
    NotFound,
    OperationFailed,
    SourceChanged,
    StorageError,
)

if TYPE_CHECKING:
    from migration_app.engine.flow import Flow

KEEP_FROM = 2**20
"""A file of which so much is at the destination is not removed when the transfer stops: another one goes on there."""
PIECES_AT_ONCE = 16
"""How many pieces a file may ask for before the loop has its turn, when storages answer at once."""


class FileCopy(PlacedCopy):
    """A file: both sides are opened at once, what is read is written, and at the end the source must be as listed."""

    __slots__ = (
        "_ahead",
        "_asked",
        "_early",
        "_is_filling",
        "_is_measured",
        "_is_measuring",
        "_taken",
        "is_ready",
        "reader",
        "unsent",
        "whole",
        "writer",
    )

    def __init__(self, flow: Flow, lane: Lane, item: Item) -> None:
        super().__init__(flow, lane, item)
        self.reader: Reader | None = None
        self.writer: Writer | None = None
        self._asked = item.start
        self.unsent = item.entry.size - item.start
        self._taken = item.start
        self.whole = item.start
        """So many bytes from the beginning on have been taken by the destination."""
        self._ahead: dict[int, int] = {}
        """Pieces that were taken before one in front of them: length by offset."""
        self._early: list[tuple[int, bytes]] = []
        """Pieces that came before the destination was ready."""
        self._is_filling = False
        self._is_measuring = False
        self._is_measured = False
        self.is_ready = False

    def begin(self) -> None:
        self.flow.bytes_in_flight += self._taken
        self.unanswered = 1
        self.open_source()
        if self.error is None:
            self.unanswered += 1
            self.place()

    def open_source(self) -> None:
        """Open it for reading; `unanswered` counts this already. Calls `reader_opened`."""
        if self.way is Way.BUNDLED:
            self.flow.bundling.open_reader(self.item, self.reader_opened)
        else:
            self.flow.source.open_reader(self.item.entry.read_path, self.reader_opened)

    def place(self) -> None:
        destination = self.flow.destination
        open_file = destination.reopen_writer if self.item.start else destination.open_writer
        if self.way is Way.BUNDLED:
            open_file = self.flow.bundling.open_writer
        open_file(self.temp, self._writer_opened)

    # The source

    def reader_opened(self, reader: Reader | StorageError) -> None:
        self.unanswered -= 1
        if isinstance(reader, StorageError):
            self.was_refused = True
            self.fail(_unreadable(reader))
            return
        self.reader = reader
        if self.error is not None:
            reader.close()
            self.wind_up()
        else:
            self.fill()

    @property
    def taken(self) -> int:
        """Bytes that the destination has."""
        return self._taken

    @property
    def has_begun(self) -> bool:
        """Whether a part of it was asked for."""
        return self._asked > self.item.start

    def fill(self) -> None:
        """Ask for as much as the window has room for."""
        if not self._is_filling and self.error is None and self.reader is not None:
            self._ask(self.reader)

    def _ask(self, reader: Reader) -> None:
        size = self.item.entry.size
        self._is_filling = True
        for _ in range(PIECES_AT_ONCE):
            self._pass_hole(reader)
            offset = self._asked
            length = min(size - offset, self.piece_size)
            if not length or self.error is not None or not self.lane.has_room(length):
                break
            if self.flow.pace.wait_s():
                break
            self.flow.pace.take(length)
            self._asked += length
            self.lane.in_window += length
            self.unanswered += 1
            self.bring(reader, offset, length)
        self._is_filling = False
        if self.error is not None:
            return
        if self._asked < size:
            self.flow.wait_for_window(self)
        elif not self._is_measuring and self.may_measure():
            self._is_measuring = True
            self.unanswered += 1
            reader.measure(self._measured)

    @property
    def piece_size(self) -> int:
        """The most bytes of a piece."""
        return self.flow.chunk_size

    def bring(self, reader: Reader, offset: int, length: int) -> None:
        """Get a piece to the destination; `unanswered` counts this already."""
        reader.read(offset, length, partial(self._read, offset, length))

    def may_measure(self) -> bool:
        """Whether the source may be looked at again, when all of it was asked for: after what was asked before."""
        return True

    def _pass_hole(self, reader: Reader) -> None:
        """Leave out what holds nothing; but for the last byte, which gives the new file its length."""
        # What an earlier attempt left may hold other things where there is nothing.
        last = 0 if self.item.start else self.item.entry.size - 1
        if self._asked < last and self.flow.destination.capabilities.holes:
            begin = min(reader.next_data(self._asked), last)
            self.unsent -= begin - self._asked
            self._asked = begin

    def _read(self, offset: int, length: int, data: bytes | StorageError) -> None:
        self.unanswered -= 1
        if self.error is None and not isinstance(data, StorageError) and len(data) == length:
            if self.is_ready:
                self._write(offset, data)
            else:
                self._early.append((offset, data))
            return
        self.flow.leave_window(self.lane, length)
        if self.error is not None:
            self.wind_up()
        elif isinstance(data, StorageError):
            self.fail(_unreadable(data))
        else:
            self.fail(SourceChanged("It became shorter while it was read."))

    def _measured(self, found: tuple[int, int] | StorageError) -> None:
        self.unanswered -= 1
        entry = self.item.entry
        if self.error is not None:
            self.wind_up()
        elif isinstance(found, StorageError):
            self.fail(_unreadable(found))
        elif found != (entry.size, entry.mtime):
            self.fail(SourceChanged("It changed after it was listed."))
        else:
            self._is_measured = True
            self.finish_when_sent()

    # The destination

    def _writer_opened(self, writer: Writer | StorageError) -> None:
        if isinstance(writer, StorageError):
            self.was_refused = True
            self.not_placed(writer)
        else:
            self.writer = writer
            self.placed()

    def go_on(self) -> None:
        self.is_ready = True
        early, self._early = self._early, []
        for offset, data in early:
            self._write(offset, data)
        self.finish_when_sent()

    def _write(self, offset: int, data: bytes) -> None:
        length = len(data)
        if self.error is not None or self.writer is None:
            self.flow.leave_window(self.lane, length)
            return
        self.unsent -= length
        self.unanswered += 1
        self.writer.write(offset, data, partial(self.written, offset, length))
        if not self.unsent:
            self.finish_when_sent()

    def written(self, offset: int, length: int, error: StorageError | None) -> None:
        self.unanswered -= 1
        self._taken += length
        if error is None and self.item.entry.size >= KEEP_FROM:
            self._ahead[offset] = length
            while (taken := self._ahead.pop(self.whole, None)) is not None:
                self.whole += taken
        flow = self.flow
        flow.bytes_in_flight += length
        if self.item.entry.size > length:
            flow.current_file = self.item.entry.path
        flow.leave_window(self.lane, length)
        if error is not None:
            self.fail(error)
        elif self.error is not None:
            self.wind_up()

    def finish_when_sent(self) -> None:
        writer, reader = self.writer, self.reader
        if self.unsent or not (self._is_measured and self.is_ready) or self.error is not None:
            return
        if writer is None or reader is None:
            return
        reader.close()
        self.reader = None
        entry = self.item.entry
        self.unanswered += 1
        writer.finish(mode=entry.mode & 0o777, mtime=entry.mtime, size=entry.size, answer=self._finished)

    def _finished(self, error: StorageError | None) -> None:
        self.unanswered -= 1
        if isinstance(error, AttributesRefused):
            # The content is whole, which is what it is about.
            self.refusal, error = error, None
        if error is not None:
            self.fail(error)
        elif self.error is not None:
            self.wind_up()
        else:
            self.writer = None
            self.publish()

    def let_go(self) -> None:
        is_over = self.flow.is_stopping or isinstance(self.error, ConnectionLost)
        self.is_kept = is_over and self.whole >= KEEP_FROM and self.flow.keeps()
        if self.reader is not None:
            self.reader.close()
        if self.writer is not None:
            self.writer.close()
        for _, data in self._early:
            self.flow.leave_window(self.lane, len(data))
        self._early = []

    def wind_up(self) -> None:
        if not self.unanswered:
            self.flow.bytes_in_flight -= self._taken
            self._taken = 0
        super().wind_up()


class DirectCopy(FileCopy):
    """A file that the destination copies by itself, piece by piece: nobody reads it."""

    __slots__ = ()

    def open_source(self) -> None:
        flow = self.flow
        flow.destination.open_original(flow.source, self.item.entry.read_path, self.reader_opened)

    def fill(self) -> None:
        # What it is copied into must be there first.
        if self.is_ready:
            super().fill()

    def go_on(self) -> None:
        super().go_on()
        self.fill()

    def bring(self, reader: Reader, offset: int, length: int) -> None:
        self.unsent -= length
        if self.writer is None:
            self.written(offset, length, OperationFailed("The file is closed."))
        else:
            self.writer.copy(reader, offset, length, partial(self._copied, offset, length))

    @property
    def piece_size(self) -> int:
        return self.flow.direct_piece

    def may_measure(self) -> bool:
        return self.flow.destination.capabilities.in_order or not self.unanswered

    def _copied(self, offset: int, length: int, error: StorageError | None) -> None:
        if type(error) is OperationFailed and self.error is None:
            # Perhaps it only says that it can; the file comes again, and alone.
            self.was_refused = True
            self.flow.copy_no_more_directly(error)
        self.written(offset, length, error)
        self.fill()


def _unreadable(error: StorageError) -> StorageError:
    """The error of an item for one of its source."""
    if isinstance(error, ConnectionLost | SourceChanged):
        return error
    if isinstance(error, NotFound):
        return SourceChanged("It is not there any more.")
    return type(error)(f"It cannot be read: {error}")
