"""A slow line to a server: a TCP proxy on loopback that lets so many bytes a second through."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

_PIECE = 2048
_PATIENCE_S = 0.2


class SlowLink:
    """Listens on `port` and passes everything on to a server, each way at `bytes_per_s` for all connections together.

    `bytes_per_s` may be changed at any time; None is no limit, 0 stands still. `on_sent` sees what clients send.
    """

    host = "127.0.0.1"

    def __init__(
        self,
        port: int,
        *,
        bytes_per_s: float | None = None,
        on_sent: Callable[[bytes], None] | None = None,
    ) -> None:
        self.bytes_per_s = bytes_per_s
        self._target = port
        self._on_sent = on_sent
        self._is_open = True
        self._sockets: list[socket.socket] = []
        self._hung: set[socket.socket] = set()
        """Ends of connections that pass nothing on any more."""
        self._threads: list[threading.Thread] = []
        self._turns = (threading.Lock(), threading.Lock())
        self._listener = socket.create_server((self.host, 0), backlog=100)
        self.port = int(self._listener.getsockname()[1])
        self._start(self._accept)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Cut all connections."""
        self._is_open = False
        for found in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                found.shutdown(socket.SHUT_RDWR)
            found.close()
        for thread in self._threads:
            thread.join()

    def cut(self) -> None:
        """Cut the connections that there are; new ones are taken."""
        for found in list(self._sockets):
            with contextlib.suppress(OSError):
                found.shutdown(socket.SHUT_RDWR)

    def hang(self) -> None:
        """Have the connections that there are pass nothing on any more, and stay; new ones are as good as ever."""
        self._hung.update(self._sockets)

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while self._is_open:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection((self.host, self._target))
            except OSError:
                client.close()
                continue
            self._sockets += [client, server]
            self._start(self._pass_on, client, server, 0)
            self._start(self._pass_on, server, client, 1)

    def _pass_on(self, source: socket.socket, sink: socket.socket, way: int) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_PIECE):
                if way == 0 and self._on_sent is not None:
                    self._on_sent(data)
                with self._turns[way]:
                    self._wait(len(data))
                if source not in self._hung:
                    sink.sendall(data)
        # Half a connection tells nobody anything here: what one side ends is over.
        for found in (source, sink):
            with contextlib.suppress(OSError):
                found.shutdown(socket.SHUT_RDWR)

    def _wait(self, size: int) -> None:
        """As long as so many bytes take, less if the limit goes up meanwhile."""
        left = float(size)
        while self._is_open and self.bytes_per_s is not None and left > 0:
            pause_s = min(_PATIENCE_S, left / self.bytes_per_s) if self.bytes_per_s else _PATIENCE_S
            time.sleep(pause_s)
            left -= pause_s * self.bytes_per_s if self.bytes_per_s else 0
