"""Small and large files go side by side, so that neither sort waits for the other."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from migration_app.engine.items import Item

if TYPE_CHECKING:
    from migration_app.engine.copies import Copy
    from migration_app.engine.file_copies import FileCopy


class Lane:
    """Items of one sort, of which some are under way, and its part of the window."""

    __slots__ = (
        "at_once",
        "bundled",
        "hungry",
        "in_window",
        "items",
        "other",
        "share",
        "under_way",
        "window",
    )

    def __init__(self, at_once: int, share: int, window: int) -> None:
        self.at_once = at_once
        self.share = share
        self.window = window
        self.other: Lane | None = None
        self.items: deque[Item] = deque()
        self.under_way: set[Copy] = set()
        self.bundled = 0
        """How many of them go in bundles."""
        self.hungry: deque[FileCopy] = deque()
        """Files that wait for room in the window."""
        self.in_window = 0

    @property
    def alone(self) -> int:
        """How many of them go alone, not in bundles."""
        return len(self.under_way) - self.bundled

    @property
    def is_over(self) -> bool:
        """Whether nothing is left of it."""
        return not (self.items or self.under_way)

    def has_room(self, size: int) -> bool:
        """Whether `size` more bytes may be asked for; a lane that has none under way always may."""
        if not self.in_window:
            return True
        is_alone = self.other is None or self.other.is_over
        return self.in_window + size <= (self.window if is_alone else self.share)
