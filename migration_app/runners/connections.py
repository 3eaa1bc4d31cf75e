"""From a shard to connected storages and back: opening, pinning host keys, and going on after a broken connection."""

import asyncio
import logging
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Generic, TypeVar

from migration_app import endpoints, secrets
from migration_app.endpoints import Side
from migration_app.models import Endpoint
from migration_app.storages.base import HostKey, Storage, Trace
from migration_app.storages.errors import ConnectFailed, ConnectionLost, HostKeyRejected, HungUp, StorageError
from migration_app.storages.pool import StoragePool
from sessions_app.models import Shard
from sessions_app.runners import JobFailed, NewEvent, ShardContext

logger = logging.getLogger(__name__)
T = TypeVar("T")

PAUSES_S = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Waits before a broken connection is tried again; a connection that got on starts over."""
FIRST_TRIES = 3
"""How often a first connection is tried again on which the server hung up: longer than idle ones are kept."""
PATIENCE_S = 1800.0
"""Of a transfer, where there is something to lose; the last of the pauses is repeated for so long."""
TOLD_EACH = 8
"""Of those repeated tries, so many give one line in the log."""

_pool = StoragePool()
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
    patience_s: float = PATIENCE_S
    """How long a server may be out of reach while nothing of the job gets on."""
    _open: list[Storage] = field(default_factory=list)
    _traces: dict[int, Trace] = field(default_factory=dict)
    """Of new connections, by the index of their side, with host keys that were not looked at yet."""
    _was_connected: bool = False
    _failures: int = 0
    """Since something came."""
    _done: int = -1
    """The sum of the job's counters when it was last seen to grow."""
    _grew_at: float = 0.0

    def lists(self, *, most: int = 1000, weight: Callable[[T], int] | None = None) -> Iterator[list[T]]:
        """What `make` yields, in lists as `ShardContext.stream` gives them. Raises JobFailed."""
        self.context.on_abort(self._abort)
        while True:
            try:
                for items in self.context.stream(self._items(), most=most, weight=weight):
                    self._pin()
                    if items:
                        self._failures = 0
                    yield items
                return
            except (ConnectionLost, ConnectFailed) as error:
                if not self._is_worth_trying(error):
                    raise JobFailed(str(error)) from error
                self._wait(error)
            except StorageError as error:
                raise JobFailed(str(error)) from error

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
        """Wait before the next try. Raises JobFailed when that has been done for too long."""
        # A server may take a few connections only: this shard then waits for as long as others of the job get on.
        done = sum(sum(counters.values()) for counters in self._counters())
        if done != self._done or not self._failures:
            self._done, self._grew_at = done, time.monotonic()
        if time.monotonic() - self._grew_at > self.patience_s:
            raise JobFailed(str(error)) from error
        # Shards that got into each other's way shall not do so again.
        pause_s = PAUSES_S[min(self._failures, len(PAUSES_S) - 1)] * random.uniform(0.75, 1.25)  # noqa: S311
        is_told = self._failures < len(PAUSES_S) or self._failures % TOLD_EACH == 0
        text = f"{error} Trying again in {pause_s:.1f} s."
        self._failures += 1
        events = [NewEvent("log", {"level": "warning", "message": text})] if is_told else []
        self.context.checkpoint(events=events)
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


def _pin(server: Endpoint, key: HostKey, told: list[NewEvent]) -> None:
    if sentence := endpoints.pin(server, key):
        told.append(NewEvent("log", {"level": "info", "message": sentence}))


def side_of(context: ShardContext, endpoint: str, root: str) -> Side:
    """The side that two parameters of the job name. Raises JobFailed."""
    try:
        return endpoints.side(context.params[endpoint], context.params[root])
    except (Endpoint.DoesNotExist, secrets.CannotOpen) as error:
        raise JobFailed(str(error)) from error
