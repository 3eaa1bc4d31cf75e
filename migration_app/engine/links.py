"""Follows links of a source as it is walked: those that stay inside the root, never in a circle, never without end."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from migration_app.paths import path_bytes, path_text
from migration_app.storages.base import Answer, Entry, FolderListing, Kind, Path, Storage
from migration_app.storages.errors import ConnectionLost, NameRefused, NotFound, StorageError
from migration_app.storages.names import LONGEST_PATH

MOST_FOLLOWED = 10_000
"""Links to folders that one job follows: folders that link to each other make more ways than anybody can walk."""
LINKS_AT_ONCE = 256
"""Of one folder."""


@dataclass(frozen=True, slots=True)
class Way:
    """How a folder was reached when a link led there."""

    real: Path = b""
    """Its path on a way without links; empty when it was reached without any."""
    crossed: tuple[Path, ...] = ()
    """Where the links lie that were followed on the way: real paths of their folders."""

    def into(self, path: Path, inside: Entry) -> "Way":
        """The way on, from here (`path`), to a folder in here."""
        here = self.real or path
        name = inside.path.rpartition(b"/")[2]
        if not inside.real:
            return DIRECT
        is_link = inside.real != _joined(here, name)
        return Way(inside.real, (*self.crossed, here) if is_link else self.crossed)

    def as_json(self) -> list[str]:
        """For a cursor."""
        return [path_text(path) for path in (self.real, *self.crossed)] if self.real else []

    @classmethod
    def read(cls, texts: Sequence[str]) -> "Way":
        """From a cursor."""
        real, *crossed = [path_bytes(text) for text in texts] or [b""]
        return cls(real, tuple(crossed))


DIRECT = Way()


class Lister:
    """Lists folders of a storage; with `follows`, a link in `wants` stands as what it leads to.

    One that leads out of the root, in a circle, or to a socket stays a link and is named in `kept_links`.
    """

    def __init__(
        self, storage: Storage, *, follows: bool, followed: int = 0, wants: Callable[[Entry], bool]
    ) -> None:
        self.storage = storage
        self.follows = follows
        self.followed = followed
        """Links to folders that this job has followed so far."""
        self.wants = wants

    def list_folder(self, path: Path, way: Way, answer: Answer[FolderListing]) -> None:
        """As `Storage.list_folder`."""
        if self.follows:
            _Following(self, path, way, answer).start()
        else:
            self.storage.list_folder(path, answer)

    def decide(self, entry: Entry, found: Entry | StorageError, way: Way, here: Path) -> Entry | str:
        """What stands for a link, or why it stays one: no reason is needed for one that leads to nothing."""
        if isinstance(found, NotFound):
            return ""
        if isinstance(found, StorageError):
            return str(found)
        if found.kind not in (Kind.FILE, Kind.FOLDER):
            return "It leads to something that is neither a file nor a folder."
        if found.kind is Kind.FOLDER:
            if any(_holds(found.path, folder) for folder in (*way.crossed, here)):
                return "It leads to a folder that it lies in itself."
            if self.followed >= MOST_FOLLOWED:
                return f"More than {MOST_FOLLOWED:,} links to folders were followed."
            self.followed += 1
        return replace(found, path=entry.path, real=found.path)


class _Following:
    """One folder being listed, and its links followed."""

    def __init__(self, lister: Lister, path: Path, way: Way, answer: Answer[FolderListing]) -> None:
        self._lister = lister
        self._path = path
        self._way = way
        self._here = way.real or path
        self._answer = answer
        self._found = FolderListing([])
        self._left: list[Entry] = []
        self._led: dict[Path, Entry | StorageError] = {}
        self._unanswered = 0

    def start(self) -> None:
        self._lister.storage.list_folder(self._here, self._listed)

    def _listed(self, found: FolderListing | StorageError) -> None:
        if isinstance(found, StorageError):
            self._answer(found)
            return
        self._found = self._moved(found) if self._way.real else found
        wanted = (entry for entry in self._found.entries if entry.kind is Kind.LINK)
        self._left = [entry for entry in wanted if self._lister.wants(entry)]
        self._ask()

    def _moved(self, found: FolderListing) -> FolderListing:
        """The same entries as they are called where the link is."""
        moved = FolderListing([])
        for path, error in found.problems:
            moved.problems.append((_joined(self._path, path.rpartition(b"/")[2]), error))
        for entry in found.entries:
            path = _joined(self._path, entry.path.rpartition(b"/")[2])
            if len(path) > LONGEST_PATH:
                refused = NameRefused(f"The path is longer than {LONGEST_PATH} bytes.")
                moved.problems.append((path, refused))
            else:
                moved.entries.append(replace(entry, path=path, real=entry.path))
        return moved

    def _ask(self) -> None:
        """Ask about so many links; about the others when these are answered."""
        asked, self._left = self._left[:LINKS_AT_ONCE], self._left[LINKS_AT_ONCE:]
        # One more, so that the end comes once, whenever the answers come.
        self._unanswered = len(asked) + 1
        for entry in asked:
            self._lister.storage.follow_link(entry.read_path, partial(self._led_to, entry))
        self._count()

    def _led_to(self, entry: Entry, found: Entry | StorageError) -> None:
        self._led[entry.path] = found
        self._count()

    def _count(self) -> None:
        self._unanswered -= 1
        if self._unanswered:
            return
        lost = next((found for found in self._led.values() if isinstance(found, ConnectionLost)), None)
        if lost is not None:
            self._answer(lost)
        elif self._left:
            # A storage may answer at once, and a folder hold many links.
            asyncio.get_running_loop().call_soon(self._ask)
        else:
            self._finish()

    def _finish(self) -> None:
        entries, kept = self._found.entries, self._found.kept_links
        for index, entry in enumerate(entries):
            if (found := self._led.get(entry.path)) is not None and entry.kind is Kind.LINK:
                decided = self._lister.decide(entry, found, self._way, self._here)
                if isinstance(decided, Entry):
                    entries[index] = decided
                elif decided:
                    kept.append((entry.path, f"{decided} The link is kept."))
        self._answer(self._found)


def _joined(folder: Path, name: bytes) -> Path:
    return folder + b"/" + name if folder else name


def _holds(folder: Path, path: Path) -> bool:
    """Whether a path is in a folder, or is the folder itself."""
    return not folder or path == folder or path.startswith(folder + b"/")
