"""From a shard to connected storages and back: opening, pinning host keys, and going on after a broken connection."""

import asyncio
import logging
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Generic, TypeVar

from migration_app import endpoints, secrets
from migration_app.endpoints import Side
from migration_app.models import Endpoint
from migration_app.runners.slots import Slots, TooFewAllowed
from migration_app.storages.base import HostKey, Storage, Trace
from migration_app.storages.errors import ConnectFailed, ConnectionLost, HostKeyRejected, HungUp, StorageError
from migration_app.storages.pool import StoragePool
from sessions_app.ioloop import loop_thread
from sessions_app.models import Shard
from sessions_app.runners import ComeLater, JobFailed, NewEvent, ShardContext, log_info, log_warning

logger = logging.getLogger(__name__)
T = TypeVar("T")

PAUSES_S = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Waits before a broken connection is tried again; a connection that got on starts over. From the last one on, the
shard is given back meanwhile: its worker has better things to do."""
FIRST_TRIES = 3
"""How often a first connection is tried again on which the server hung up: longer than idle ones are kept."""
PATIENCE_S = 1800.0
"""Of a transfer, where there is something to lose: the sum of its waits. Not counted by the clock, as the machine may
have slept."""
SLOT_WAIT_S = 1.0
"""Before a shard asks again for a connection that others have."""
WANTED_LOOK_S = 1.0
"""How often a shard that has had its turn looks whether others wait for its connections."""
TOLD_EACH = 8
"""Of those repeated tries, so many give one line in the log."""

_slots = Slots()
_pool = StoragePool(_slots.note)
"""This process's idle connections; it lives in the event-loop thread."""


