"""Copies files, folders and links from one storage to another, many at a time."""

from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass, field

from migration_app.storages.base import Entry, Storage
from migration_app.storages.errors import StorageError


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to copy. `number` is the caller's; `temp_name` the name that it has until it is whole, beside its own."""

    number: int
    entry: Entry
    temp_name: bytes


@dataclass(frozen=True, slots=True)
class Done:
    """How one item ended: `error` is None when it is in place; `bytes` is what was copied."""

    number: int
    path: bytes
    bytes: int
    error: StorageError | None


@dataclass(slots=True)
class TransferBatch:
    """What ended since the last batch, and how the rest stands."""

    done: list[Done] = field(default_factory=list)
    bytes_in_flight: int = 0
    """Bytes that the destination has taken of files that are not finished."""
    current_file: bytes = b""


async def transfer_items(
    source: Storage, destination: Storage, items: Sequence[Item], *, folders_known: Collection[bytes] = ()
) -> AsyncIterator[TransferBatch]:
    """Copy `items`, both storages connected. A batch comes at least every 0.25 s.

    Folders above an item are made where they are not in `folders_known` (paths that are folders at the destination
    already; the root is taken to be there). Raises ConnectionLost after giving what was done; what was in flight
    then is in no batch.
    """
    raise NotImplementedError
    yield TransferBatch()
