"""Gives folders their mode and mtime, after everything below them is in place."""

from collections.abc import AsyncIterator, Sequence

from migration_app.engine.transfer import Done
from migration_app.storages.base import Entry, Storage


async def set_folder_attributes(destination: Storage, folders: Sequence[Entry]) -> AsyncIterator[list[Done]]:
    """Set mode and mtime of `folders`, deepest first; `Done.number` is the index in `folders`. Raises ConnectionLost."""
    raise NotImplementedError
    yield []