@dataclass(slots=True)
class Route(Generic[T]):
    """The sides that a shard needs, and work that runs while they are connected.

    `make` gets the connected storages, in the order of `sides`, and gives the work's items; it is called again after
    the connection broke, so it goes on from what the caller has saved.
    """

    context: ShardContext
    sides: list[Side]
    make: Callable[..., AsyncGenerator[T, None]]
    events: Sequence[NewEvent] = ()
    """For the log, when it begins to connect."""
    patience_s: float = PATIENCE_S
    """How long a server may be out of reach while nothing of the job gets on."""
    _open: list[Storage] = field(default_factory=list)
    _traces: dict[int, Trace] = field(default_factory=dict)
    """Of new connections, by the index of their side, with host keys that were not looked at yet."""
    _refused: list[Endpoint] = field(default_factory=list)
    """Servers that hung up on a new connection."""
    _was_connected: bool = False
    _failures: int = 0
    """Since something came."""
    _done: int = -1
    """The sum of the job's counters when it was last seen to grow."""
    _waited_s: float = 0.0
    """Since then."""

    def lists(self, *, most: int = 1000, weight: Callable[[T], int] | None = None) -> Iterator[list[T]]:
        """What `make` yields, in lists as `ShardContext.stream` gives them. Raises JobFailed."""
        self.context.on_abort(self._abort)
        if self.context.note:
            self._failures, self._done, self._waited_s = self.context.note
        self._take_slots()
        # Not again when it is only tried again.
        self.context.checkpoint(events=() if self.context.note else self.events)
        while True:
            try:
                yield from self._connected_lists(most, weight)
                return
            except (ConnectionLost, ConnectFailed) as error:
                self._heed_refusals(error)
                if not self._is_worth_trying(error):
                    raise JobFailed(str(error)) from error
                self._wait(error)
            except StorageError as error:
                raise JobFailed(str(error)) from error

    def _connected_lists(self, most: int, weight: Callable[[T], int] | None) -> Iterator[list[T]]:
        look_at = 0.0
        for items in self.context.stream(self._items(), most=most, weight=weight):
            self._pin()
            if items:
                self._failures = 0
                self.context.note = None
            yield items
            if time.monotonic() >= look_at and self.context.has_had_its_turn():
                look_at = time.monotonic() + WANTED_LOOK_S
                if _slots.is_wanted(by_others_than=self.context.job_id):
                    self.context.give_way()

    def _take_slots(self) -> None:
        """Have a connection of each side counted, until the shard ends. Raises ComeLater, JobFailed."""
        self.context.on_end(_let_go)
        try:
            full = _slots.take(
                self.context.worker_id, self.context.job_id, [side.endpoint for side in self.sides]
            )
        except TooFewAllowed as error:
            raise JobFailed(str(error)) from None
        if full:
            raise ComeLater(SLOT_WAIT_S * random.uniform(0.75, 1.25), full, note=self.context.note)  # noqa: S311

    def _heed_refusals(self, error: StorageError) -> None:
        """Wait for a connection of others where a server takes no more than they have. Raises ComeLater."""
        refused, self._refused = self._refused, []
        for endpoint in refused:
            if most := _slots.refused(self.context.worker_id, endpoint):
                text = (
                    f"{error} {most} {'is' if most == 1 else 'are'} open, and no more are opened for a while."
                )
                self.context.checkpoint(events=[log_info(text)])
                pause_s = SLOT_WAIT_S * random.uniform(0.75, 1.25)  # noqa: S311
                raise ComeLater(pause_s, f"Waits for the server: {error}", note=self.context.note)

    def _is_worth_trying(self, error: StorageError) -> bool:
        if not self._has_connected():
            # The server may take a few connections only, and hold one that a worker has just used.
            return isinstance(error, HungUp) and self._failures < FIRST_TRIES
        return self._failures < len(PAUSES_S) or isinstance(error, ConnectFailed)

    def _has_connected(self) -> bool:
        """Whether this job has been connected before: then a server that does not answer is waited for."""
        return self._was_connected or any(counters.get("connected") for counters in self._counters())

    def _counters(self) -> list[dict[str, int]]:
        return list(Shard.objects.filter(job_id=self.context.job_id).values_list("counters", flat=True))

    def _wait(self, error: StorageError) -> None:
        """Wait before the next try. Raises ComeLater, JobFailed when that has been done for too long."""
        # A server may take a few connections only: this shard then waits for as long as others of the job get on.
        done = sum(sum(counters.values()) for counters in self._counters())
        if done != self._done or not self._failures:
            self._done, self._waited_s = done, 0.0
        if self._waited_s > self.patience_s:
            raise JobFailed(str(error)) from error
        # Shards that got into each other's way shall not do so again.
        is_long = self._failures >= len(PAUSES_S) - 1
        pause_s = (PAUSES_S[-1] if is_long else PAUSES_S[self._failures]) * random.uniform(0.75, 1.25)  # noqa: S311
        is_told = self._failures < len(PAUSES_S) or self._failures % TOLD_EACH == 0
        text = f"{error} Trying again in {pause_s:.1f} s."
        self._failures += 1
        self._waited_s += pause_s
        events = [log_warning(text)] if is_told else []
        sentence = f"Waits for the server: {error}"
        self.context.checkpoint(events=events, waiting_for=sentence)
        if is_long:
            note = (self._failures, self._done, self._waited_s)
            raise ComeLater(pause_s, sentence, note=note)
        self.context.call(asyncio.sleep(pause_s))

    async def _items(self) -> AsyncIterator[T]:
        async with self._connected() as storages:
            self._was_connected = True
            # Closed before the connections are, so that it can clean up after itself.
            async with aclosing(self.make(*storages)) as items:
                async for item in items:
                    yield item

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[list[Storage]]:
        guard = self.context.is_lease_valid
        opened = await asyncio.gather(
            *(_pool.acquire(side.address, side.root, guard=guard) for side in self.sides),
            return_exceptions=True,
        )
        self._open = [found for found in opened if isinstance(found, Storage)]
        is_clean = False
        try:
            self._refused = [
                side.endpoint
                for side, found in zip(self.sides, opened, strict=True)
                if isinstance(found, HungUp)
            ]
            for index, found in enumerate(opened):
                if isinstance(found, BaseException):
                    raise found
                self._traces[index] = found.trace
            yield self._open
            is_clean = True
        finally:
            for storage in self._open:
                _pool.release(storage, reuse=is_clean)
            self._open = []

    def _abort(self) -> None:
        for storage in self._open:
            storage.abort("The lease is over.")

    def _pin(self) -> None:
        """Pin host keys that were seen for the first time, before anything else is saved."""
        while self._traces:
            index, trace = self._traces.popitem()
            side = self.sides[index]
            unpinned = side.unpinned(trace)
            for server, key in unpinned:
                told: list[NewEvent] = []
                try:
                    # Fenced, and with its event: a pin that nobody was told of must not be.
                    self.context.checkpoint(events=told, write=partial(_pin, server, key, told))
                except HostKeyRejected as error:
                    raise JobFailed(str(error)) from error
            if unpinned:
                self.sides[index] = endpoints.side(side.endpoint.pk, side.root.decode())


def _let_go() -> None:
    """A shard has ended: its connections are kept for the next one, unless other jobs wait for them."""
    if _slots.is_wanted():
        loop_thread().call_soon(_pool.drop)
    _slots.give_back()


def _pin(server: Endpoint, key: HostKey, told: list[NewEvent]) -> None:
    if sentence := endpoints.pin(server, key):
        told.append(log_info(sentence))


def side_of(context: ShardContext, endpoint: str, root: str) -> Side:
    """The side that two parameters of the job name. Raises JobFailed."""
    try:
        return endpoints.side(context.params[endpoint], context.params[root])
    except (Endpoint.DoesNotExist, secrets.CannotOpen) as error:
        raise JobFailed(str(error)) from error


def both_sides(context: ShardContext) -> list[Side]:
    """Source and destination. Raises JobFailed."""
    return [
        side_of(context, "source", "source_root"),
        side_of(context, "destination", "destination_root"),
    ]
