"""What every storage is: entries, addresses, and the operations, which answer by callbacks so that many run at once."""

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import ClassVar, TypeVar

from migration_app.storages.errors import OperationFailed, PermissionDenied, StorageError

Path = bytes
"""Relative to the storage's root, components joined by `/`; `b""` is the root itself."""


class Kind(StrEnum):
    """What an entry is."""

    FILE = "file"
    FOLDER = "folder"
    LINK = "link"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Entry:
    """One name in a tree. `size` in bytes, 0 for what is no file; `mtime` in whole seconds since 1970, perhaps
    negative; `mode` the low 12 bits."""

    path: Path
    kind: Kind
    size: int = 0
    mtime: int = 0
    mode: int = 0
    target: bytes | None = None
    """Of a link: what it holds, as it is."""
    real: Path = b""
    """Of what was reached through a followed link: its path on a way without links."""

    @property
    def read_path(self) -> Path:
        """The path by which it is read."""
        return self.real or self.path


@dataclass(frozen=True, slots=True)
class HostKey:
    """A server's public key: `algorithm` as in `ssh-ed25519`, `fingerprint` as in `SHA256:…`."""

    algorithm: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class HostKeyPolicy:
    """Which host key is taken. `demanded` comes from the request, `pinned` from an earlier connection; both are
    fingerprints. With neither, an unknown key is taken unless `is_strict`."""

    demanded: str | None = None
    pinned: str | None = None
    is_strict: bool = False

    def pinned_to(self, key: HostKey | None) -> "HostKeyPolicy":
        """The same with a key pinned that was shown, where any was taken."""
        if key is None or self.demanded is not None or self.pinned is not None:
            return self
        return replace(self, pinned=key.fingerprint)


@dataclass(frozen=True, slots=True)
class Address:
    """Where a storage is and who we are there; hashable, so it can key a pool of connections."""

    protocol: str
    host: str = ""
    port: int = 0
    username: str = ""
    password: str = field(default="", repr=False)
    ssh_key: str = field(default="", repr=False)
    passphrase: str = field(default="", repr=False)
    agent: str = ""
    """Of sftp: the socket of an SSH agent, whose keys are tried where there is neither password nor key."""
    host_keys: HostKeyPolicy = HostKeyPolicy()
    jump: "Address | None" = None
    """Of sftp: the server to go through, and who we are there."""
    local_roots: tuple[str, ...] = ()
    """Of `local`: folders it may reach."""
    forbidden: tuple[str, ...] = ()
    """Of `local`: folders it never reaches, as the data directory."""

    def pinned_to(self, trace: "Trace") -> "Address":
        """The same with the host keys that were shown pinned, where any was taken."""
        jump = self.jump and replace(self.jump, host_keys=self.jump.host_keys.pinned_to(trace.jump_host_key))
        return replace(self, host_keys=self.host_keys.pinned_to(trace.host_key), jump=jump)


@dataclass(slots=True)
class Trace:
    """How a connection comes about, for who wants to see: filled while it is made, also by one that fails."""

    reached: dict[str, float] = field(default_factory=dict)
    """When each stage was over, by the clock of `time.monotonic`, in their order; of SFTP: name (or jump, where the
    way goes through another server), port, handshake, host_key, login, session."""
    host_key: HostKey | None = None
    """The last one that was shown, taken or not."""
    jump_host_key: HostKey | None = None
    """The same of the server that the way goes through."""

    def reach(self, stage: str) -> None:
        """A stage is over; one that is reached again starts the rest over, as a second attempt does."""
        if stage in self.reached:
            for later in list(self.reached)[list(self.reached).index(stage) :]:
                del self.reached[later]
        self.reached[stage] = time.monotonic()


Guard = Callable[[], bool]
"""Asked before anything is sent: False means that the lease is over and nothing more may leave."""

T = TypeVar("T")
Answer = Callable[[T | StorageError], None]
"""How an operation ends: called exactly once, in the loop's thread, perhaps before the operation returned."""


@dataclass(frozen=True, slots=True)
class FolderListing:
    """What a folder holds. `problems` are names that were refused and links that could not be read."""

    entries: list[Entry]
    problems: list[tuple[bytes, StorageError]] = field(default_factory=list)
    kept_links: list[tuple[bytes, str]] = field(default_factory=list)
    """Links that stay links though they were to be followed, and why; dangling ones are not named."""


@dataclass(frozen=True, slots=True)
class Features:
    """What a server says of itself, to be shown; nothing is decided by it."""

    sftp_version: int | None = None
    extensions: tuple[str, ...] = ()
    compression_types: tuple[str, ...] = ()
    has_shell: bool = False


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a storage can do; exact once it is connected."""

    chunk_size: int = 261_120
    """The most bytes of one read or write."""
    files_at_once: int = 64
    """How many small files under way keep it busy."""
    most_files: int = 1000
    """How many may be."""
    in_order: bool = False
    """Whether what was asked for first is done first, so that nothing has to be waited for."""
    atomic_rename: bool = True
    """Whether a rename replaces what is there in one step."""
    link_times: bool = True
    """Whether a link's own mtime can be set."""
    holes: bool = True
    """Whether what is not written of a file, before its end, reads as zeros."""
    earliest_mtime: int = -(2**63)
    latest_mtime: int = 2**63 - 1


