"""The last gate of a worker's fence: a TCP socket that sends nothing once the lease is over.

A process that is stopped in the middle and goes on later finds encrypted packets in its buffers; no check before
those buffers would hold them back.
"""

import asyncio
import socket
from collections.abc import Callable
from typing import Any

ADDRESS_S = 3.0
"""For one of several addresses of a name, so that a dead one leaves time for the next."""


class GuardedSocket(socket.socket):
    """Raises ConnectionAbortedError instead of sending when `may_send` says no."""

    may_send: Callable[[], bool]

    def _check(self) -> None:
        if not self.may_send():
            raise ConnectionAbortedError("The lease is over.")

    # asyncio's transports send with one of these two.

    def send(self, *arguments: Any) -> int:
        """See socket.socket."""
        self._check()
        return super().send(*arguments)

    def sendmsg(self, *arguments: Any) -> int:
        """See socket.socket."""
        self._check()
        return super().sendmsg(*arguments)


async def connect_socket(
    host: str, port: int, may_send: Callable[[], bool], reached: Callable[[str], None] = lambda _: None
) -> GuardedSocket:
    """Connect to the first address of a name that answers; raises OSError.

    `reached` is told when the `name` is resolved and the `port` has answered.
    """
    loop = asyncio.get_running_loop()
    addresses = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    reached("name")
    error: OSError = ConnectionRefusedError()
    for index, (family, kind, protocol, _, address) in enumerate(addresses):
        link = GuardedSocket(family, kind, protocol)
        link.may_send = may_send
        link.setblocking(False)
        is_last = index == len(addresses) - 1
        try:
            async with asyncio.timeout(None if is_last else ADDRESS_S):
                await loop.sock_connect(link, address)
        except OSError as failure:
            # TimeoutError is one of them.
            link.close()
            error = failure
        except BaseException:
            link.close()
            raise
        else:
            reached("port")
            return link
    raise error
