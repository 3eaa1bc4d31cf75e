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
from itertools import dropwhile
from pathlib import Path

from tests.bench.cells import FAR_MS, MIB, Cell, census, make_tree
from tests.bench.memory import MemoryWatch
from tests.bench.peers import Access, Haulier, Peer, Place, RunFailed, peers_of, run
from tests.product import Product
from tests.servers.delay_link import DelayLink
from tests.servers.openssh import OpenSshServer
from tests.trees import small_tree

_PROXY_MIB = 512
_ETA_FROM_S = 3.0


@dataclass
class Runs:
    """The runs of one tool in one cell."""

    peer: str
    reason: str = ""
    """Why there are none."""
    seconds: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    peaks: dict[str, float] = field(default_factory=dict)
    """Of the product, over all runs: the most MiB that a process of a kind had."""
    eta_errors: list[float] = field(default_factory=list)
    """Of the product, of each run that took long enough: see `eta_error`."""

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
        plain = [stack.enter_context(OpenSshServer(has_shell=False)) for _ in range(2)]
        access = Access(folder, [*servers, *plain])
        ports = {0: [server.port for server in servers]}
        plain_ports = {server.port: other.port for server, other in zip(servers, plain, strict=True)}
        if any(cell.rtt_ms for cell in cells):
            found.loopback, found.proxied = proxy_rates()
            say(f"the loopback passes {found.loopback:,.0f} MiB/s, the delay proxy {found.proxied:,.0f}")
            far = {
                server: stack.enter_context(DelayLink(server.port, rtt_ms=FAR_MS)).port
                for server in (*servers, *plain)
            }
            for server, port in far.items():
                access.add(server, port)
            ports[FAR_MS] = [far[server] for server in servers]
            plain_ports |= {far[server]: far[other] for server, other in zip(servers, plain, strict=True)}
        peers = peers_of(options.peer, access, plain_ports)
        bench = _Bench(folder, ports, peers, options)
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
        self._warm = small_tree(folder / "warm")
        self._product: Product

    def measure(self, cell: Cell) -> Measured:
        """All runs of a cell, by processes of the product that have done nothing before."""
        tree = make_tree(self._folder / "trees", cell, self._options)
        found = [Runs(peer.name, peer.reason_against(cell)) for peer in self._peers]
        at_work = [(peer, runs) for peer, runs in zip(self._peers, found, strict=True) if not runs.reason]
        # A lease as in earnest: that of the tests is short, so that they see how it ends.
        with Product(self._folder / "product", HAULIER_LEASE_S="60") as self._product:
            self._product.start(workers=self._options.workers)
            for peer, _ in at_work:
                if isinstance(peer, Haulier):
                    peer.product = self._product
                # Nobody's first connection or first job counts. What fails here will fail again, and be told then.
                self._run(Cell(cell.way, "warm", cell.rtt_ms), peer, self._warm, Runs(peer.name))
            if cell.is_again:
                self._fill(cell, at_work, tree)
            for number in range(1, self._options.runs + 1):
                for peer, runs in at_work:
                    told = self._run(cell, peer, tree, runs)
                    say(f"{cell.name}, run {number} of {self._options.runs}: {peer.name} {told}")
        for folder in ("product", "copies"):
            shutil.rmtree(self._folder / folder, ignore_errors=True)
        return Measured(cell, *census(tree), found)

    def _fill(self, cell: Cell, at_work: list[tuple[Peer, Runs]], tree: Path) -> None:
        """Have every tool make its copy before the clock starts, over the short way."""
        for peer, runs in at_work:
            try:
                peer.run(cell, *self._places(Cell(cell.way, "small", 0), peer, tree))
            except RunFailed as error:
                runs.errors.append(f"the first run failed: {error}")

    def _places(self, cell: Cell, peer: Peer, tree: Path) -> tuple[Place, Place]:
        copy = self._folder / "copies" / peer.name
        copy.parent.mkdir(exist_ok=True)
        near, far = self._ports[cell.rtt_ms]
        source = Place(tree, near if cell.way in ("down", "relay", "scan") else 0)
        return source, Place(copy, {"up": near, "relay": far}.get(cell.way, 0))

    def _run(self, cell: Cell, peer: Peer, tree: Path, runs: Runs) -> str:
        """One run, into an empty place or onto its own copy; how it went is added to `runs` and told."""
        source, target = self._places(cell, peer, tree)
        try:
            with MemoryWatch(self._product) as memory:
                started = time.perf_counter()
                done = peer.run(cell, source, target)
                took_s = time.perf_counter() - started
            if not cell.is_scan:
                _check_copy(tree, target.path)
            elif done.listed is not None and done.listed != (files := census(tree)[0]):
                raise RunFailed(f"it has found {done.listed:,} of {files:,} files")
        except (RunFailed, OSError) as error:
            runs.errors.append(str(error))
            return f"failed: {error}"
        finally:
            if not cell.is_again:
                shutil.rmtree(target.path, ignore_errors=True)
        runs.seconds.append(took_s)
        if not isinstance(peer, Haulier):
            return f"{took_s:.2f} s"
        runs.peaks = {kind: max(mib, runs.peaks.get(kind, 0.0)) for kind, mib in memory.peaks.items()}
        error_now = eta_error(done.etas, took_s)
        if error_now is None:
            return f"{took_s:.2f} s"
        runs.eta_errors.append(error_now)
        return f"{took_s:.2f} s, its ETA off by up to {error_now:.0%}"


def eta_error(etas: Sequence[tuple[float, float]], took_s: float) -> float | None:
    """By how much of the whole time the time that was said to be left was wrong at most, between a fifth and nine
    tenths of it; None where the run was too short for that to mean anything.

    `etas`: seconds since the start, and how many were said to be left then; 0 before the first other one says nothing.
    """
    if took_s < _ETA_FROM_S:
        return None
    told = dropwhile(lambda one: not one[1], etas)
    wrong = [abs(at_s + eta_s - took_s) for at_s, eta_s in told if 0.2 <= at_s / took_s <= 0.9]
    return max(wrong) / took_s if wrong else None


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
