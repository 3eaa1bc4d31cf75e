"""Lists a whole tree, many folders at a time."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from functools import partial

from migration_app.engine.filters import Filter
from migration_app.engine.links import DIRECT, Lister, Way
from migration_app.engine.walk import Walk, is_folder, take_once
from migration_app.storages.base import Entry, FolderListing, Kind, Storage
from migration_app.storages.errors import ConnectionLost, StorageError


@dataclass(slots=True)
class Listing:
    """One folder: what it holds, what the filter left out, which names were refused; or why it could not be listed."""

    path: bytes
    entries: list[Entry] = field(default_factory=list)
    excluded: list[Entry] = field(default_factory=list)
    problems: list[tuple[bytes, StorageError]] = field(default_factory=list)
    """Paths of single entries that could not be taken, and why."""
    kept_links: list[tuple[bytes, str]] = field(default_factory=list)
    """Links that were not followed, and why."""
    error: StorageError | None = None


@dataclass(frozen=True, slots=True)
class Unlisted:
    """A folder that is still to be listed."""

    path: bytes
    way: Way = DIRECT


ROOT = Unlisted(b"")


@dataclass(slots=True)
class ScanBatch:
    """Folders listed since the last batch, and those that are still to be listed: a scan can go on from there."""

    folders: list[Listing] = field(default_factory=list)
    frontier: list[Unlisted] = field(default_factory=list)
    followed: int = 0
    """Links to folders that were followed so far."""


async def scan_tree(
    storage: Storage,
    filter: Filter,  # noqa: A002
    *,
    max_depth: int = 0,
    max_files: int = 0,
    follow_links: bool = False,
    followed: int = 0,
    frontier: Sequence[Unlisted] | None = None,
) -> AsyncGenerator[ScanBatch, None]:
    """List the tree, or what is left of it below `frontier`. Raises ConnectionLost after giving what was listed.

    What lies in the root has depth 1; folders at `max_depth` are not opened. The scan ends with file number
    `max_files`, whichever folders come first. 0: no limit. `followed` counts on from an earlier part of the scan.
    """
    listings: list[Listing] = []
    files = 0

    def is_full() -> bool:
        return max_files > 0 and files >= max_files

    def is_wanted(link: Entry) -> bool:
        return not filter.excludes(link.path, False)

    lister = Lister(storage, follows=follow_links, followed=followed, wants=is_wanted)

    def visit(folder: Unlisted) -> None:
        lister.list_folder(folder.path, folder.way, partial(listed, folder))

    def listed(folder: Unlisted, found: FolderListing | StorageError) -> None:
        nonlocal files
        path, way = folder.path, folder.way
        if isinstance(found, ConnectionLost):
            walk.lose(found)
            return
        if is_full():
            walk.visited(folder, (), 0)
            return
        if walk.tries_again(folder, found):
            return
        listing = _listing(path, found, filter)
        if max_files:
            files += _cut(listing, max_files - files)
        listings.append(listing)
        is_deepest = max_depth and _depth(path) + 1 >= max_depth
        folders = [entry for entry in listing.entries if is_folder(entry) and not is_deepest]
        inside = [Unlisted(entry.path, way.into(path, entry)) for entry in folders]
        walk.visited(folder, inside, len(listing.entries))

    walk = Walk[Unlisted]([ROOT] if frontier is None else frontier, visit, storage.capabilities)
    try:
        with storage.listing_ahead():
            while await walk.advance():
                ready, listings = listings, []
                yield ScanBatch(ready, [] if is_full() else walk.frontier(), lister.followed)
                if is_full():
                    return
    finally:
        walk.close()
    if walk.lost is not None:
        raise walk.lost


def _depth(path: bytes) -> int:
    """How far below the root a folder is."""
    return path.count(b"/") + 1 if path else 0


def _cut(listing: Listing, most: int) -> int:
    """Take out the files of a listing after so many; gives how many it has then."""
    files = 0
    kept = []
    for entry in listing.entries:
        if entry.kind is not Kind.FILE or files < most:
            kept.append(entry)
            files += entry.kind is Kind.FILE
    listing.entries = kept
    return files


def _listing(path: bytes, found: FolderListing | StorageError, choice: Filter) -> Listing:
    """What one folder holds, as the filter sees it."""
    if isinstance(found, StorageError):
        return Listing(path, error=found)
    listing = Listing(path, problems=found.problems, kept_links=found.kept_links)
    for entry in take_once(found):
        is_out = choice.excludes(entry.path, is_folder(entry))
        (listing.excluded if is_out else listing.entries).append(entry)
    return listing
