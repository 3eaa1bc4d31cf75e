"""Folders listed before they are asked for: all below one, by a run of GNU find where the server gives a shell.

Over SFTP each level of folders takes some round trips; find takes two for a whole tree, and less of both processors.
"""

import asyncio
from collections.abc import Callable
from functools import partial

import asyncssh

from migration_app.storages.base import Answer, Entry, FolderListing, Guard, Kind, Path
from migration_app.storages.errors import StorageError
from migration_app.storages.names import LONGEST_PATH, refusal_of
from migration_app.storages.sftp import packets
from migration_app.storages.sftp.listing import MOST_LINK_TARGET
from migration_app.storages.sftp.shell_channel import Program, ShellChannel

FIND = Program(
    "GNU find",
    "find . -maxdepth 0 -printf '' 2>/dev/null",
    # Type, size, mtime, mode, path below, and what a link holds (GNU findutils manual, "Format Directives").
    "env LC_ALL=C find . -ignore_readdir_race -mindepth 1 -printf '%y %s %T@ %m %P\\0%l\\0'",
)
MOST_ENTRIES = 50_000
"""Of one run: what is below a folder that holds more is not kept in memory."""
MOST_FAILED = 8
"""Runs that were of no use, until no more are started."""
SILENCE_S = 5.0
LONGEST_FIELD = 2 * LONGEST_PATH
_KINDS = {b"f": Kind.FILE, b"d": Kind.FOLDER, b"l": Kind.LINK}

Ask = Callable[[Answer[FolderListing]], None]
"""Lists a folder over SFTP."""


class FindAhead:
    """Lists folders while a tree is walked.

    The first one is listed over SFTP, as without this, and find looks below it meanwhile. What find said is believed
    when it ended without an error and said the same of that folder as SFTP: the shell may see another tree. Nobody
    waits for find before it has started.
    """

    def __init__(
        self,
        connection: asyncssh.SSHClientConnection,
        guard: Guard,
        absolute: Callable[[Path], bytes],
        useless: Callable[[], None],
    ) -> None:
        self._connection = connection
        self._guard = guard
        self._absolute = absolute
        self._useless = useless
        """Told when the server has no find, or no shell."""
        self._loop = asyncio.get_running_loop()
        self._listings: dict[Path, list[Entry]] = {}
        self._run: _Run | None = None
        self._opening: set[asyncio.Task[None]] = set()
        self._waiting: list[tuple[Path, Answer[FolderListing], Ask]] = []
        """For find to end. A folder may be asked for twice: where a link that is followed leads to it."""
        self._failed = 0
        self._is_over = False

    def list_folder(self, path: Path, answer: Answer[FolderListing], ask: Ask) -> None:
        """As `Storage.list_folder`; `ask` does it over SFTP."""
        found = self._listings.pop(path, None)
        if found is not None:
            answer(FolderListing(found))
        elif self._run is None and not self._is_over:
            self._start(path)
            ask(partial(self._compare, self._run, answer))
        elif self._run is not None and self._run.is_ready and self._run.is_above(path):
            self._waiting.append((path, answer, ask))
        else:
            ask(answer)

    def close(self) -> None:
        """The walk is over."""
        self._is_over = True
        self._waiting.clear()
        self._listings.clear()
        if self._run is not None:
            self._run.channel.abort()

    def _start(self, path: Path) -> None:
        self._run = run = _Run(path, self._absolute(path), self._guard, self._settle)
        task = self._loop.create_task(run.channel.open(self._connection, self._absolute(path)))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    def _compare(
        self,
        run: "_Run | None",
        answer: Answer[FolderListing],
        found: FolderListing | StorageError,
    ) -> None:
        if run is not None:
            run.top = found
            self._settle()
        answer(found)

    def _settle(self) -> None:
        """Go on when a run has ended and is known to be right or not."""
        run = self._run
        if run is None or run.top is None or not run.channel.is_ended:
            return
        self._run = None
        if self._is_over:
            return
        listings = run.take_listings()
        if listings is None:
            self._failed += 1
            if not run.is_ready:
                self._useless()
            self._is_over = not run.is_ready or self._failed >= MOST_FAILED
        else:
            self._listings |= listings
        waiting, self._waiting = self._waiting, []
        for path, answer, ask in waiting:
            self.list_folder(path, answer, ask)


class _Run:
    """One run of find, and what it said."""

    def __init__(self, path: Path, absolute: bytes, guard: Guard, changed: Callable[[], None]) -> None:
        self.top: FolderListing | StorageError | None = None
        """What SFTP says of the folder itself."""
        self.channel = ShellChannel(guard, FIND, changed=changed, came=self._take, silence_s=SILENCE_S)
        self.channel.end()
        self._path = path
        self._prefix = path + b"/" if path else b""
        self._longest = LONGEST_PATH - len(absolute) - 2
        self._listings: dict[Path, list[Entry]] = {path: []}
        self._unsure: set[Path] = set()
        """Folders of which something cannot be said so: they are listed over SFTP."""
        self._count = 0
        self._rest = b""

    @property
    def is_ready(self) -> bool:
        """Whether find has started."""
        return self.channel.is_ready

    def is_above(self, path: Path) -> bool:
        """Whether a folder is one that it looks at."""
        return path.startswith(self._prefix)

    def take_listings(self) -> dict[Path, list[Entry]] | None:
        """The folders below, where what was said is right."""
        top, is_whole = self.top, self.channel.has_succeeded and not self._rest
        if not is_whole or not isinstance(top, FolderListing) or self._path in self._unsure:
            return None
        here = self._listings.pop(self._path)
        if top.problems or len(here) != len(top.entries) or set(here) != set(top.entries):
            return None
        for folder in self._unsure:
            del self._listings[folder]
        return self._listings

    def _take(self, data: bytes) -> None:
        *fields, self._rest = (self._rest + data).split(b"\0")
        if len(fields) % 2:
            self._rest = fields.pop() + b"\0" + self._rest
        self._count += len(fields) // 2
        if self._count > MOST_ENTRIES or len(self._rest) > LONGEST_FIELD:
            self._give_up()
            return
        try:
            for index in range(0, len(fields), 2):
                self._add(fields[index], fields[index + 1])
        except (ValueError, KeyError):
            # That is no find.
            self._give_up()

    def _give_up(self) -> None:
        self._listings.clear()
        self._unsure = {self._path}
        self._rest = b""
        self.channel.abort()

    def _add(self, fields: bytes, target: bytes) -> None:
        """Raises ValueError, KeyError."""
        letter, size, time, mode, below = fields.split(b" ", 4)
        path = self._prefix + below
        folder, _, name = path.rpartition(b"/")
        kind = _KINDS.get(letter, Kind.OTHER)
        mtime = int(time.partition(b".")[0])
        entry = Entry(
            path,
            kind,
            int(size) if kind is Kind.FILE else 0,
            mtime,
            int(mode, 8),
            target if kind is Kind.LINK else None,
        )
        self._listings[folder].append(entry)
        if kind is Kind.FOLDER:
            self._listings[path] = []
        if (
            refusal_of(path, name) is not None
            or len(below) > self._longest
            or not 0 <= mtime <= packets.LATEST_MTIME
            or (kind is Kind.LINK and not 0 < len(target) <= MOST_LINK_TARGET)
        ):
            self._unsure.add(folder)
