"""An SFTP server that breaks the protocol as it is told to: packets made by hand behind a real SSH handshake."""

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any

import asyncssh

from migration_app.storages.base import Address, Storage
from migration_app.storages.registry import open_storage
from migration_app.storages.sftp import packets

FOLDER_MODE, FILE_MODE, LINK_MODE = 0o040755, 0o100644, 0o120777


class Session(asyncssh.SSHServerSession[bytes]):
    """One client's SFTP session; answers are built here or sent raw."""

    def __init__(self, behaviour: "Mapping[int, Handler] | None", version: bytes) -> None:
        self.requests: list[int] = []
        """Kinds of the requests that came."""
        self.listings: dict[bytes, int] = {}
        """How many READDIRs each handle had."""
        self._behaviour = behaviour
        """None: there is no SFTP."""
        self._version = version
        self._buffer = b""

    def connection_made(self, chan: "asyncssh.SSHServerChannel[bytes]") -> None:
        self._channel = chan

    def subsystem_requested(self, subsystem: str) -> bool:
        return subsystem == "sftp" and self._behaviour is not None

    def exec_requested(self, command: str) -> bool:
        # Runs nothing and is gone before the client can write to it.
        asyncio.get_running_loop().call_soon(self._channel.exit, 0)
        return True

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        self._buffer += data
        while len(self._buffer) >= 4 and len(self._buffer) - 4 >= (
            length := int.from_bytes(self._buffer[:4], "big")
        ):
            request, self._buffer = self._buffer[4 : 4 + length], self._buffer[4 + length :]
            if request[0] == packets.INIT:
                self.raw(self._version)
                continue
            self.requests.append(request[0])
            number = int.from_bytes(request[1:5], "big")
            (self._behaviour or {}).get(request[0], _ok)(self, number, packets.Cursor(request, 5))

    def raw(self, data: bytes) -> None:
        with contextlib.suppress(OSError):  # the client is gone
            self._channel.write(data)

    def packet(self, kind: int, request_id: int, body: bytes = b"") -> None:
        self.raw(struct.pack(">IBI", len(body) + 5, kind, request_id) + body)

    def status(self, request_id: int, code: int, said: bytes = b"") -> None:
        self.packet(packets.STATUS, request_id, packets.number(code) + packets.text(said) + packets.text(b""))

    def handle(self, request_id: int, handle: bytes = b"handle") -> None:
        self.packet(packets.HANDLE, request_id, packets.text(handle))

    def attributes(self, request_id: int, mode: int, size: int = 0, mtime: int = 0) -> None:
        self.packet(packets.ATTRS, request_id, attributes(mode, size, mtime))

    def names(self, request_id: int, names: Sequence[tuple[bytes, bytes]]) -> None:
        body = b"".join(packets.text(name) + packets.text(b"") + found for name, found in names)
        self.packet(packets.NAME, request_id, packets.number(len(names)) + body)

    def data(self, request_id: int, data: bytes) -> None:
        self.packet(packets.DATA, request_id, packets.text(data))

    def hang_up(self) -> None:
        self._channel.exit(0)

    def stop_reading(self) -> None:
        """Take nothing more from the client."""
        self._channel.pause_reading()

    def go_on_reading(self) -> None:
        self._channel.resume_reading()


Handler = Callable[[Session, int, packets.Cursor], None]
"""Answers a request, or not; gets its id, and a cursor at what follows the id."""


def attributes(mode: int, size: int = 0, mtime: int = 0) -> bytes:
    return struct.pack(">IQIII", 0x0D, size, mode, mtime, mtime)


def _lstat(session: Session, request_id: int, _: packets.Cursor) -> None:
    session.attributes(request_id, FOLDER_MODE)


def _handle(session: Session, request_id: int, _: packets.Cursor) -> None:
    session.handle(request_id, b"handle-%d" % request_id)


