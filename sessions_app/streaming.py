"""From the event-loop thread to the task's thread: an async iterator read in lists, by time and weight."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from typing import Generic, TypeVar

from sessions_app.ioloop import LoopThread

T = TypeVar("T")

WIND_DOWN_S = 2.0
"""How long a cancelled iterator may clean up after itself."""


class Pump(Generic[T]):
    """Reads an async iterator in the loop thread; the task's thread takes what has come, when it wants."""

    def __init__(
        self, thread: LoopThread, source: AsyncIterator[T], *, most: int, weight: Callable[[T], int]
    ) -> None:
        self._thread = thread
        self._source = source
        self._most = most
        self._weight = weight
        self._lock = threading.Lock()
        self._items: list[T] = []
        self._held = 0
        self._ready = threading.Event()
        self._room = asyncio.Event()
        self._ended = False
        self._error: BaseException | None = None
        self._task: asyncio.Task[None] | None = None
        self._cancelled = False
        self._future: Future[None] = thread.submit(self._run())

    async def _run(self) -> None:
        self._task = asyncio.current_task()
        try:
            if self._cancelled:
                return
            async for item in self._source:
                with self._lock:
                    self._items.append(item)
                    self._held += self._weight(item)
                    full = self._held >= self._most
                if full:
                    self._ready.set()
                if self._held >= 4 * self._most:
                    self._room.clear()
                    await self._room.wait()
        except asyncio.CancelledError:
            pass  # cancel() asked for it: whoever reads gets what was read so far, and then the end.
        except BaseException as error:
            self._error = error
        finally:
            close = getattr(self._source, "aclose", None)
            if close is not None:
                await close()
            self._ended = True
            self._ready.set()

    def cancel(self) -> None:
        """Stop reading; safe to call from any thread."""

        def stop() -> None:
            # Once: a second one would interrupt what the iterator does to clean up after the first.
            if self._cancelled:
                return
            self._cancelled = True
            if self._task is not None:
                self._task.cancel()

        self._thread.call_soon(stop)

    def close(self) -> None:
        """Stop reading and wait until the iterator has wound down, for at most WIND_DOWN_S seconds."""
        if not self._ended:
            self.cancel()
            deadline = time.monotonic() + WIND_DOWN_S
            while not self._ended and time.monotonic() < deadline:
                self._ready.wait(0.05)
                time.sleep(0.005)

    def lists(self, *, first_s: float, interval_s: float) -> Iterator[list[T]]:
        """Lists of what has come, at least one every `interval_s`; at the end, raises what the iterator raised."""
        wait_s = first_s
        while True:
            self._ready.wait(wait_s)
            wait_s = interval_s
            with self._lock:
                ended = self._ended
                items, self._items = self._items, []
                self._held = 0
                if not ended:
                    self._ready.clear()
            self._thread.call_soon(self._room.set)
            if items or not ended:
                yield items
            if ended:
                if self._error is not None:
                    raise self._error
                return
