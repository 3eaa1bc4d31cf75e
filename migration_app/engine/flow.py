"""What a transfer has under way: lanes for small and large files, a window in bytes, and what ended."""

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence

from migration_app.engine.bundling import Bundling
from migration_app.engine.copies import Copy, FolderCopy, LinkCopy, Refusal
from migration_app.engine.file_copies import KEEP_FROM, DirectCopy, FileCopy
from migration_app.engine.items import Done, Item, UnderWay, Way
from migration_app.engine.lanes import Lane
from migration_app.engine.new_folders import NewFolders
from migration_app.engine.pace import Pace
from migration_app.engine.pump import Pump
from migration_app.engine.rounds import Rounds
from migration_app.storages.base import Kind, Storage, files_at_once
from migration_app.storages.errors import ConnectionLost, NoSpace, OperationFailed, StorageError

LARGE_AT_ONCE = 4
LARGE_FROM = 2**20
WINDOW = 8 * 2**20
"""Bytes that were asked for and that the destination has not taken yet."""
DIRECT_PIECE = 4 * 2**20
"""Of a file that the destination copies by itself; as many bytes as it can copy without anybody noticing a pause."""
DIRECT_WINDOW = 8 * DIRECT_PIECE
"""In place of the usual one, as none of it is in memory here."""
SMALL_SHARE = 2 * 2**20
"""What small files have of the window while there are large ones."""
BATCH_DONE = 500
STOP_S = 1.5
MOST_SHOWN = 8
"""Of the files under way."""

_COPIES: dict[Kind, type[Copy]] = {
    Kind.FILE: FileCopy,
    Kind.LINK: LinkCopy,
    Kind.FOLDER: FolderCopy,
    Kind.OTHER: Refusal,
}


