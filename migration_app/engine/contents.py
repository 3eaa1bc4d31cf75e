"""Compares files of equal size by content, in batches: each side hashed where it is, else read."""

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass, replace

from migration_app.engine.digests import find_digests
from migration_app.engine.folders import set_attributes
from migration_app.engine.pace import Pace
from migration_app.storages.base import Entry, Storage
from migration_app.storages.errors import AttributesRefused, StorageError

BATCH_BYTES = 64 * 10**6
BATCH_FILES = 2000


@dataclass(frozen=True, slots=True)
class Pair:
    """A file of the source whose name a file of equal size has at the destination."""

    number: int
    entry: Entry
    is_settled: bool
    """Whether the one at the destination keeps its mode and mtime, whatever it holds."""
    reason: str
    """Why it stays there though it differs; empty where the source's takes its place."""
    place: bytes
    """Where the source's goes then, where that is another path."""


@dataclass(frozen=True, slots=True)
class Compared:
    """What was found of a pair."""

    pair: Pair
    is_equal: bool
    read_back: int
    """Bytes that went over the wire for it."""
    is_mended: bool = False
    """Whether it was equal and got the mode and mtime of the source."""
    refusal: AttributesRefused | None = None
    """Why it did not get them."""


async def compare_contents(
    source: Storage, destination: Storage, pairs: Sequence[Pair], *, pace: Pace, mends: bool
) -> AsyncGenerator[list[Compared], None]:
    """Compare in batches; equal files that are not settled get mode and mtime where it `mends`. Raises ConnectionLost.

    What cannot be read on either side counts as different: to copy it tells why, or puts right what is there.
    """
    for batch in _batches(pairs):
        here, there = await asyncio.gather(
            find_digests(source, [pair.entry for pair in batch], pace=pace),
            find_digests(destination, [replace(pair.entry, real=b"") for pair in batch], pace=pace),
        )
        compared = []
        for pair in batch:
            sides = (here[pair.entry.path], there[pair.entry.path])
            (digest, _), (other, _) = sides
            is_equal = not isinstance(digest, StorageError) and digest == other
            compared.append(Compared(pair, is_equal, pair.entry.size * sum(is_read for _, is_read in sides)))
        yield await _mended(destination, compared) if mends else compared


def _batches(pairs: Sequence[Pair]) -> Iterator[list[Pair]]:
    """A few at a time, as one command must not take for ever; what is done twice after a crash is one of them."""
    batch: list[Pair] = []
    size = 0
    for pair in pairs:
        if batch and (len(batch) >= BATCH_FILES or size + pair.entry.size > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(pair)
        size += pair.entry.size
    if batch:
        yield batch


async def _mended(destination: Storage, compared: list[Compared]) -> list[Compared]:
    """Give mode and mtime to what is equal and lacks them."""
    wrong = [n for n, one in enumerate(compared) if one.is_equal and not one.pair.is_settled]
    async for batch in set_attributes(destination, [compared[n].pair.entry for n in wrong]):
        for done in batch:
            n = wrong[done.number]
            # One that is gone by now is copied.
            compared[n] = replace(
                compared[n],
                is_equal=done.error is None,
                is_mended=done.error is None and done.refusal is None,
                refusal=done.refusal,
            )
    return compared
