"""An SFTP server over real files that is bad at something: asyncssh's, with a few operations of its own."""

import asyncio
import contextlib
import inspect
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import asyncssh

from migration_app.storages.base import Address

T = TypeVar("T")


class LetsEverybodyIn(asyncssh.SSHServer):
    """Asks for no password."""

    def begin_auth(self, username: str) -> bool:
        return False


@contextlib.asynccontextmanager
async def faulty(
    root: Path,
    server_class: type[asyncssh.SFTPServer] = asyncssh.SFTPServer,
    *,
    ssh_class: type[asyncssh.SSHServer] = LetsEverybodyIn,
) -> AsyncIterator[Address]:
    """A server in this event loop, which sees `root` as `/`."""

    opened: list[Any] = []

    def make(channel: "asyncssh.SSHServerChannel[bytes]") -> Any:
        server: Any = server_class(channel, chroot=str(root).encode())
        server.open = partial(open_and_note, server.open)
        return server

    async def open_and_note(open_file: Callable[..., Any], *arguments: Any) -> Any:
        found = open_file(*arguments)
        opened.append(await found if inspect.isawaitable(found) else found)
        return opened[-1]

    listener = await asyncssh.listen(
        "127.0.0.1",
        0,
        server_factory=ssh_class,
        server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")],
        sftp_factory=make,
        sftp_version=3,
        encoding=None,
    )
    try:
        yield Address("sftp", "127.0.0.1", listener.get_port(), username="somebody", password="secret")
    finally:
        listener.close()
        await listener.wait_closed()
        # A connection that breaks in the wrong moment leaves files to nobody.
        for file in opened:
            file.close()


@contextlib.contextmanager
def beside(server: AbstractAsyncContextManager[T]) -> Iterator[T]:
    """Run a server in a thread, with an event loop of its own, for tests that have none."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        found = asyncio.run_coroutine_threadsafe(server.__aenter__(), loop).result(30)
        try:
            yield found
        finally:
            asyncio.run_coroutine_threadsafe(server.__aexit__(None, None, None), loop).result(30)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