class Flow:
    """A transfer under way."""

    def __init__(
        self,
        source: Storage,
        destination: Storage,
        items: Sequence[Item],
        *,
        folders_known: Collection[bytes],
        pace: Pace,
        at_once: int | None,
        ways: Collection[Way],
        keeps: Callable[[], bool],
    ) -> None:
        self.source = source
        self.destination = destination
        self.pace = pace
        self.keeps = keeps
        """Whether what is there of large files stays when the transfer stops."""
        self._chunk_size = min(source.capabilities.chunk_size, destination.capabilities.chunk_size)
        self._is_direct = Way.DIRECT in ways and destination.copies_from(source)
        self.lost: ConnectionLost | None = None
        self.bytes_in_flight = 0
        self.current_file = b""
        self.folders = NewFolders(destination, folders_known, self.call_later)
        bundled = items if Way.BUNDLED in ways and at_once is None and not self._is_direct else ()
        self.bundling = Bundling(source, destination, bundled, most_bytes=self.chunk_size)
        at_once = at_once or files_at_once(source.capabilities, destination.capabilities)
        window = DIRECT_WINDOW if self._is_direct else WINDOW
        self._small = Lane(at_once, SMALL_SHARE, window)
        self._large = Lane(LARGE_AT_ONCE, window - SMALL_SHARE, window)
        self._small.other, self._large.other = self._large, self._small
        self._rounds = Rounds[Item](at_once)
        self._line_up(items)
        self.is_stopping = False
        self._kept: dict[int, int] = {}
        self._later: deque[Callable[[], None]] = deque()
        self._done: list[Done] = []
        self._notes: list[str] = []
        self._pump = Pump(self._step)

    # For the generator

    async def advance(self, timeout_s: float) -> list[Done] | None:
        """What ended since the last call, after at most `timeout_s`; None when nothing comes any more."""
        if self._is_over and not self._done:
            return None
        if not self._is_over:
            self._pump.schedule()
            await self._pump.wait(timeout_s)
        return self.take_done()

    def take_done(self) -> list[Done]:
        """What ended since the last time."""
        done, self._done = self._done, []
        return done

    def take_notes(self) -> list[str]:
        """Why files do not go another way than alone any more, since the last time."""
        notes, self._notes = [*self._notes, *self.bundling.take_problems()], []
        return notes

    def files_under_way(self) -> list[UnderWay]:
        """A few of the files that are under way, the largest first."""
        copies = [
            copy
            for lane in (self._large, self._small)
            for copy in lane.under_way
            if isinstance(copy, FileCopy)
        ]
        largest = heapq.nsmallest(
            MOST_SHOWN, copies, key=lambda copy: (-copy.item.entry.size, copy.item.number)
        )
        return [UnderWay(copy.item.entry.path, copy.item.entry.size, copy.taken) for copy in largest]

    @property
    def partial(self) -> dict[int, int]:
        """How much is there of large files that are not finished, from the beginning on, by the item's number."""
        lanes = (self._small, self._large)
        waiting = {item.number: item.start for lane in lanes for item in lane.items if item.start}
        waiting |= {item.number: item.start for item in self._rounds.put_off if item.start}
        copies = [copy for lane in lanes for copy in lane.under_way if isinstance(copy, FileCopy)]
        return (
            self._kept
            | waiting
            | {copy.item.number: copy.whole for copy in copies if copy.whole >= KEEP_FROM}
        )

    async def stop(self) -> None:
        """Start nothing more; close what is half done and remove what is not kept of it, as far as that takes no
        longer than `STOP_S`."""
        self.is_stopping = True
        lanes = (self._small, self._large)
        for lane in lanes:
            lane.items.clear()
            for copy in list(lane.under_way):
                copy.give_up()
        self._pump.schedule()
        time = asyncio.get_running_loop().time
        until = time() + STOP_S
        try:
            while any(lane.under_way for lane in lanes) and time() < until:
                await self._pump.wait(until - time())
        finally:
            self._pump.stop()
            self.bundling.close()

    @property
    def _is_over(self) -> bool:
        return self.lost is not None or (self._are_lanes_over and not self._rounds.put_off)

    @property
    def _are_lanes_over(self) -> bool:
        return self._small.is_over and self._large.is_over

    # For the copies

    @property
    def direct_piece(self) -> int:
        """The most bytes that the destination is asked to copy by itself at once."""
        return min(DIRECT_PIECE, self.pace.largest_piece)

    @property
    def chunk_size(self) -> int:
        """How much to ask for at once; the pace may have been set to another one."""
        return min(self._chunk_size, self.pace.largest_piece)

    def call_later(self, go_on: Callable[[], None]) -> None:
        """Call something from the pump."""
        self._later.append(go_on)
        self._pump.schedule()

    def wait_for_window(self, copy: FileCopy) -> None:
        """Call `copy.fill` when it is its turn and there is room."""
        if copy.way is Way.BUNDLED and copy.has_begun:
            # What is asked of it stays in the window until it is whole: no other one may begin before.
            copy.lane.hungry.appendleft(copy)
        else:
            copy.lane.hungry.append(copy)
        self._pump.schedule()

    def leave_window(self, lane: Lane, size: int) -> None:
        """Bytes were taken, or are not wanted any more."""
        lane.in_window -= size
        if lane.hungry:
            self._pump.schedule()

    def copy_no_more_directly(self, error: StorageError) -> None:
        """The destination could not copy by itself."""
        if self._is_direct:
            self._is_direct = False
            self._notes.append(
                f"Files go through this machine from here on. The server did not copy them itself: {error}"
            )

    def lose(self, error: ConnectionLost) -> None:
        """One of the connections is gone: nothing more can be done."""
        self.lost = self.lost or error
        self._pump.wake()

    def end(self, copy: Copy, error: StorageError | None) -> None:
        """A copy is over and has nothing open any more."""
        lane = copy.lane
        lane.under_way.discard(copy)
        lane.bundled -= copy.way is Way.BUNDLED
        if isinstance(copy, FileCopy) and copy.is_kept:
            self._kept[copy.item.number] = copy.whole
        # What came to its end while all is stopped is done; what was given up is not.
        is_given_up = self.is_stopping and error is not None
        if self.lost is None and not is_given_up and not self._tries_again(copy, error):
            item = copy.item
            size = item.entry.size if item.entry.kind is Kind.FILE and error is None else 0
            resumed = item.start if error is None else 0
            tries = 1 + (self._rounds.tries[item] if self._rounds.tries else 0)
            self._done.append(
                Done(item.number, item.entry.path, size, error, resumed, copy.refusal, tries, copy.way)
            )
        if len(self._done) >= BATCH_DONE or lane.is_over:
            self._pump.wake()
        self._pump.schedule()

    def _tries_again(self, copy: Copy, error: StorageError | None) -> bool:
        """Whether a file comes again later, as it may have failed because of others that were under way."""
        if error is None and isinstance(copy, FileCopy):
            self._rounds.get_on()
        # What is large may itself be what leaves no room, and is not sent twice for nothing.
        costs_little = copy.was_refused or copy.item.entry.size < LARGE_FROM
        is_unclear = type(error) in (OperationFailed, NoSpace) and costs_little
        is_transient = error is not None and error.is_transient
        if not isinstance(copy, FileCopy) or not (is_unclear or is_transient):
            return False
        return self._rounds.puts_off(copy.item, is_transient=is_transient)

    def _line_up(self, items: Iterable[Item]) -> None:
        at_once = self._rounds.at_once
        self._small.at_once, self._large.at_once = at_once, min(at_once, LARGE_AT_ONCE)
        for item in items:
            # One at once is one in all, which two lanes would make two.
            is_large = item.entry.kind is Kind.FILE and item.entry.size >= LARGE_FROM and at_once > 1
            (self._large if is_large else self._small).items.append(item)

    # One step of the pump

    def _step(self) -> bool:
        if self._later:
            self._later.popleft()()
            return True
        if self.is_stopping or self.lost is not None:
            return False
        return (
            self._feed(self._small)
            or self._start_next(self._small)
            or self._feed(self._large)
            or self._start_next(self._large)
            or self._start_round()
        )

    def _start_round(self) -> bool:
        if not self._are_lanes_over or not self._rounds.put_off:
            return False
        if self._rounds.waits(self._pump.schedule):
            return False
        self._line_up(self._rounds.begin_next())
        return True

    def _feed(self, lane: Lane) -> bool:
        if not lane.hungry or not lane.has_room(self.chunk_size) or self._pump.waits_for(self.pace):
            return False
        lane.hungry.popleft().fill()
        return True

    def _start_next(self, lane: Lane) -> bool:
        if not lane.items:
            return False
        item = lane.items[0]
        way = self._way(item)
        is_bundled = way is Way.BUNDLED
        most, under_way = (self.bundling.at_once, lane.bundled) if is_bundled else (lane.at_once, lane.alone)
        if under_way >= most:
            return False
        lane.items.popleft()
        copy = (DirectCopy if way is Way.DIRECT else _COPIES[item.entry.kind])(self, lane, item)
        copy.way = way
        lane.bundled += is_bundled
        lane.under_way.add(copy)
        self.current_file = item.entry.path
        copy.start()
        return True

    def _way(self, item: Item) -> Way:
        # What failed before goes alone, so that it fails for its own reason.
        if item.entry.kind is not Kind.FILE or item in self._rounds.tries:
            return Way.ALONE
        if self._is_direct:
            return Way.DIRECT
        return Way.BUNDLED if self.bundling.takes(item) else Way.ALONE
