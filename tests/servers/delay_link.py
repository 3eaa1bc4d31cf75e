"""A far server on loopback: a TCP proxy, in a process of its own, that passes every byte on half a round trip later.

The rate is not limited: what comes together is passed on together. A connection is accepted at once, so the round trip
of TCP's own handshake is left out. Run it as `python -m tests.servers.delay_link PORT RTT_MS`: it prints the port that
it listens on, and ends when its standard input is closed.
"""

import asyncio
import contextlib
import socket
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

HOST = "127.0.0.1"
HELD_BYTES = 64 * 2**20
"""What one direction of a connection holds before it reads no more: at 40 ms no limit below 3 GB/s."""
PIECE_BYTES = 2**18
_ROOT = Path(__file__).resolve().parents[2]


class DelayLink:
    """The proxy's process; `port` leads to the server's port, `rtt_ms` away."""

    host = HOST

    def __init__(self, port: int, *, rtt_ms: float) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.servers.delay_link", str(port), str(rtt_ms)],
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        said = self._process.stdout.readline()
        if not said:
            self.close()
            raise RuntimeError("The delay proxy did not start.")
        self.port = int(said)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Cut all connections."""
        self._process.communicate()


class _Way:
    """One direction of a connection, and what is under way in it: each piece leaves so long after it came."""

    def __init__(self, source: socket.socket, sink: socket.socket, delay_s: float) -> None:
        self._source = source
        self._sink = sink
        self._delay_s = delay_s
        self._loop = asyncio.get_running_loop()
        self._pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        """When each leaves; the empty one is the end."""
        self._held_bytes = 0
        self._has_room = asyncio.Event()
        self._has_room.set()

    async def run(self) -> None:
        """Pass on everything, then the end."""
        reading = asyncio.create_task(self._read())
        try:
            # Who takes nothing any more shuts both ways: the other one ends by itself.
            with contextlib.suppress(OSError):
                await self._write()
        finally:
            reading.cancel()

    async def _read(self) -> None:
        data = b"the beginning"
        while data:
            await self._has_room.wait()
            try:
                data = await self._loop.sock_recv(self._source, PIECE_BYTES)
            except OSError:
                data = b""
            self._held_bytes += len(data)
            if self._held_bytes >= HELD_BYTES:
                self._has_room.clear()
            self._pieces.put_nowait((self._loop.time() + self._delay_s, data))

    async def _write(self) -> None:
        while True:
            due, data = await self._pieces.get()
            await asyncio.sleep(due - self._loop.time())
            if not data:
                self._sink.shutdown(socket.SHUT_WR)
                return
            await self._loop.sock_sendall(self._sink, data)
            self._held_bytes -= len(data)
            if self._held_bytes < HELD_BYTES:
                self._has_room.set()


async def _join(client: socket.socket, target: int, delay_s: float) -> None:
    with client, socket.socket() as server:
        for end in (client, server):
            end.setblocking(False)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(OSError):
            await asyncio.get_running_loop().sock_connect(server, (HOST, target))
            await asyncio.gather(_Way(client, server, delay_s).run(), _Way(server, client, delay_s).run())


async def _serve(target: int, delay_s: float) -> None:
    loop = asyncio.get_running_loop()
    joined: set[asyncio.Task[None]] = set()

    async def accept() -> None:
        while True:
            client, _ = await loop.sock_accept(listener)
            task = loop.create_task(_join(client, target, delay_s))
            joined.add(task)
            task.add_done_callback(joined.discard)

    with socket.create_server((HOST, 0), backlog=100) as listener:
        listener.setblocking(False)
        print(listener.getsockname()[1], flush=True)
        accepting = loop.create_task(accept())
        # Ends with whoever started it, however that ended.
        await loop.run_in_executor(None, sys.stdin.buffer.read)
        accepting.cancel()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), float(sys.argv[2]) / 2000))
