"""The one event-loop thread of a worker process: it owns all connections, so they outlive a shard."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class LoopThread:
    """An asyncio loop in a daemon thread."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="io", daemon=True)
        self._thread.start()

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> "Future[T]":
        """Start a coroutine in the loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop)

    def call_soon(self, callback: Callable[[], object]) -> None:
        """Have a callback run in the loop as soon as it can."""
        self.loop.call_soon_threadsafe(callback)


_lock = threading.Lock()
_thread: LoopThread | None = None


def loop_thread() -> LoopThread:
    """This process's loop thread, started on first use."""
    global _thread  # noqa: PLW0603 - one for each process, made under the lock
    with _lock:
        if _thread is None:
            _thread = LoopThread()
        return _thread
