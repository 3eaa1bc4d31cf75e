"""Whether the beginning of a file that an earlier attempt left is that of the source: proved by hash, never by size."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from migration_app.engine.digests import read_digests
from migration_app.engine.items import Item
from migration_app.storages.base import Entry, Kind, Path, Storage
from migration_app.storages.errors import StorageError


@dataclass(frozen=True, slots=True)
class Beginning:
    """What was found of a file: `bytes` from its beginning on are right, 0 when it has to start over."""

    number: int
    path: Path
    bytes: int
    is_read_back: bool
    """Whether a side that hashes nothing by itself was read over the wire for it."""


async def prove_beginnings(
    source: Storage, destination: Storage, items: Sequence[Item], partial: Mapping[int, int]
) -> list[Beginning]:
    """Hash both sides of the files in `partial`, as far as it says. Raises ConnectionLost."""
    found = []
    for item in items:
        length = min(partial.get(item.number, 0), item.entry.size)
        if length:
            found.append(await _prove(source, destination, item, length))
    return found


async def _prove(source: Storage, destination: Storage, item: Item, length: int) -> Beginning:
    above, slash, _ = item.entry.path.rpartition(b"/")
    (here, read_here), (there, read_there) = await asyncio.gather(
        _digest(source, item.entry.read_path, length),
        _digest(destination, above + slash + item.temp_name, length),
    )
    is_right = here is not None and here == there
    return Beginning(item.number, item.entry.path, length if is_right else 0, read_here or read_there)


async def _digest(storage: Storage, path: Path, length: int) -> tuple[bytes | None, bool]:
    """Of a file's first bytes, None where there are not so many; and whether they came over the wire for it."""
    if (digest := await storage.beginning_digest_there(path, length)) is not None:
        return digest, False
    found: bytes | StorageError | None = None
    async for batch in read_digests(storage, [Entry(path, Kind.FILE, length)], is_whole=False):
        found = batch[0][1] if batch else found
    is_remote = storage.address.protocol != "local"
    return (found if isinstance(found, bytes) else None), is_remote
