"""Trees and storages of the engine's tests."""

import asyncio
import os
import stat
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, TypeVar

import pytest

from migration_app.engine.filters import parse_filter
from migration_app.engine.folders import set_attributes
from migration_app.engine.scan import scan_tree
from migration_app.engine.transfer import Done, Item, transfer_items
from migration_app.storages.base import Address, BundledReaders, BundledWriters, Entry, Kind, Storage
from migration_app.storages.local import LocalStorage
from migration_app.storages.registry import open_storage
from migration_app.storages.sftp.storage import SftpStorage
from tests.servers.daemon import Daemon

EVERYTHING = parse_filter([], include_hidden=True)
LONG_AGO = 1_500_000_000
LOCAL = Address(protocol="local", local_roots=("/",))

T = TypeVar("T")
Opener = Callable[[Path], Storage]


def is_allowed() -> bool:
    """A guard that lets everything pass."""
    return True


def local(root: Path) -> Storage:
    """A folder of this machine."""
    return LocalStorage(LOCAL, os.fsencode(root), guard=is_allowed)


def sftp(server: Daemon, username: str = "") -> Opener:
    """Makes storages on a server, of whoever runs it or somebody else."""
    address = Address(
        protocol="sftp",
        host=server.host,
        port=server.port,
        username=username or server.username,
        ssh_key=server.private_key,
    )
    return lambda root: open_storage(address, os.fsencode(root), guard=is_allowed)


def other_sftp(server: Daemon) -> Opener:
    """As `sftp`, and taken for another server: it copies nothing from that one by itself."""
    address = replace(sftp(server)(Path("/")).address, forbidden=("nothing",))
    return lambda root: open_storage(address, os.fsencode(root), guard=is_allowed)


class InBundles(SftpStorage):
    """Packs and unpacks all small files of a transfer, from the first one on."""

    async def connect(self) -> None:
        """See Storage."""
        await super().connect()
        self.writers, self.readers = super().bundled_writers(), super().bundled_readers()
        assert self.writers is not None
        assert self.readers is not None
        async with asyncio.timeout(20):
            while not (self.writers.is_ready and self.readers.is_ready):  # noqa: ASYNC110 - they tell nobody
                await asyncio.sleep(0.01)

    def bundled_writers(self) -> BundledWriters | None:
        """See Storage."""
        return self.writers

    def bundled_readers(self) -> BundledReaders | None:
        """See Storage."""
        return self.readers


def bundled(server: Daemon, username: str = "") -> Opener:
    """As `sftp`; `bundling.WORTH_FROM` has to be 1."""
    address = sftp(server, username)(Path("/")).address
    return lambda root: InBundles(address, os.fsencode(root), guard=is_allowed)


class Route(NamedTuple):
    """Where a tree comes from and where it goes to."""

    source: Opener
    destination: Opener
    keeps_link_times: bool = True

    def seen(self, root: Path) -> dict[bytes, tuple[object, ...]]:
        """Everything about a tree that a copy has to keep on this way."""
        found = seen(root)
        if not self.keeps_link_times:
            found = {path: one[:2] if one[0] == "link" else one for path, one in found.items()}
        return found


PROFTPD_ROUTES = ["local to proftpd", "proftpd to local", "proftpd to proftpd", "proftpd to bundles"]
ROUTES = [
    "local to local",
    "local to sftp",
    "sftp to local",
    "sftp to sftp",
    "sftp to other sftp",
    "local to bundles",
    "bundles to local",
    "bundles to bundles",
    *(pytest.param(route, marks=pytest.mark.slow) for route in PROFTPD_ROUTES),
]


def route_of(request: pytest.FixtureRequest) -> Route:
    """One of `ROUTES`, which a fixture has as its parameter."""
    source, _, destination = str(request.param).partition(" to ")
    return Route(
        _opener(source, request), _opener(destination, request), keeps_link_times=destination != "proftpd"
    )


def _opener(side: str, request: pytest.FixtureRequest) -> Opener:
    if side == "local":
        return local
    if side == "proftpd":
        return sftp(request.getfixturevalue("proftpd"))
    openers = {"sftp": sftp, "other sftp": other_sftp, "bundles": bundled}
    return openers[side](request.getfixturevalue("openssh"))


@asynccontextmanager
async def connected(*storages: Storage) -> AsyncIterator[None]:
    """Connects them, and closes them at the end."""
    try:
        for storage in storages:
            await storage.connect()
        yield
    finally:
        for storage in storages:
            await storage.close()


