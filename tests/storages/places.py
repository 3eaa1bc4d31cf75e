"""A folder of this machine as each storage sees it, so that tests can look at both sides."""

import asyncio
import contextlib
import os
import pwd
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from migration_app.storages.base import (
    Address,
    Answer,
    Entry,
    FolderListing,
    Guard,
    Kind,
    Reader,
    Storage,
    Writer,
    ask,
)
from migration_app.storages.errors import StorageError
from migration_app.storages.registry import open_storage
from tests.servers.accounts import acting_as
from tests.servers.daemon import Daemon

T = TypeVar("T")


@dataclass(frozen=True)
class Place:
    """Where a storage is, and what is really there."""

    address: Address
    folder: Path
    server: Daemon | None = None

    def storage(self, root: bytes | None = None, *, guard: Guard = lambda: True) -> Storage:
        return open_storage(self.address, os.fsencode(self.folder) if root is None else root, guard=guard)

    def run(
        self,
        test: Callable[[Storage], Awaitable[T]],
        *,
        root: bytes | None = None,
        guard: Guard = lambda: True,
    ) -> T:
        """Run a test on a connected storage."""

        async def main() -> T:
            storage = self.storage(root, guard=guard)
            await storage.connect()
            try:
                return await test(storage)
            finally:
                await storage.close()

        return asyncio.run(main())

    def as_somebody_else(self) -> "Place":
        """The same, seen by a user whom modes hold back; root is not."""
        if os.geteuid() != 0 or not self.address.username:
            return self
        return replace(self, address=replace(self.address, username="nobody"))

    @property
    def is_sftp(self) -> bool:
        return self.address.protocol == "sftp"


def sftp_address(server: Daemon, **options: Any) -> Address:
    options = {"username": server.username, "ssh_key": server.private_key, **options}
    return Address("sftp", server.host, server.port, **options)


@contextlib.contextmanager
def held_back_by_modes() -> Iterator[None]:
    """Be nobody for a while, when we are root."""
    if os.geteuid() != 0:
        yield
        return
    nobody = pwd.getpwnam("nobody")
    with acting_as(nobody.pw_uid, nobody.pw_gid):
        yield


class Answers:
    """Counts what operations answer."""

    def __init__(self) -> None:
        self.by_name: dict[str, list[Any]] = {}

    def to(self, name: str) -> Callable[[Any], None]:
        given = self.by_name.setdefault(name, [])
        return given.append

    @property
    def missing(self) -> list[str]:
        return [name for name, given in self.by_name.items() if not given]

    def are_all_once(self) -> bool:
        return all(len(given) == 1 for given in self.by_name.values())

    async def wait(self) -> None:
        async with asyncio.timeout(10):
            while self.missing:  # noqa: ASYNC110 - what is waited for does not know of us
                await asyncio.sleep(0.005)
        # Whatever answers twice has time to.
        await asyncio.sleep(0.02)


async def listing(storage: Storage, path: bytes = b"") -> FolderListing:
    return await ask(partial(storage.list_folder, path))


async def open_reader(storage: Storage, path: bytes) -> Reader:
    return await ask(partial(storage.open_reader, path))


async def open_writer(storage: Storage, path: bytes) -> Writer:
    return await ask(partial(storage.open_writer, path))


async def finish(writer: Writer, *, mode: int, mtime: int, size: int) -> None:
    def start(answer: Answer[None]) -> None:
        writer.finish(mode=mode, mtime=mtime, size=size, answer=answer)

    await ask(start)


async def set_attributes(
    storage: Storage, path: bytes, *, mode: int, mtime: int, kind: Kind = Kind.FOLDER
) -> None:
    def start(answer: Answer[None]) -> None:
        storage.set_attributes(path, mode=mode, mtime=mtime, kind=kind, answer=answer)

    await ask(start)


async def read_all(storage: Storage, path: bytes) -> bytes:
    """Read a file to its end, in pieces of chunk_size, all asked for at once."""
    reader = await open_reader(storage, path)
    try:
        size, _ = await ask(reader.measure)
        chunk = storage.capabilities.chunk_size
        offsets = range(0, size + 1, chunk)
        pieces = await asyncio.gather(*(ask(partial(reader.read, offset, chunk)) for offset in offsets))
        return b"".join(pieces)
    finally:
        reader.close()


async def write_all(
    storage: Storage, path: bytes, content: bytes, *, mode: int = 0o644, mtime: int = 1_600_000_000
) -> None:
    """Write a file, in pieces of chunk_size, all sent at once."""
    writer = await open_writer(storage, path)
    chunk = storage.capabilities.chunk_size
    errors: list[StorageError | None] = []
    for offset in range(0, len(content), chunk):
        writer.write(offset, content[offset : offset + chunk], errors.append)
    await finish(writer, mode=mode, mtime=mtime, size=len(content))
    assert not any(errors)


def entries(place: Place, path: bytes = b"") -> dict[bytes, Entry]:
    async def test(storage: Storage) -> dict[bytes, Entry]:
        found = await listing(storage, path)
        assert found.problems == []
        assert len({entry.path for entry in found.entries}) == len(found.entries)
        return {entry.path: entry for entry in found.entries}

    return place.run(test)


def make(path: Path, content: bytes = b"", *, mode: int = 0o644, mtime: int = 1_500_000_000) -> Path:
    path.write_bytes(content)
    path.chmod(mode)
    os.utime(path, (mtime, mtime))
    return path
