"""Whether the beginning of a file that an earlier attempt left is that of the source: proved by hash, never by size."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass

from migration_app.engine.digests import read_digests
from migration_app.engine.items import Item
from migration_app.storages.base import Entry, Kind, Path, Storage
from migration_app.storages.errors import StorageError

PIECE = 4 * 2**20
"""What is read and compared at once, so that a connection that breaks again has got on."""


@dataclass(frozen=True, slots=True)
class Beginning:
    """What was found of a file: `bytes` from its beginning on are right, 0 when it has to start over."""

    number: int
    path: Path
    bytes: int
    is_read_back: bool
    """Whether a side that hashes nothing by itself was read over the wire for it."""


async def prove_beginnings(
    source: Storage,
    destination: Storage,
    items: Sequence[Item],
    partial: Mapping[int, int],
    proved: dict[int, int],
) -> AsyncGenerator[Beginning | Item, None]:
    """Hash both sides of the files in `partial`, as far as it says; an item each time that a piece of it was proved.

    What `proved` says of a file, by number, was proved on an earlier connection and is not read again; it is kept
    up to date. Raises ConnectionLost.
    """
    for item in items:
        length = min(partial.get(item.number, 0), item.entry.size)
        if length:
            async for found in _prove(source, destination, item, length, proved):
                yield found


async def _prove(
    source: Storage, destination: Storage, item: Item, length: int, proved: dict[int, int]
) -> AsyncGenerator[Beginning | Item, None]:
    above, slash, _ = item.entry.path.rpartition(b"/")
    paths = (item.entry.read_path, above + slash + item.temp_name)
    sides = list(zip((source, destination), paths, strict=True))
    told = await asyncio.gather(*(storage.beginning_digest_there(path, length) for storage, path in sides))
    read = [storage for (storage, _), digest in zip(sides, told, strict=True) if digest is None]
    is_read_back = any(storage.address.protocol != "local" for storage in read)
    if len(read) < len(sides):
        digests = [
            digest or await _read(storage, path, 0, length)
            for (storage, path), digest in zip(sides, told, strict=True)
        ]
        is_right = digests[0] is not None and digests[0] == digests[1]
        yield Beginning(item.number, item.entry.path, length if is_right else 0, is_read_back)
        return
    # At least a byte: it must still be there, and as long.
    start = min(proved.get(item.number, 0), length - 1)
    while start < length:
        end = min(start + PIECE, length)
        here, there = await asyncio.gather(*(_read(storage, path, start, end) for storage, path in sides))
        if here is None or here != there:
            proved.pop(item.number, None)
            yield Beginning(item.number, item.entry.path, 0, is_read_back)
            return
        start = proved[item.number] = end
        yield item
    yield Beginning(item.number, item.entry.path, length, is_read_back)


async def _read(storage: Storage, path: Path, start: int, end: int) -> bytes | None:
    """The digest of a part of a file, read; None where there is not so much."""
    found: bytes | StorageError | None = None
    async for batch in read_digests(storage, [Entry(path, Kind.FILE, end)], is_whole=False, start=start):
        found = batch[0][1] if batch else found
    return found if isinstance(found, bytes) else None
