"""What is to be copied, and how it ended."""

from dataclasses import dataclass
from enum import StrEnum

from migration_app.storages.base import Entry
from migration_app.storages.errors import AttributesRefused, StorageError


class Way(StrEnum):
    """How something is copied."""

    ALONE = "alone"
    """By itself, through this machine."""
    BUNDLED = "bundled"
    """With others, at one side at least."""
    DIRECT = "direct"
    """By the destination, which has the source too."""


TEMP_PREFIX = b".haulier-"
"""Of the name that a file has until it is whole."""


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to copy. `number` is the caller's; `temp_name` its name until it is whole, beside the final one."""

    number: int
    entry: Entry
    temp_name: bytes
    place: bytes = b""
    """The path that it gets, in the same folder, where that is not the entry's."""
    start: int = 0
    """Of a file: how many bytes are there under its temp name and proved to be right."""


@dataclass(frozen=True, slots=True)
class Done:
    """How one item ended: `error` is None when it is in place; `bytes` is what was copied."""

    number: int
    path: bytes
    bytes: int
    error: StorageError | None
    resumed: int = 0
    """How many of `bytes` an earlier attempt had copied."""
    refusal: AttributesRefused | None = None
    """Why its mode and mtime could not be set, though it is in place."""
    tries: int = 1
    way: Way = Way.ALONE


@dataclass(frozen=True, slots=True)
class UnderWay:
    """A file of which the destination has a part."""

    path: bytes
    size: int
    done: int