def files_at_once(*sides: Capabilities) -> int:
    """As many small files, or folders, as keep all sides busy, and no more than each of them bears."""
    return max(1, min(max(side.files_at_once for side in sides), *(side.most_files for side in sides)))


class Reader(ABC):
    """A file open for reading."""

    @abstractmethod
    def read(self, offset: int, size: int, answer: Answer[bytes]) -> None:
        """Give exactly `size` bytes (at most `chunk_size`), fewer only where the file ends."""

    def next_data(self, offset: int) -> int:
        """Where there is data, at `offset` or after it, as far as that is known: a hole before it reads as zeros."""
        return offset

    @abstractmethod
    def measure(self, answer: Answer[tuple[int, int]]) -> None:
        """Give size and mtime as they are now, after all reads asked for before; SourceChanged where they are the same
        though the file changed since it was opened, as far as that can be told."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the file; harmless when repeated."""


class Writer(ABC):
    """A new file open for writing."""

    @abstractmethod
    def write(self, offset: int, data: bytes, answer: Answer[None]) -> None:
        """Write at most `chunk_size` bytes."""

    def copy(self, reader: Reader, offset: int, length: int, answer: Answer[None]) -> None:
        """Write what another file of the same storage holds there; `reader` is from `Storage.open_original`."""
        answer(OperationFailed("This storage does not copy files by itself."))

    @abstractmethod
    def finish(self, *, mode: int, mtime: int, size: int, answer: Answer[None]) -> None:
        """Set mode (its low 9 bits) and mtime, flush a file of `FLUSH_FROM` bytes or more to disk, close it.

        Answers when this and all writes were answered; with the first error if there was one. AttributesRefused says
        that all went well but for mode and mtime.
        """

    @abstractmethod
    def close(self) -> None:
        """Give up and let go of the file; harmless when repeated."""


class Bundles(ABC):
    """Small files that go many at a time, while something makes that possible. It may end early, and whoever asked is
    told so with OperationFailed."""

    @property
    @abstractmethod
    def is_ready(self) -> bool:
        """Whether files can be asked for now."""

    @property
    @abstractmethod
    def problem(self) -> str:
        """Why this is of no use any more, as the end of a sentence; empty while it is."""

    @abstractmethod
    def close(self) -> None:
        """Ask for nothing more; what is unanswered is answered soon."""


class BundledReaders(Bundles):
    """Files to be read whole."""

    @abstractmethod
    def open_reader(self, path: Path, size: int, answer: Answer[Reader]) -> None:
        """As `Storage.open_reader`, for a file of which the size is known."""


class BundledWriters(Bundles):
    """Files to be written whole; each is answered when its bundle is there."""

    @abstractmethod
    def open_writer(self, path: Path, answer: Answer[Writer]) -> None:
        """As `Storage.open_writer`, into a folder that is there; what speaks against it is told at the end."""


FLUSH_FROM = 8 * 2**20
OWNER_WRITES = 0o300
"""In the mode of a folder: its owner may change what is in it."""