def make_tree(root: Path) -> None:
    """A small tree of everything that can be copied."""
    root.mkdir(exist_ok=True)
    base = os.fsencode(root)
    for folder in (b"a", b"a/b", b"a/b/c", b"empty", b".hidden", "Größe ☃".encode(), b"bytes-\xff\xfe"):
        os.mkdir(base + b"/" + folder)
    files = {
        b"index.php": b"<?php\n",
        b"a/one": b"1",
        b"a/b/two": b"2" * 70_000,
        b"a/b/c/three": b"",
        b".htaccess": b"Deny from all\n",
        b".hidden/.x": b"x",
        "Größe ☃/ü".encode(): b"u",
        b"bytes-\xff\xfe/\xe4\xf6": b"latin",
        b"new\nline": b"n",
        b"-rf": b"dash",
        b"large": os.urandom(3_000_001),
    }
    for number, (name, content) in enumerate(files.items()):
        Path(os.fsdecode(base + b"/" + name)).write_bytes(content)
        os.chmod(base + b"/" + name, (0o644, 0o600, 0o755, 0o444)[number % 4])
        os.utime(base + b"/" + name, (LONG_AGO + number, LONG_AGO + number))
    for name, target in {
        b"to-file": b"a/one",
        b"to-folder": b"a",
        b"dangling": b"no/where",
        b"a/up": b"../index.php",
    }.items():
        os.symlink(target, base + b"/" + name)
        os.utime(base + b"/" + name, (LONG_AGO, LONG_AGO), follow_symlinks=False)
    os.chmod(base + b"/a/b", 0o555)
    os.chmod(base + b"/empty", 0o700)
    for folder in (b"a/b/c", b"a/b", b"a", b"empty", b".hidden"):
        os.utime(base + b"/" + folder, (LONG_AGO + 99, LONG_AGO + 99))


def seen(root: Path) -> dict[bytes, tuple[object, ...]]:
    """Everything about a tree that a copy has to keep."""
    found: dict[bytes, tuple[object, ...]] = {}
    base = os.fsencode(root)
    for parent, folders, files in os.walk(base):
        for name in folders + files:
            path = os.path.join(parent, name)
            status = os.lstat(path)
            # Not of the time as a float, which is rounded up where a second is nearly over.
            mode, mtime = stat.S_IMODE(status.st_mode), status.st_mtime_ns // 10**9
            key = os.path.relpath(path, base)
            if stat.S_ISLNK(status.st_mode):
                found[key] = ("link", os.readlink(path), mtime)
            elif stat.S_ISDIR(status.st_mode):
                found[key] = ("folder", mode, mtime)
            else:
                found[key] = ("file", mode, mtime, Path(os.fsdecode(path)).read_bytes())
    return found


async def entries_of(storage: Storage) -> list[Entry]:
    """A whole tree, parents first."""
    return [
        entry
        async for batch in scan_tree(storage, EVERYTHING)
        for listing in batch.folders
        for entry in listing.entries
    ]


def items_of(entries: Iterable[Entry]) -> list[Item]:
    """What to copy, with temp names."""
    return [Item(number, entry, b".haulier-%024x" % number) for number, entry in enumerate(entries)]


async def copy(source: Storage, destination: Storage, items: Sequence[Item]) -> dict[bytes, Done]:
    """Transfer items; how each ended, by path."""
    done: dict[bytes, Done] = {}
    async for batch in transfer_items(source, destination, items):
        for one in batch.done:
            assert one.path not in done
            done[one.path] = one
    return done


async def copy_tree(source: Storage, destination: Storage) -> dict[bytes, Done]:
    """Copy everything and set the folders' attributes."""
    entries = await entries_of(source)
    done = await copy(source, destination, items_of(entries))
    folders = [entry for entry in entries if entry.kind is Kind.FOLDER]
    async for batch in set_attributes(destination, folders):
        assert [one.error for one in batch] == [None] * len(batch)
    return done


def errors(done: dict[bytes, Done]) -> dict[bytes, str]:
    """What failed, and why."""
    return {path: str(one.error) for path, one in done.items() if one.error is not None}


async def collect(batches: AsyncIterable[T], into: list[T]) -> None:
    """Keep what comes before an error."""
    async for batch in batches:
        into.append(batch)  # noqa: PERF401
