"""A storage in memory that answers late, out of order, or with errors, as a test wants it."""

import asyncio
import posixpath
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from migration_app.storages.base import (
    Address,
    Answer,
    Capabilities,
    Entry,
    FolderListing,
    Kind,
    Path,
    Reader,
    Storage,
    Writer,
)
from migration_app.storages.errors import (
    AlreadyExists,
    ConnectionLost,
    IsAFolder,
    NotAFolder,
    NotFound,
    OperationFailed,
    OutsideRoot,
    StorageError,
)

T = TypeVar("T")
Hook = Callable[[str, Path], StorageError | None]
MTIME = 1_500_000_000


@dataclass
class Node:
    """What is under a name."""

    kind: Kind
    content: bytearray = field(default_factory=bytearray)
    mtime: int = MTIME
    mode: int = 0o644
    target: bytes | None = None


class MemoryStorage(Storage):
    """`latency_s` up to which an answer waits, each for itself (0: answers at once). `hook` sees each operation when it
    is done and may give an error instead. `calls` are all operations in the order in which they were asked for."""

    def __init__(self, *, latency_s: float = 0.0, hook: Hook | None = None, chunk_size: int = 1000) -> None:
        super().__init__(Address("memory"), b"", guard=lambda: True)
        self.capabilities = Capabilities(chunk_size=chunk_size)
        self.nodes: dict[Path, Node] = {b"": Node(Kind.FOLDER, mode=0o755)}
        self.latency_s = latency_s
        self.hook = hook
        self.calls: list[tuple[str, Path]] = []
        self.handles = 0
        """Files that are open now."""
        self.under_way = 0
        self.most_under_way = 0
        self.most_open = 0
        self.lost: ConnectionLost | None = None
        self._random = random.Random(7)

    def add(self, path: Path, content: bytes = b"", **facts: object) -> Node:
        """Put something there, with the folders above it."""
        above = path.rpartition(b"/")[0]
        if above and above not in self.nodes:
            self.add(above, kind=Kind.FOLDER, mode=0o755)
        node = Node(**{"kind": Kind.FILE, "content": bytearray(content), **facts})  # type: ignore[arg-type]
        self.nodes[path] = node
        return node

    @property
    def temps(self) -> list[Path]:
        """Temp names that are there."""
        return [path for path in self.nodes if b".haulier-" in path]

    def count(self, operation: str) -> int:
        """How often something was asked for."""
        return sum(name == operation for name, _ in self.calls)

    def lose(self) -> None:
        """Cut the connection."""
        self.lost = ConnectionLost("The connection broke.")

    def run(
        self, operation: str, path: Path, work: Callable[[], T | StorageError], answer: Answer[T]
    ) -> None:
        """Do `work` after a while and answer what it gave."""
        self.calls.append((operation, path))
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)

        def done() -> None:
            self.under_way -= 1
            error = self.lost or (self.hook(operation, path) if self.hook is not None else None) or self.lost
            answer(error if error is not None else work())

        if self.latency_s:
            asyncio.get_running_loop().call_later(self._random.uniform(0, self.latency_s), done)
        else:
            done()

    # The contract

    @property
    def is_connected(self) -> bool:
        return self.lost is None

    async def connect(self) -> None:
        pass

    async def close(self) -> None:
        pass

    def abort(self, reason: str = "The connection was dropped.") -> None:
        self.lost = ConnectionLost(reason)

    async def root_entry(self) -> Entry:
        return Entry(b"", Kind.FOLDER, 0, MTIME, 0o755)

    async def make_root(self) -> None:
        pass

    def entry(self, path: Path) -> Entry:
        """As it is listed."""
        node = self.nodes[path]
        size = len(node.content) if node.kind is Kind.FILE else 0
        return Entry(path, node.kind, size, node.mtime, node.mode, node.target)

    def list_folder(self, path: Path, answer: Answer[FolderListing]) -> None:
        def work() -> FolderListing | StorageError:
            if path not in self.nodes:
                return NotFound("No such file or folder.")
            if self.nodes[path].kind is not Kind.FOLDER:
                return NotAFolder("Not a folder.")
            inside = [name for name in self.nodes if name and name.rpartition(b"/")[0] == path]
            return FolderListing([self.entry(name) for name in inside])

        self.run("list_folder", path, work, answer)

    def _missing_parent(self, path: Path) -> StorageError | None:
        above = self.nodes.get(path.rpartition(b"/")[0])
        if above is None:
            return NotFound("No such file or folder.")
        return None if above.kind is Kind.FOLDER else NotAFolder("Not a folder.")

    def follow_link(self, path: Path, answer: Answer[Entry]) -> None:
        """Links above what a target says are not followed."""

        def work() -> Entry | StorageError:
            real = path
            for _ in range(40):
                node = self.nodes.get(real)
                if node is None:
                    return NotFound("No such file or folder.")
                if node.kind is not Kind.LINK:
                    return self.entry(real)
                real = posixpath.normpath(posixpath.join(posixpath.dirname(real), node.target or b""))
                if real.startswith((b"/", b"..")):
                    return OutsideRoot("It leads out of the root.")
                real = b"" if real == b"." else real
            return OperationFailed("It cannot be told where it leads to.")

        self.run("follow_link", path, work, answer)

    def open_reader(self, path: Path, answer: Answer[Reader]) -> None:
        def work() -> Reader | StorageError:
            if path not in self.nodes:
                return NotFound("No such file or folder.")
            return MemoryReader(self, path)

        self.run("open_reader", path, work, answer)

    def open_writer(self, path: Path, answer: Answer[Writer]) -> None:
        def work() -> Writer | StorageError:
            missing = self._missing_parent(path)
            if missing is not None:
                return missing
            self.nodes[path] = Node(Kind.FILE, mode=0o600)
            return MemoryWriter(self, path)

        self.run("open_writer", path, work, answer)

    def reopen_writer(self, path: Path, answer: Answer[Writer]) -> None:
        def work() -> Writer | StorageError:
            return MemoryWriter(self, path) if path in self.nodes else NotFound("No such file or folder.")

        self.run("reopen_writer", path, work, answer)

    def make_folder(self, path: Path, answer: Answer[None]) -> None:
        def work() -> StorageError | None:
            missing = self._missing_parent(path)
            if missing is not None:
                return missing
            node = self.nodes.setdefault(path, Node(Kind.FOLDER, mode=0o700))
            return None if node.kind is Kind.FOLDER else NotAFolder("A file is where a folder should be.")

        self.run("make_folder", path, work, answer)

    def make_link(self, path: Path, target: bytes, mtime: int, answer: Answer[None]) -> None:
        def work() -> StorageError | None:
            missing = self._missing_parent(path)
            if missing is not None:
                return missing
            if path in self.nodes:
                return AlreadyExists("Something of that name is there already.")
            self.nodes[path] = Node(Kind.LINK, mtime=mtime, mode=0o777, target=target)
            return None

        self.run("make_link", path, work, answer)

    def rename(self, path: Path, new_path: Path, answer: Answer[None]) -> None:
        def work() -> StorageError | None:
            if path not in self.nodes:
                return NotFound("No such file or folder.")
            there = self.nodes.get(new_path)
            if there is not None and there.kind is Kind.FOLDER:
                return IsAFolder("A folder is where a file should be.")
            self.nodes[new_path] = self.nodes.pop(path)
            return None

        self.run("rename", path, work, answer)

    def remove(self, path: Path, answer: Answer[None]) -> None:
        def work() -> StorageError | None:
            return None if self.nodes.pop(path, None) is not None else NotFound("No such file or folder.")

        self.run("remove", path, work, answer)

    def remove_folder(self, path: Path, answer: Answer[None]) -> None:
        def work() -> StorageError | None:
            node = self.nodes.get(path)
            if node is None:
                return NotFound("No such file or folder.")
            if node.kind is not Kind.FOLDER:
                return NotAFolder("It is not a folder any more.")
            if any(other.startswith(path + b"/") for other in self.nodes):
                return OperationFailed("The folder is not empty.")
            del self.nodes[path]
            return None

        self.run("remove_folder", path, work, answer)

    def set_attributes(
        self, path: Path, *, mode: int, mtime: int, answer: Answer[None], kind: Kind = Kind.FOLDER
    ) -> None:
        def work() -> StorageError | None:
            above = path
            while above:
                above = above.rpartition(b"/")[0]
                if not self.nodes[above].mode & 0o100:
                    return NotFound("Shut out.")
            self.nodes[path].mode, self.nodes[path].mtime = mode, mtime
            return None

        self.run("set_attributes", path, work, answer)


