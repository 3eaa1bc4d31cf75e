"""An SFTP server over real files that is bad at something: asyncssh's, with a few operations of its own."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import asyncssh

from migration_app.storages.base import Address


class _LetsEverybodyIn(asyncssh.SSHServer):
    def begin_auth(self, username: str) -> bool:
        return False


@contextlib.asynccontextmanager
async def faulty(root: Path, server_class: type[asyncssh.SFTPServer]) -> AsyncIterator[Address]:
    """A server in this event loop, which sees `root` as `/`."""

    def make(channel: "asyncssh.SSHServerChannel[bytes]") -> asyncssh.SFTPServer:
        return server_class(channel, chroot=str(root).encode())

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
