"""What the options of a transfer say about single entries: pure decisions, made where two trees are compared."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import count

from migration_app.paths import PathSet, ancestors
from migration_app.storages.base import Entry, Kind

MEGABYTE = 10**6
LONGEST_NAME = 255


class Conflict(StrEnum):
    """What happens to a file or link that is at the destination already and is not the same."""

    OVERWRITE = "overwrite"
    SKIP = "skip"
    """It is left alone."""
    NEWER = "newer"
    """It is replaced when the source's is newer."""
    RENAME = "rename"
    """It is kept, and the source's file gets a free name beside it."""


class Selection:
    """The only paths that are wanted: files, links, and folders with all that they hold; without any, everything.

    `within` another selection, only what that one takes as well.
    """

    def __init__(self, paths: Iterable[bytes] = (), *, within: "Selection | None" = None) -> None:
        self._within = within
        above: set[bytes] = set()

        def chosen() -> Iterator[bytes]:
            for path in paths:
                above.update(ancestors(path))
                yield path

        # There may be as many as a tree has files.
        self._chosen = PathSet(chosen())
        self._above = PathSet(above)

    @property
    def takes_all(self) -> bool:
        """Whether it has no paths of its own."""
        return not len(self._chosen)

    def takes(self, path: bytes, is_folder: bool) -> bool:
        """Whether an entry is wanted, or is a folder on the way to one that is."""
        if self._within is not None and not self._within.takes(path, is_folder):
            return False
        if self.takes_all or path in self._chosen or (is_folder and path in self._above):
            return True
        return any(above in self._chosen for above in ancestors(path))


@dataclass(frozen=True, slots=True)
class Choices:
    """The options of a transfer that decide about entries."""

    conflict: Conflict = Conflict.OVERWRITE
    largest: float = 0
    """A file of more bytes is left out; 0: none is."""
    by_size: bool = False
    """Whether files of equal size are taken for equal, as the destination keeps no mtimes."""
    by_content: bool = False
    """Whether files of equal size are compared by what they hold, whatever their mtimes."""
    selection: Selection = field(default_factory=Selection)
    deletes: bool = False
    """Whether what is at the destination alone is to be deleted."""
    follow_links: bool = False
    """Whether links of the source that stay in its root stand as what they lead to."""

    def reason_to_leave(self, entry: Entry) -> str:
        """Why an entry is not copied wherever it is not there yet; empty when it is."""
        if self.largest and entry.kind is Kind.FILE and entry.size > self.largest:
            return f"Larger than {self.largest / MEGABYTE:g} MB."
        return ""

    def reason_to_keep(self, entry: Entry, there: Entry) -> str:
        """Why a different file or link at the destination is left alone; empty when it makes room."""
        if self.conflict is Conflict.SKIP:
            return "Something of this name is at the destination; it is kept."
        if self.conflict is Conflict.NEWER and entry.mtime <= there.mtime:
            return "What is at the destination is not older; it is kept."
        if self.conflict is Conflict.RENAME and entry.kind is not Kind.FILE:
            return "Something else is at the destination; it is kept, and a link gets no other name."
        return ""

    def as_it_stays(self, entry: Entry, there: Entry) -> Entry:
        """What is the same at the destination, with the mode and time that it is to have at the end."""
        if self.conflict is Conflict.SKIP and entry.kind is Kind.FOLDER:
            return replace(entry, mode=there.mode, mtime=there.mtime)
        return entry


DEFAULTS = Choices()


def numbered_paths(path: bytes) -> Iterator[bytes]:
    """`name (2).ext`, `name (3).ext` and so on in the same folder, each short enough for a file system."""
    above, slash, name = path.rpartition(b"/")
    stem, dot, extension = name.rpartition(b".")
    ending = dot + extension
    if not stem or len(ending) > LONGEST_NAME // 2:
        stem, ending = name, b""
    for number in count(2):
        mark = b" (%d)" % number + ending
        room = LONGEST_NAME - len(mark)
        # Cut between characters, not within one.
        start = stem if len(stem) <= room else stem[:room].decode("utf-8", "ignore").encode()
        yield above + slash + start + mark
