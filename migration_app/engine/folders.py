"""Gives folders their mode and mtime, after everything below them is in place; and files that are right otherwise."""

from collections.abc import AsyncGenerator, Sequence

from migration_app.engine.ascent import from_the_deepest
from migration_app.engine.items import Done
from migration_app.storages.base import Answer, Entry, Storage


def set_attributes(destination: Storage, folders: Sequence[Entry]) -> AsyncGenerator[list[Done], None]:
    """Set mode and mtime of folders, or of files; `Done.number` is an index in `folders`. Raises ConnectionLost.

    A folder comes after those below it: a mode may close it for what it holds.
    """

    def give(folder: Entry, answer: Answer[None]) -> None:
        destination.set_attributes(
            folder.path, mode=folder.mode & 0o777, mtime=folder.mtime, kind=folder.kind, answer=answer
        )

    return from_the_deepest(folders, give)