class Storage(ABC):
    """A tree on some server. Errors are `StorageError`s, given to `answer` or raised by the coroutines.

    Paths are relative to `root`; one with an empty, `.` or `..` component or a NUL is NameRefused. Nothing here
    retries, and everything runs in one event loop. After ConnectionLost, and before `connect`, every operation
    answers ConnectionLost. Whoever asks bounds what is unanswered: it is held in memory.
    """

    is_poolable: ClassVar[bool] = True
    """Whether a connection is worth keeping for the next shard."""

    def __init__(self, address: Address, root: bytes, *, guard: Guard) -> None:
        self.address = address
        self.root = root
        self.guard = guard
        self.capabilities = Capabilities()
        self.host_key: HostKey | None = None
        """Of an SSH server, once connected."""
        self.trace = Trace()

    @property
    @abstractmethod
    def is_connected(self) -> bool:
        """Whether operations can be asked for."""

    @abstractmethod
    async def connect(self) -> None:
        """Connect within `CONNECT_S`. Raises ConnectFailed, AuthenticationFailed, HostKeyRejected, PermissionDenied."""

    @abstractmethod
    async def close(self) -> None:
        """Disconnect; harmless when repeated."""

    @abstractmethod
    def abort(self, reason: str = "The connection was dropped.") -> None:
        """Drop the connection at once: nothing more leaves; what is outstanding answers ConnectionLost."""

    async def features(self) -> Features:
        """What the server says of itself; asks it whether it has a shell."""
        return Features()

    async def digests_there(self, paths: Sequence[Path], *, size: int = 0) -> dict[Path, bytes]:
        """SHA-256 of files of `size` bytes together, worked out where they are; the others have to be read. Raises
        ConnectionLost."""
        return {}

    async def must_be_read_back(self) -> bool:
        """Whether files go over the wire to be hashed, as they cannot be where they are; asks the server. Raises
        ConnectionLost."""
        return False

    async def beginning_digest_there(self, path: Path, length: int) -> bytes | None:
        """SHA-256 of a file's first `length` bytes, or of all if there are fewer, worked out where it is; None where
        it has to be read. Raises ConnectionLost."""
        return None

    def copies_from(self, source: "Storage") -> bool:
        """Whether it can copy files of `source` by itself, as both are the same server or machine."""
        return False

    def open_original(self, source: "Storage", path: Path, answer: Answer[Reader]) -> None:
        """Open a file of such a source, to be copied by this storage's writers."""
        source.open_reader(path, answer)

    async def can_bundle(self) -> bool:
        """Whether it has what bundles take; asks the server."""
        return False

    def bundled_readers(self) -> BundledReaders | None:
        """Begin to make it possible to read small files in bundles; None where it never is."""
        return None

    def bundled_writers(self) -> BundledWriters | None:
        """The same for writing them."""
        return None

    @abstractmethod
    async def root_entry(self) -> Entry:
        """The root folder, with path b"". Raises NotFound, NotAFolder, PermissionDenied."""

    @abstractmethod
    async def make_root(self) -> None:
        """Make the root folder and its parents where they are missing."""

    def listing_ahead(self) -> AbstractContextManager[None]:
        """While a tree is walked: folders may be listed before they are asked for, and are given as they were then."""
        return nullcontext()

    @abstractmethod
    def list_folder(self, path: Path, answer: Answer[FolderListing]) -> None:
        """Give what is in a folder, in no order, without following any link. A file or link there is NotAFolder."""

    @abstractmethod
    def follow_link(self, path: Path, answer: Answer[Entry]) -> None:
        """Give what a link leads to in the end, under its own path, on which there is no link. OutsideRoot where that
        does not lie in the root, NotFound where nothing is there, OperationFailed where it cannot be told."""

    @abstractmethod
    def open_reader(self, path: Path, answer: Answer[Reader]) -> None:
        """Open a regular file for reading. What is no file any more is SourceChanged, NotFound or IsAFolder, or
        fails when it is read; a link is not followed as far as the protocol can."""

    @abstractmethod
    def open_writer(self, path: Path, answer: Answer[Writer]) -> None:
        """Make an empty file, only for its owner to read. A file or link that is there is removed, never written
        through; a folder there is IsAFolder."""

    @abstractmethod
    def reopen_writer(self, path: Path, answer: Answer[Writer]) -> None:
        """Open a file that is there, as it is; anything else there is refused."""

    @abstractmethod
    def make_folder(self, path: Path, answer: Answer[None]) -> None:
        """Make a folder with mode 0700. One that is there is left as it is; anything else there is NotAFolder."""

    def open_up(self, path: Path, answer: Answer[None]) -> None:
        """Let the owner of a folder write in it, and keep the rest of its mode."""
        answer(PermissionDenied("Permission denied."))

    @abstractmethod
    def make_link(self, path: Path, target: bytes, mtime: int, answer: Answer[None]) -> None:
        """Make a symbolic link where nothing is, else AlreadyExists."""

    @abstractmethod
    def rename(self, path: Path, new_path: Path, answer: Answer[None]) -> None:
        """Give a file or link another name, replacing a file or link that has it; a folder there is IsAFolder."""

    @abstractmethod
    def remove(self, path: Path, answer: Answer[None]) -> None:
        """Remove a file or link; a folder there is IsAFolder."""

    @abstractmethod
    def remove_folder(self, path: Path, answer: Answer[None]) -> None:
        """Remove a folder that is empty, else OperationFailed; a file or link there is NotAFolder."""

    @abstractmethod
    def set_attributes(
        self, path: Path, *, mode: int, mtime: int, answer: Answer[None], kind: Kind = Kind.FOLDER
    ) -> None:
        """Set the mode (its low 9 bits) and mtime of a folder, or of a file where `kind` says so. Anything else there
        is NotAFolder, or NotFound where a file is meant. AttributesRefused where that is not allowed or not possible.
        """


CONNECT_S = 8.0


async def ask(start: Callable[[Answer[T]], None]) -> T:
    """Await one operation: `await ask(partial(storage.list_folder, path))`. Raises its StorageError."""
    future: asyncio.Future[T] = asyncio.get_running_loop().create_future()

    def answer(result: T | StorageError) -> None:
        if future.done():
            return
        if isinstance(result, StorageError):
            future.set_exception(result)
        else:
            future.set_result(result)

    start(answer)
    return await future