class _Handle:
    def __init__(self, storage: MemoryStorage, path: Path) -> None:
        self.storage = storage
        self.path = path
        self.node = storage.nodes[path]
        self.is_open = True
        storage.handles += 1
        storage.most_open = max(storage.most_open, storage.handles)

    def close(self) -> None:
        if self.is_open:
            self.is_open = False
            self.storage.handles -= 1


class MemoryReader(_Handle, Reader):
    def read(self, offset: int, size: int, answer: Answer[bytes]) -> None:
        assert self.is_open
        self.storage.run("read", self.path, lambda: bytes(self.node.content[offset : offset + size]), answer)

    def measure(self, answer: Answer[tuple[int, int]]) -> None:
        assert self.is_open
        self.storage.run("measure", self.path, lambda: (len(self.node.content), self.node.mtime), answer)


class MemoryWriter(_Handle, Writer):
    def __init__(self, storage: MemoryStorage, path: Path) -> None:
        super().__init__(storage, path)
        self._unanswered = 0
        self._error: StorageError | None = None
        self._finish: Callable[[], None] | None = None

    def write(self, offset: int, data: bytes, answer: Answer[None]) -> None:
        assert self.is_open

        def work() -> None:
            missing = offset + len(data) - len(self.node.content)
            self.node.content.extend(bytes(max(missing, 0)))
            self.node.content[offset : offset + len(data)] = data

        def answered(error: StorageError | None) -> None:
            self._unanswered -= 1
            self._error = self._error or error
            answer(error)
            self._finish_when_written()

        self._unanswered += 1
        self.storage.run("write", self.path, work, answered)

    def finish(self, *, mode: int, mtime: int, size: int, answer: Answer[None]) -> None:
        assert self.is_open
        self.close()

        def work() -> StorageError | None:
            self.node.mode, self.node.mtime = mode, mtime
            return self._error

        self._finish = lambda: self.storage.run("finish", self.path, work, answer)
        self._finish_when_written()

    def _finish_when_written(self) -> None:
        if not self._unanswered and self._finish is not None:
            finish, self._finish = self._finish, None
            finish()
