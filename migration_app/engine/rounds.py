"""Less at once, and later, where a server may be short of what each thing under way takes: open files, room, time."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)

FEWER = 4
"""So many times less goes on at once in the next round."""
MOST_TRIES = 5
"""Of an item that the server said it could not do now."""
BACK_OFF_S = 0.25
"""The pause before the second round; each later one is twice as long."""
LONGEST_BACK_OFF_S = 8.0


class Rounds(Generic[T]):
    """Items that were refused are tried again when all else is over, after a pause, with fewer at once, down to one.

    A round in which nothing got on shows that it was not the number: what is left is tried a last time, but for what
    may work a moment later.
    """

    def __init__(self, at_once: int) -> None:
        self.at_once = at_once
        self.put_off: list[T] = []
        """What the next round is for."""
        self.tries: Counter[T] = Counter()
        """How often an item was put off."""
        self._round = 0
        self._due_at: float | None = None
        self._is_last = at_once == 1
        self._has_got_on = False

    def get_on(self) -> None:
        """Something was not refused in this round."""
        self._has_got_on = True

    def puts_off(self, item: T, *, is_transient: bool = False) -> bool:
        """Whether something that was refused is tried again; else that was its end."""
        if self._is_last and not (is_transient and self.tries[item] < MOST_TRIES - 1):
            return False
        self.tries[item] += 1
        self.put_off.append(item)
        return True

    def waits(self, go_on: Callable[[], object]) -> bool:
        """Whether it is too early for the next round; `go_on` is called when it is not any more."""
        loop = asyncio.get_running_loop()
        if self._due_at is None:
            # Not equally long where several wait for one server.
            pause_s = min(LONGEST_BACK_OFF_S, BACK_OFF_S * 2**self._round) * random.uniform(0.75, 1.25)  # noqa: S311
            self._due_at = loop.time() + pause_s
            loop.call_at(self._due_at, go_on)
        return loop.time() < self._due_at

    def begin_next(self) -> list[T]:
        """Begin the next round; gives what it is for."""
        self._round += 1
        self._due_at = None
        if self._has_got_on:
            self.at_once = max(1, self.at_once // FEWER)
        self._is_last = self.at_once == 1 or not self._has_got_on
        self._has_got_on = False
        put_off, self.put_off = self.put_off, []
        return put_off
