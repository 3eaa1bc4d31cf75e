"""Compares two trees and says for each entry of the source what to do."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from migration_app.engine.filters import Filter
from migration_app.storages.base import Entry, Storage
from migration_app.storages.errors import StorageError


class Action(StrEnum):
    """What is to be done with an entry."""

    CREATE = "create"
    UPDATE = "update"
    SKIP = "skip"
    CONFLICT = "conflict"


@dataclass(frozen=True, slots=True)
class Step:
    """An entry of the source, what to do with it, and for a conflict why it cannot be done."""

    entry: Entry
    action: Action
    reason: str = ""


@dataclass(frozen=True, slots=True)
class OpenFolder:
    """A folder that is still to be compared."""

    path: bytes
    exists_at_destination: bool


@dataclass(slots=True)
class PlanBatch:
    """What was compared since the last batch, and what is still to be: a comparison can go on from there."""

    steps: list[Step] = field(default_factory=list)
    unreadable: list[tuple[bytes, StorageError]] = field(default_factory=list)
    excluded_count: int = 0
    excluded_size: int = 0
    frontier: list[OpenFolder] = field(default_factory=list)


async def compare_trees(
    source: Storage, destination: Storage, filter: Filter, *, frontier: Sequence[OpenFolder] | None = None
) -> AsyncIterator[PlanBatch]:
    """Compare from the root, or from `frontier`. Raises ConnectionLost after giving what was compared."""
    raise NotImplementedError
    yield PlanBatch()
