"""A small site with one larger file, and its way to and from a server that is bad at something."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncssh

from migration_app.engine.transfer import transfer_items
from migration_app.storages.base import Storage
from migration_app.storages.registry import open_storage
from tests.engine.trees import connected, entries_of, is_allowed, items_of, local
from tests.servers.faulty import faulty

BIG = b"b" * 600_000


def make_site(root: Path) -> None:
    """A large file and its neighbours."""
    (root / "folder").mkdir(parents=True)
    (root / "folder/big").write_bytes(BIG)
    for number in range(5):
        (root / f"folder/small{number}").write_bytes(b"%d" % number)


def files_in(root: Path) -> dict[str, bytes]:
    """Contents by path, temp names too."""
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


async def failures(
    source: Storage, destination: Storage, *, listed: Callable[[], None] = lambda: None, **options: Any
) -> dict[bytes, str]:
    """Copy everything; gives what failed. `listed` is called before anything is copied."""
    async with connected(source, destination):
        items = items_of(await entries_of(source))
        listed()
        batches = transfer_items(source, destination, items, **options)
        done = [one async for batch in batches for one in batch.done]
    return {one.path: str(one.error) for one in done if one.error is not None}


def up(
    source: Path, destination: Path, server_class: type[asyncssh.SFTPServer], **options: Any
) -> dict[bytes, str]:
    """Copy everything to a server; gives what failed."""
    destination.mkdir(exist_ok=True)

    async def go() -> dict[bytes, str]:
        async with asyncio.timeout(30), faulty(destination, server_class) as address:
            there = open_storage(address, b"/", guard=is_allowed)
            return await failures(local(source), there, **options)

    return asyncio.run(go())


def down(
    source: Path, destination: Path, server_class: type[asyncssh.SFTPServer], **options: Any
) -> dict[bytes, str]:
    """Copy everything from a server; gives what failed."""
    destination.mkdir(exist_ok=True)

    async def go() -> dict[bytes, str]:
        async with asyncio.timeout(30), faulty(source, server_class) as address:
            there = open_storage(address, b"/", guard=is_allowed)
            return await failures(there, local(destination), **options)

    return asyncio.run(go())
