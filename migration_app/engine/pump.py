"""Runs small steps in the event loop, never long at a time, and lets a generator wait for what comes of them."""

import asyncio
from collections.abc import Callable
from time import perf_counter

from migration_app.engine.pace import LONGEST_WAIT_S, Pace

SLICE_S = 0.01


class Pump:
    """Calls `step` until it says that nothing can be done now; goes on when scheduled again.

    Storages may answer before an operation returns: work that goes on from here, instead of from the answer, does not
    pile up on the stack, and does not hold the loop.
    """

    def __init__(self, step: Callable[[], bool]) -> None:
        self._loop = asyncio.get_running_loop()
        self._step = step
        self._event = asyncio.Event()
        self._is_due = False
        self._is_stopped = False
        self._is_held = False
        """Whether a pace is waited for."""
        self._error: Exception | None = None

    def schedule(self) -> None:
        """Go on in the next turn of the loop."""
        if not self._is_due and not self._is_stopped:
            self._is_due = True
            self._loop.call_soon(self._run)

    def _run(self) -> None:
        self._is_due = False
        if self._is_stopped:
            return
        until = perf_counter() + SLICE_S
        try:
            while self._step():
                if perf_counter() > until:
                    self.schedule()
                    return
        except Exception as error:  # noqa: BLE001, RUF100 - whoever waits gets it
            self._error = error
            self.stop()
            self.wake()

    def waits_for(self, pace: Pace) -> bool:
        """Whether the pace lets nothing through now; goes on when it does."""
        wait_s = pace.wait_s()
        if wait_s and not self._is_held:
            self._is_held = True
            # No longer than a moment, as the pace may be set to another one meanwhile.
            self._loop.call_later(min(wait_s, LONGEST_WAIT_S), self._let_go)
        return wait_s > 0

    def _let_go(self) -> None:
        self._is_held = False
        self.schedule()

    def stop(self) -> None:
        """Call `step` no more."""
        self._is_stopped = True

    def wake(self) -> None:
        """Let the one who waits go on."""
        self._event.set()

    async def wait(self, timeout_s: float) -> None:
        """Wait until somebody calls `wake`, or the time is over. Raises what a step raised."""
        timer = self._loop.call_later(timeout_s, self._event.set)
        try:
            await self._event.wait()
        finally:
            timer.cancel()
            self._event.clear()
        error, self._error = self._error, None
        if error is not None:
            raise error
