"""Less at once where a server may be short of what each thing under way takes: open files, room for unfinished ones."""

from typing import Generic, TypeVar

T = TypeVar("T")

FEWER = 4
"""So many times less goes on at once in the next round."""


class Rounds(Generic[T]):
    """Things that were refused are tried again when all else is over, with fewer at once, down to one.

    A round in which nothing got on shows that it was not the number: what is left is tried a last time.
    """

    def __init__(self, at_once: int) -> None:
        self.at_once = at_once
        self.put_off: list[T] = []
        """What the next round is for."""
        self._is_last = at_once == 1
        self._has_got_on = False

    def get_on(self) -> None:
        """Something was not refused in this round."""
        self._has_got_on = True

    def puts_off(self, thing: T) -> bool:
        """Whether something that was refused is tried again; else that was its end."""
        if not self._is_last:
            self.put_off.append(thing)
        return not self._is_last

    def begin_next(self) -> list[T]:
        """Begin the next round; gives what it is for."""
        if self._has_got_on:
            self.at_once = max(1, self.at_once // FEWER)
        self._is_last = self.at_once == 1 or not self._has_got_on
        self._has_got_on = False
        put_off, self.put_off = self.put_off, []
        return put_off
