"""A small site with one larger file, and its way to and from a server that is bad at something."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import asyncssh

from migration_app.engine.choices import DEFAULTS, Choices
from migration_app.engine.folders import set_attributes
from migration_app.engine.plan import Action, Step, compare_trees
from migration_app.engine.transfer import transfer_items
from migration_app.storages.base import Kind, Storage
from migration_app.storages.registry import open_storage
from tests.engine.trees import EVERYTHING, connected, entries_of, is_allowed, items_of, local
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
    return at_server(destination, server_class, lambda there: failures(local(source), there, **options))


def down(
    source: Path, destination: Path, server_class: type[asyncssh.SFTPServer], **options: Any
) -> dict[bytes, str]:
    """Copy everything from a server; gives what failed."""
    destination.mkdir(exist_ok=True)
    return at_server(source, server_class, lambda there: failures(there, local(destination), **options))


def at_server(
    root: Path,
    server_class: type[asyncssh.SFTPServer],
    move: Callable[[Storage], Coroutine[Any, Any, dict[bytes, str]]],
    *,
    seconds: float = 30,
) -> dict[bytes, str]:
    """Run `move` with a server that sees `root` as `/`; gives what failed."""

    async def go() -> dict[bytes, str]:
        async with asyncio.timeout(seconds), faulty(root, server_class) as address:
            return await move(open_storage(address, b"/", guard=is_allowed))

    return asyncio.run(go())


async def moved(source: Storage, destination: Storage, choices: Choices = DEFAULTS) -> dict[bytes, str]:
    """Do what a job does; gives what was not copied, with the reason."""
    left: dict[bytes, str] = {}
    steps: list[Step] = []
    async with connected(source, destination):
        root, there = await source.root_entry(), await destination.root_entry()
        async for batch in compare_trees(source, destination, EVERYTHING, choices=choices):
            left |= {path: str(error) for path, error in batch.unreadable}
            left |= {s.entry.path: s.reason for s in batch.steps if s.action is Action.CONFLICT}
            steps += batch.steps
        wanted = [step.entry for step in steps if step.action in (Action.CREATE, Action.UPDATE)]
        known = [step.entry.path for step in steps if step.action is Action.SKIP]
        async for copied in transfer_items(source, destination, items_of(wanted), folders_known=known):
            left |= {one.path: str(one.error) for one in copied.done if one.error is not None}
        folders = [step.entry for step in steps if step.entry.kind is Kind.FOLDER]
        in_place = [entry for entry in folders if entry.path not in left]
        async for _ in set_attributes(destination, [choices.as_it_stays(root, there), *in_place]):
            pass
    return left