def _readdir(session: Session, request_id: int, cursor: packets.Cursor) -> None:
    handle = cursor.text()
    count = session.listings[handle] = session.listings.get(handle, 0) + 1
    if count == 1:
        session.names(request_id, [(b"file", attributes(FILE_MODE, 10))])
    else:
        session.status(request_id, packets.EOF)


def _read(session: Session, request_id: int, cursor: packets.Cursor) -> None:
    cursor.text()
    cursor.long()
    session.data(request_id, b"x" * cursor.number())


def _readlink(session: Session, request_id: int, cursor: packets.Cursor) -> None:
    if cursor.text().endswith(b"link"):
        session.names(request_id, [(b"target", attributes(0))])
    else:
        session.status(request_id, packets.FAILURE, b"Not a link")


def _ok(session: Session, request_id: int, _: packets.Cursor) -> None:
    session.status(request_id, packets.OK)


def silent(_: Session, request_id: int, cursor: packets.Cursor) -> None:
    """Never answer."""


BEHAVED: dict[int, Handler] = {
    packets.LSTAT: _lstat,
    packets.STAT: _lstat,
    packets.FSTAT: lambda session, number, _: session.attributes(number, FILE_MODE, 10),
    packets.OPEN: _handle,
    packets.OPENDIR: _handle,
    packets.READDIR: _readdir,
    packets.READ: _read,
    packets.READLINK: _readlink,
}


class OpenServer(asyncssh.SSHServer):
    """Lets everybody in; has SFTP when it is given a behaviour."""

    behaviour: Mapping[int, Handler] | None = None
    version = b""
    sessions: list[Session]

    def begin_auth(self, username: str) -> bool:
        return False

    def session_requested(self) -> Session:
        session = Session(self.behaviour, self.version)
        self.sessions.append(session)
        return session


@contextlib.asynccontextmanager
async def misbehaving(
    handlers: Mapping[int, Handler] | None = None,
    *,
    version: bytes = struct.pack(">IBI", 5, packets.VERSION, packets.SFTP_VERSION),
    server_class: type[OpenServer] = OpenServer,
    sessions: list[Session] | None = None,
    host_keys: Sequence[asyncssh.SSHKey] = (),
    has_sftp: bool = True,
) -> AsyncIterator[Address]:
    """A server in this event loop. `handlers`, by kind of request, take the place of good behaviour; `version` is what
    it says first, raw."""
    seen = sessions if sessions is not None else []

    def make_server() -> OpenServer:
        server = server_class()
        server.behaviour = {**BEHAVED, **(handlers or {})} if has_sftp else None
        server.version, server.sessions = version, seen
        return server

    listener = await asyncssh.listen(
        "127.0.0.1",
        0,
        server_factory=make_server,
        server_host_keys=host_keys or [asyncssh.generate_private_key("ssh-ed25519")],
        encoding=None,
        login_timeout=30,
    )
    try:
        yield Address("sftp", "127.0.0.1", listener.get_port(), username="somebody", password="secret")
    finally:
        listener.close()
        await listener.wait_closed()


def run(
    test: Callable[[Storage], Awaitable[Any]], handlers: Mapping[int, Handler] | None = None, **options: Any
) -> Any:
    """Run a test on a storage that is connected to a misbehaving server; nothing may take longer than 20 s."""

    async def main() -> Any:
        async with asyncio.timeout(20), misbehaving(handlers, **options) as address:
            storage = open_storage(address, b"/root", guard=lambda: True)
            await storage.connect()
            try:
                return await test(storage)
            finally:
                await storage.close()

    return asyncio.run(main())


def lists(*answers: list[tuple[bytes, bytes]]) -> dict[int, Handler]:
    """A server whose READDIRs give these names, then the end."""
    left = list(answers)

    def readdir(session: Session, number: int, _: packets.Cursor) -> None:
        if left:
            session.names(number, left.pop(0))
        else:
            session.status(number, packets.EOF)

    return {packets.READDIR: readdir}
