"""Runs the cells: every tool in turn, run after run, and looks at each copy when the clock has stopped."""

import os
import shutil
import socket
import statistics
import sys
import threading
import time
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.cells import FAR_MS, MIB, Cell, census, make_tree
from tests.bench.peers import Access, Peer, Place, RunFailed, peers_of, run
from tests.product import Product
from tests.servers.delay_link import DelayLink
from tests.servers.openssh import OpenSshServer
from tests.trees import small_tree

_PROXY_MIB = 512


@dataclass
class Runs:
    """The runs of one tool in one cell."""

    peer: str
    reason: str = ""
    """Why there are none."""
    seconds: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    @property
    def median_s(self) -> float | None:
        """Of the runs that made a copy; None where one failed or there was none."""
        return statistics.median(self.seconds) if self.seconds and not self.errors else None


@dataclass
class Measured:
    """A cell with its runs, the product's first."""

    cell: Cell
    files: int
    size_bytes: int
    runs: list[Runs]


@dataclass
class Findings:
    """All that was measured."""

    cells: list[Measured] = field(default_factory=list)
    loads: list[float] = field(default_factory=list)
    """The machine's load (one minute's mean) before the first cell and after each."""
    loopback: float | None = None
    """MiB a second over the loopback, one connection."""
    proxied: float | None = None
    """The same through the delay proxy."""

    @property
    def has_failed(self) -> bool:
        """Whether a run made no whole copy."""
        return any(runs.errors for measured in self.cells for runs in measured.runs)


def say(text: str) -> None:
    """Tell how far it is."""
    print(text, file=sys.stderr, flush=True)


def measure(options: Namespace, cells: Sequence[Cell], folder: Path) -> Findings:
    """Run everything."""
    found = Findings(loads=[os.getloadavg()[0]])
    with ExitStack() as stack:
        servers = [stack.enter_context(OpenSshServer()) for _ in range(2)]
        product = stack.enter_context(Product(folder / "product"))
        access = Access(folder, servers)
        ports = {0: [server.port for server in servers]}
        if any(cell.rtt_ms for cell in cells):
            found.loopback, found.proxied = proxy_rates()
            say(f"the loopback passes {found.loopback:,.0f} MiB/s, the delay proxy {found.proxied:,.0f}")
            links = [stack.enter_context(DelayLink(server.port, rtt_ms=FAR_MS)) for server in servers]
            ports[FAR_MS] = [link.port for link in links]
            for server, link in zip(servers, links, strict=True):
                access.add(server, link.port)
        product.start(workers=options.workers)
        peers = peers_of(options.peer, product, access)
        bench = _Bench(folder, ports, peers, options)
        bench.warm_up(cells)
        for cell in cells:
            found.cells.append(bench.measure(cell))
            found.loads.append(os.getloadavg()[0])
    return found


class _Bench:
    def __init__(
        self, folder: Path, ports: dict[int, list[int]], peers: list[Peer], options: Namespace
    ) -> None:
        self._folder = folder
        self._ports = ports
        self._peers = peers
        self._options = options

    def warm_up(self, cells: Sequence[Cell]) -> None:
        """Nobody's first connection or first job counts."""
        warm = small_tree(self._folder / "warm")
        for way, rtt_ms in dict.fromkeys((cell.way, cell.rtt_ms) for cell in cells):
            for peer in self._peers:
                if not peer.reason_against(way):
                    # What fails here will fail again, and be told then.
                    self._run(Cell("warm", way, rtt_ms), peer, warm, Runs(peer.name))

    def measure(self, cell: Cell) -> Measured:
        """All runs of a cell."""
        tree = make_tree(self._folder / "trees", cell, self._options)
        found = [Runs(peer.name, peer.reason_against(cell.way)) for peer in self._peers]
        for number in range(1, self._options.runs + 1):
            for peer, runs in zip(self._peers, found, strict=True):
                if not runs.reason:
                    told = self._run(cell, peer, tree, runs)
                    say(f"{cell.name}, run {number} of {self._options.runs}: {peer.name} {told}")
        return Measured(cell, *census(tree), found)

    def _run(self, cell: Cell, peer: Peer, tree: Path, runs: Runs) -> str:
        """One run, into an empty place; how it went is added to `runs` and told."""
        copy = self._folder / "copy"
        near, far = self._ports[cell.rtt_ms]
        source = Place(tree, near if cell.way in ("down", "relay") else 0)
        target = Place(copy, {"up": near, "relay": far}.get(cell.way, 0))
        try:
            started = time.perf_counter()
            peer.move(source, target)
            took_s = time.perf_counter() - started
            _check_copy(tree, copy)
        except (RunFailed, OSError) as error:
            runs.errors.append(str(error))
            return f"failed: {error}"
        finally:
            shutil.rmtree(copy, ignore_errors=True)
        runs.seconds.append(took_s)
        return f"{took_s:.2f} s"


def _check_copy(tree: Path, copy: Path) -> None:
    """Every file must be there with its content and its time, and nothing else. Raises RunFailed."""
    found = run(
        "rsync",
        "-rltn",
        "--omit-dir-times",
        "--checksum",
        "--delete",
        "--itemize-changes",
        f"{tree}/",
        f"{copy}/",
    )
    if lines := found.splitlines():
        raise RunFailed(f"the copy differs from its source in {len(lines):,} entries, first {lines[0]}")


def proxy_rates() -> tuple[float, float]:
    """MiB a second of one connection over the loopback, and of one through the delay proxy."""
    with _sink() as port:
        direct = _rate(port)
    with _sink() as port, DelayLink(port, rtt_ms=FAR_MS) as link:
        return direct, _rate(link.port)


@contextmanager
def _sink() -> Iterator[int]:
    """A server that takes what one client sends, and says so at the end."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def take() -> None:
            with listener.accept()[0] as connection:
                while connection.recv_into(piece):
                    pass
                connection.sendall(b".")

        piece = bytearray(MIB)
        thread = threading.Thread(target=take, daemon=True)
        thread.start()
        yield int(listener.getsockname()[1])
        thread.join()


def _rate(port: int) -> float:
    piece = bytes(MIB)
    started = time.perf_counter()
    with socket.create_connection(("127.0.0.1", port)) as connection:
        for _ in range(_PROXY_MIB):
            connection.sendall(piece)
        connection.shutdown(socket.SHUT_WR)
        connection.recv(1)
    return _PROXY_MIB / (time.perf_counter() - started)
