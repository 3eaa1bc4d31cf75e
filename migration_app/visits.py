"""Connecting while somebody waits for the answer: tests of connections and their folders.

This runs in the web process, where a person has the answer soonest and no worker may be up. What waits in the
network are coroutines in one loop thread; what a visit costs the web process is the thread of its request, of which
there are 32 (`sessions_app.gate`). MOST_AT_ONCE keeps three quarters of them free whatever the servers do, MOST_EACH
keeps one person from using all of them up, and MOST_S ends a visit that nothing else has ended.
"""

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from rest_framework.exceptions import Throttled

from migration_app.endpoints import Side
from migration_app.storages.base import Storage
from migration_app.storages.errors import ConnectFailed
from migration_app.storages.registry import open_storage
from sessions_app.ioloop import loop_thread
from sessions_app.models import User

T = TypeVar("T")

MOST_AT_ONCE = 8
MOST_EACH = 4
MOST_S = 15.0
RETRY_S = 2

_lock = threading.Lock()
_under_way: Counter[int] = Counter()


class Busy(Throttled):
    """Too many connections are being tried at once: 429 with Retry-After."""

    def __init__(self) -> None:
        super().__init__(
            detail="Too many connections are being tried at the same time. Try again in a moment."
        )
        self.wait = RETRY_S


def visit(user: User, side: Side, work: Callable[[Storage], Coroutine[Any, Any, T]]) -> T:
    """Run `work` on a storage that is not connected yet. Raises StorageError, Busy."""

    async def bounded() -> T:
        storage = open_storage(side.address, side.root, guard=lambda: True)
        try:
            async with asyncio.timeout(MOST_S):
                return await work(storage)
        except TimeoutError:
            raise ConnectFailed(f"The server did not answer within {MOST_S:.0f} s.") from None
        finally:
            storage.abort()

    with _slot(user.pk):
        return loop_thread().submit(bounded()).result()


@contextmanager
def _slot(user_id: int) -> Iterator[None]:
    with _lock:
        if _under_way.total() >= MOST_AT_ONCE or _under_way[user_id] >= MOST_EACH:
            raise Busy
        _under_way[user_id] += 1
    try:
        yield
    finally:
        with _lock:
            _under_way[user_id] -= 1
