"""Lists a whole tree, many folders at a time."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from functools import partial

from migration_app.engine.filters import Filter
from migration_app.engine.walk import Walk, is_folder, take_once
from migration_app.storages.base import Entry, FolderListing, Storage
from migration_app.storages.errors import ConnectionLost, StorageError


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
    storage: Storage,
    filter: Filter,  # noqa: A002
    *,
    frontier: Sequence[bytes] | None = None,
) -> AsyncGenerator[ScanBatch, None]:
    """List the tree, or what is left of it below `frontier`. Raises ConnectionLost after giving what was listed."""
    listings: list[Listing] = []

    def visit(path: bytes) -> None:
        storage.list_folder(path, partial(listed, path))

    def listed(path: bytes, found: FolderListing | StorageError) -> None:
        if isinstance(found, ConnectionLost):
            walk.lose(found)
            return
        listing = _listing(path, found, filter)
        listings.append(listing)
        inside = [entry.path for entry in listing.entries if is_folder(entry)]
        walk.visited(path, inside, len(listing.entries))

    walk = Walk[bytes]([b""] if frontier is None else frontier, visit)
    try:
        while await walk.advance():
            ready, listings = listings, []
            yield ScanBatch(ready, walk.frontier())
    finally:
        walk.close()
    if walk.lost is not None:
        raise walk.lost


def _listing(path: bytes, found: FolderListing | StorageError, choice: Filter) -> Listing:
    """What one folder holds, as the filter sees it."""
    if isinstance(found, StorageError):
        return Listing(path, error=found)
    listing = Listing(path, problems=found.problems)
    for entry in take_once(found):
        is_out = choice.excludes(entry.path, is_folder(entry))
        (listing.excluded if is_out else listing.entries).append(entry)
    return listing
