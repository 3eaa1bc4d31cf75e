"""An SFTP server over real files that is bad at something: asyncssh's, with a few operations of its own."""

import asyncio
import contextlib
import inspect
import random
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import asyncssh
from asyncssh.sftp import SFTPServerHandler

from migration_app.storages.base import Address
from migration_app.storages.sftp import packets

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


SHUFFLED_S = 0.003
_PIECES = (packets.READ, packets.WRITE)
_TWO_NAMES = (packets.RENAME, packets.SYMLINK)


class Shuffled(SFTPServerHandler):
    """Carries out requests in any order but those of one file, as the draft allows (6.1), and answers when they are
    done; asyncssh's own takes one after the other."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._under_way: dict[bytes, list[tuple[asyncio.Task[None], bool]]] = {}
        self._random = random.Random(6)

    async def _process_packet(self, pkttype: int, pktid: int, packet: Any) -> None:
        is_piece = pkttype in _PIECES
        names = _names(pkttype, packet.get_remaining_payload())
        before = [
            task
            for name in names
            for task, other in self._under_way.get(name, ())
            if not (is_piece and other)
        ]

        async def carry_out() -> None:
            if before:
                await asyncio.wait(before)
            await asyncio.sleep(self._random.uniform(0, SHUFFLED_S))
            await SFTPServerHandler._process_packet(self, pkttype, pktid, packet)

        task = asyncio.create_task(carry_out())
        for name in names:
            self._under_way.setdefault(name, []).append((task, is_piece))
        task.add_done_callback(lambda _: self._forget(names))

    def _forget(self, names: list[bytes]) -> None:
        for name in names:
            left = [one for one in self._under_way.pop(name, ()) if not one[0].done()]
            if left:
                self._under_way[name] = left


def _names(kind: int, payload: bytes) -> list[bytes]:
    """The handle or names that a request is about."""
    cursor = packets.Cursor(payload)
    if kind == packets.EXTENDED:
        extension = cursor.text()
        if extension == b"copy-data":
            source, _, _ = cursor.text(), cursor.long(), cursor.long()
            return [source, cursor.text()]
        return [] if cursor.is_at_end() else [cursor.text() for _ in range(1 + (b"rename" in extension))]
    return [cursor.text() for _ in range(1 + (kind in _TWO_NAMES))]


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
