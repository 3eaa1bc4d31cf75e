"""An SFTP server over real files that is bad at something: asyncssh's, with a few operations of its own."""

import contextlib
import inspect
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import asyncssh

from migration_app.storages.base import Address


class _LetsEverybodyIn(asyncssh.SSHServer):
    def begin_auth(self, username: str) -> bool:
        return False


@contextlib.asynccontextmanager
async def faulty(root: Path, server_class: type[asyncssh.SFTPServer]) -> AsyncIterator[Address]:
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
        server_factory=_LetsEverybodyIn,
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
