"""Small files go in bundles where a server can pack or unpack them, and one by one where it cannot or does not yet."""

import asyncio
from collections.abc import Collection, Iterable

from migration_app.engine.items import Item, Way
from migration_app.storages.base import (
    Answer,
    BundledReaders,
    BundledWriters,
    Bundles,
    Kind,
    Path,
    Reader,
    Storage,
    Writer,
)

UP_TO = 128 * 1024
"""A file of more bytes goes alone."""
WORTH_FROM = 64
"""Bundles are made ready for so many files."""
AT_ONCE = 600
"""Files under way in bundles: more than two of them hold."""


async def find_way(source: Storage, destination: Storage, ways: Collection[Way]) -> Way:
    """The way that small files would take, of those that are given."""
    if Way.DIRECT in ways and destination.copies_from(source):
        return Way.DIRECT
    if Way.BUNDLED in ways and any(await asyncio.gather(source.can_bundle(), destination.can_bundle())):
        return Way.BUNDLED
    return Way.ALONE


class Bundling:
    """The bundles of a transfer, of each side that has any."""

    def __init__(
        self, source: Storage, destination: Storage, items: Iterable[Item], *, most_bytes: int
    ) -> None:
        self._source = source
        self._destination = destination
        self._most_bytes = min(UP_TO, most_bytes)
        self._told: set[str] = set()
        self._readers: BundledReaders | None = None
        self._writers: BundledWriters | None = None
        if sum(map(self._is_small, items)) >= WORTH_FROM:
            self._readers = source.bundled_readers()
            self._writers = destination.bundled_writers()

    def takes(self, item: Item) -> bool:
        """Whether a file can go in a bundle now, at one side at least."""
        return (_is_ready(self._readers) or _is_ready(self._writers)) and self._is_small(item)

    @property
    def at_once(self) -> int:
        """How many such files may be under way."""
        sides = ((self._readers, self._source), (self._writers, self._destination))
        return min([AT_ONCE, *(side.capabilities.most_files for one, side in sides if not _is_ready(one))])

    def take_problems(self) -> list[str]:
        """Why there are no bundles any more where there were some: sentences, each given once."""
        sides = ((self._readers, "source"), (self._writers, "destination"))
        found = [
            f"Small files go one by one from here on. Packing them ended at the {side}: {one.problem}."
            for one, side in sides
            if one is not None and one.problem and side not in self._told
        ]
        self._told.update(side for one, side in sides if one is not None and one.problem)
        return found

    def open_reader(self, item: Item, answer: Answer[Reader]) -> None:
        """Read a file that is taken."""
        entry = item.entry
        if self._readers is not None and self._readers.is_ready:
            self._readers.open_reader(entry.read_path, entry.size, answer)
        else:
            self._source.open_reader(entry.read_path, answer)

    def open_writer(self, path: Path, answer: Answer[Writer]) -> None:
        """Write a file that is taken."""
        if self._writers is not None and self._writers.is_ready:
            self._writers.open_writer(path, answer)
        else:
            self._destination.open_writer(path, answer)

    def close(self) -> None:
        """Nothing more goes in bundles."""
        for bundles in (self._readers, self._writers):
            if bundles is not None:
                bundles.close()

    def _is_small(self, item: Item) -> bool:
        return item.entry.kind is Kind.FILE and item.entry.size <= self._most_bytes and not item.start


def _is_ready(bundles: Bundles | None) -> bool:
    return bundles is not None and bundles.is_ready
