"""Lists a whole tree, many folders at a time."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from migration_app.engine.filters import Filter
from migration_app.storages.base import Entry, Storage
from migration_app.storages.errors import StorageError


@dataclass(slots=True)
class Listing:
    """One folder: what it holds, what the filter left out, which names were refused; or why it could not be listed."""

    path: bytes
    entries: list[Entry] = field(default_factory=list)
    excluded: list[Entry] = field(default_factory=list)
    problems: list[tuple[bytes, StorageError]] = field(default_factory=list)
    """Paths of single entries that could not be taken, and why."""
    error: StorageError | None = None


@dataclass(slots=True)
class ScanBatch:
    """Folders listed since the last batch, and those that are still to be listed: a scan can go on from there."""

    folders: list[Listing] = field(default_factory=list)
    frontier: list[bytes] = field(default_factory=list)


async def scan_tree(
    storage: Storage, filter: Filter, *, frontier: Sequence[bytes] | None = None
) -> AsyncIterator[ScanBatch]:
    """List the tree, or what is left of it below `frontier`. Raises ConnectionLost after giving what was listed."""
    raise NotImplementedError
    yield ScanBatch()
