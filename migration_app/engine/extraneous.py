"""What is at the destination alone: which of it is to be deleted, and its deletion."""

import asyncio
import unicodedata
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from functools import partial

from migration_app.engine.ascent import from_the_deepest
from migration_app.engine.filters import Filter
from migration_app.engine.items import TEMP_PREFIX, Done
from migration_app.storages.base import Answer, Entry, FolderListing, Kind, Path, Storage, ask
from migration_app.storages.errors import ConnectionLost, NotFound, StorageError

FOLDERS_AT_ONCE = 64
UNLISTED = "The folder cannot be listed at the destination."
NO_CONTENT = "It is not a regular file, folder or link."
SAME_NAME = "Its name differs from one of the source in case, the form of letters, or dots and spaces at its end only."


@dataclass(slots=True)
class Extraneous:
    """Of a folder at the destination, what the source does not have."""

    entries: list[Entry] = field(default_factory=list)
    spared: list[tuple[bytes, str]] = field(default_factory=list)
    """What cannot be deleted, and why."""
    stays: bool = False
    """Whether anything of the folder stays."""


def find_extraneous(
    folder: bytes, here: FolderListing, there: FolderListing | StorageError, exclusions: Filter
) -> Extraneous:
    """What a pattern leaves out is no concern of the job, and stays. A destination may take two names for one (case,
    Unicode's forms, on Windows dots and spaces at the end): what was copied under the one would go with the other."""
    if isinstance(there, StorageError):
        is_gone = isinstance(there, NotFound)
        return Extraneous(spared=[] if is_gone else [(folder, UNLISTED)], stays=not is_gone)
    names = {entry.path for entry in here.entries}
    # A server may list a name twice.
    left = {entry.path: entry for entry in there.entries if entry.path not in names}
    found = Extraneous(spared=[(path, str(error)) for path, error in there.problems if path not in names])
    folded = set(map(_folded, names)) if left else set()
    for entry in left.values():
        if entry.kind is Kind.OTHER:
            found.spared.append((entry.path, NO_CONTENT))
        elif _folded(entry.path) in folded:
            found.spared.append((entry.path, SAME_NAME))
        elif not exclusions.excludes(entry.path, entry.kind is Kind.FOLDER) and not _is_temp(entry.path):
            found.entries.append(entry)
    found.stays = bool(there.problems) or len(found.entries) < len({entry.path for entry in there.entries})
    return found


def _is_temp(path: bytes) -> bool:
    """Whether it is a file that is not whole yet, perhaps of this very job."""
    return path.rpartition(b"/")[2].startswith(TEMP_PREFIX)


def _folded(path: bytes) -> str:
    name = path.rpartition(b"/")[2].decode("utf-8", "surrogateescape")
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold()).rstrip(". ")


def delete_entries(destination: Storage, entries: Sequence[Entry]) -> AsyncGenerator[list[Done], None]:
    """Delete files, links and folders, what a folder holds before it; `Done.number` is an index in `entries`. What is
    gone already is no error. Raises ConnectionLost."""

    def delete(entry: Entry, answer: Answer[None]) -> None:
        done = partial(_deleted, answer)
        if entry.kind is Kind.FOLDER:
            destination.remove_folder(entry.path, done)
        else:
            destination.remove(entry.path, done)

    return from_the_deepest(entries, delete)


def _deleted(answer: Answer[None], error: StorageError | None) -> None:
    answer(None if isinstance(error, NotFound) else error)


async def names_in(source: Storage, folders: Sequence[Path]) -> AsyncGenerator[list[set[bytes] | None], None]:
    """The names that each folder holds now, some folders at a time; None where that cannot be told. Raises
    ConnectionLost."""
    for start in range(0, len(folders), FOLDERS_AT_ONCE):
        part = folders[start : start + FOLDERS_AT_ONCE]
        yield list(await asyncio.gather(*(_names(source, path) for path in part)))


async def _names(source: Storage, path: Path) -> set[bytes] | None:
    try:
        found = await ask(partial(source.list_folder, path))
    except NotFound:
        return set()
    except ConnectionLost:
        raise
    except StorageError:
        return None
    paths = [entry.path for entry in found.entries] + [path for path, _ in found.problems]
    return {path.rpartition(b"/")[2] for path in paths}
