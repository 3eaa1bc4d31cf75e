"""Connections kept for the next shard."""

import asyncio
from collections.abc import Callable

from migration_app.storages.base import Address, Guard, Storage
from migration_app.storages.registry import open_storage

IDLE_S = 1.0
"""Shards follow each other closely; a paused job has no connection any more soon, and others have room."""


class StoragePool:
    """Idle connections by address; lives in one event loop. An address holds the full credentials and the host-key
    policy, so a connection never serves anybody else.

    `note` is told of each connection before it is opened, with 1, and after it was closed, with -1.
    """

    def __init__(self, note: Callable[[Address, int], None] = lambda _, __: None) -> None:
        self._note = note
        self._idle: dict[Address, list[tuple[Storage, asyncio.TimerHandle]]] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._is_closed = False

    async def acquire(self, address: Address, root: bytes, *, guard: Guard) -> Storage:
        """A connected storage. Raises what `Storage.connect` raises, ValueError for an unknown protocol."""
        while waiting := self._idle.get(address):
            storage, timer = waiting.pop()
            if not waiting:
                del self._idle[address]
            timer.cancel()
            if storage.is_connected:
                storage.root, storage.guard = root, guard
                return storage
        await self._close_others(address)
        storage = open_storage(address, root, guard=guard)
        self._note(address, 1)
        try:
            await storage.connect()
        except BaseException:
            self._note(address, -1)
            raise
        return storage

    async def _close_others(self, address: Address) -> None:
        """Close what is idle of the same server for somebody else: it counts as much as what is to be opened."""
        for other in list(self._idle):
            if (other.protocol, other.host, other.port) == (address.protocol, address.host, address.port):
                for storage, timer in self._idle.pop(other):
                    timer.cancel()
                    await self._closed(storage)

    def release(self, storage: Storage, *, reuse: bool) -> None:
        """Give a storage back: kept for `IDLE_S` when `reuse` and nothing is outstanding on it, else closed."""
        if not (reuse and storage.is_poolable and storage.is_connected and not self._is_closed):
            self._close(storage)
            return
        # It keeps its guard: what was asked in this turn of the loop, as the closing of a file, leaves in the next.
        timer = asyncio.get_running_loop().call_later(IDLE_S, self._expire, storage)
        self._idle.setdefault(storage.address, []).append((storage, timer))

    def drop(self) -> None:
        """Close all that is idle: others wait for the room."""
        for waiting in self._idle.values():
            for storage, timer in waiting:
                timer.cancel()
                self._close(storage)
        self._idle.clear()

    async def close(self) -> None:
        """Close all that is idle, wait for what is closing, and keep nothing from now on."""
        self._is_closed = True
        self.drop()
        if self._closing:
            await asyncio.wait(self._closing)

    def _expire(self, storage: Storage) -> None:
        waiting = self._idle[storage.address]
        waiting[:] = [(kept, timer) for kept, timer in waiting if kept is not storage]
        if not waiting:
            del self._idle[storage.address]
        self._close(storage)

    def _close(self, storage: Storage) -> None:
        task = asyncio.get_running_loop().create_task(self._closed(storage))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _closed(self, storage: Storage) -> None:
        try:
            await storage.close()
        finally:
            self._note(storage.address, -1)
