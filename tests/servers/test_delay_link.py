"""The delay proxy: bytes arrive whole and in order, both ways, no sooner than it promises."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from tests.product import free_port
from tests.servers.delay_link import DelayLink


@contextmanager
def serving(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server that takes one connection; its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def run() -> None:
            with listener.accept()[0] as connection:
                serve(connection)

        thread = threading.Thread(target=run)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(20)
        assert not thread.is_alive()


def everything(connection: socket.socket) -> bytes:
    """What arrives until the other side has ended."""
    return b"".join(iter(lambda: connection.recv(2**20), b""))


def connect(link: DelayLink) -> socket.socket:
    return socket.create_connection((link.host, link.port), 20)


def test_bytes_arrive_whole_and_in_order_both_ways_and_either_side_may_end_first():
    sent = b"".join(number.to_bytes(4, "big") for number in range(500_000))
    received = b""

    def serve(connection: socket.socket) -> None:
        nonlocal received
        received = everything(connection)
        # The client has ended its half: the other one is still open.
        connection.sendall(sent[::-1])

    with serving(serve) as port, DelayLink(port, rtt_ms=10) as link, connect(link) as client:
        client.sendall(sent)
        client.shutdown(socket.SHUT_WR)
        answered = everything(client)
    assert received == sent
    assert answered == sent[::-1]


def test_echo_takes_no_less_than_the_round_trip():
    with (
        serving(lambda connection: connection.sendall(connection.recv(4))) as port,
        DelayLink(port, rtt_ms=40) as link,
        connect(link) as client,
    ):
        started = time.monotonic()
        client.sendall(b"ping")
        assert client.recv(4) == b"ping"
        assert time.monotonic() - started >= 0.04


def test_receiver_that_takes_its_time_gets_everything():
    sent = memoryview(bytes(range(256)) * (96 * 2**12))  # more than the proxy and both sockets hold
    may_take = threading.Event()
    received = b""

    def serve(connection: socket.socket) -> None:
        nonlocal received
        assert may_take.wait(20)
        received = everything(connection)

    with serving(serve) as port, DelayLink(port, rtt_ms=2) as link, connect(link) as client:
        done = 0
        client.settimeout(0.5)
        with suppress(TimeoutError):
            while done < len(sent):
                done += client.send(sent[done:])
        may_take.set()
        client.settimeout(20)
        client.sendall(sent[done:])
        client.shutdown(socket.SHUT_WR)
        assert everything(client) == b""
    assert received == sent


def test_connection_that_nobody_takes_is_cut():
    with DelayLink(free_port(), rtt_ms=2) as link, connect(link) as client:
        assert everything(client) == b""
