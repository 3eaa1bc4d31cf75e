"""Removes files that may be there or not, many at a time."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from functools import partial

from migration_app.storages.base import Path, Storage, ask
from migration_app.storages.errors import ConnectionLost, NotAFolder, NotFound, StorageError

FILES_AT_ONCE = 128
GRACE_S = 1.0
"""What a worker that was fenced off had sent already may still arrive: paths are looked at again after this time,
until none of them is there."""


@dataclass(frozen=True, slots=True)
class Removal:
    """How many files are removed so far, and why one could not be."""

    count: int = 0
    problem: str = ""


async def remove_leftovers(storage: Storage, paths: Sequence[Path]) -> AsyncGenerator[Removal, None]:
    """Remove those of `paths` that are there. Raises ConnectionLost."""
    found, before = Removal(), -1
    while found.count != before:
        before = found.count
        await asyncio.sleep(GRACE_S)
        for start in range(0, len(paths), FILES_AT_ONCE):
            part = paths[start : start + FILES_AT_ONCE]
            answers = await asyncio.gather(*(_remove(storage, path) for path in part))
            problem = next((answer for answer in answers if answer), found.problem)
            found = Removal(found.count + answers.count(""), problem)
            yield found


async def _remove(storage: Storage, path: Path) -> str | None:
    """Why a file could not be removed; empty when it was, None when it was not there."""
    try:
        await ask(partial(storage.remove, path))
    except (NotFound, NotAFolder):
        return None
    except ConnectionLost:
        raise
    except StorageError as error:
        return str(error)
    return ""
