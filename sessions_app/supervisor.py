"""One process that starts web and workers, restarts what dies, and ends them together."""

import http.client
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FrameType

logger = logging.getLogger(__name__)

LOOK_S = 0.1
HEALTHY_S = 10.0
LONGEST_BACK_OFF_S = 5.0
DRAIN_S = 12.0
STANDSTILL_LOOK_S = 0.5
STANDSTILL_S = 2.0
"""For so long a child may stand still where nobody else can go on."""


@dataclass
class Child:
    """A process to be kept running."""

    name: str
    command: list[str]
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    failures: int = 0
    start_at: float = field(default_factory=time.monotonic)
    blocks_since: float | None = None
    """Since when it has been seen to stand still where nobody else can go on."""

    def start(self) -> None:
        """Start it with a pipe as standard input, which closes when this process ends, however it ends."""
        # A process group of its own: Ctrl-C in the terminal reaches the supervisor alone.
        self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, process_group=0)
        self.started_at = time.monotonic()

    def has_died(self) -> bool:
        """Whether it ran and ended; sets when it may start again."""
        if self.process is None or self.process.poll() is None:
            return False
        now = time.monotonic()
        self.failures = 0 if now - self.started_at > HEALTHY_S else self.failures + 1
        back_off = 0.0 if self.failures <= 1 else min(LONGEST_BACK_OFF_S, 0.25 * 2 ** (self.failures - 1))
        logger.warning(
            "%s (pid %s) ended with %s; back in %.1f s",
            self.name,
            self.process.pid,
            self.process.returncode,
            back_off,
        )
        self.start_at = now + back_off
        self.process = None
        return True

    def end(self) -> None:
        """Tell it to drain."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            if self.process.stdin is not None:
                self.process.stdin.close()

    def kill(self) -> None:
        """End it now."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()


class Supervisor:
    """Keeps the children running until SIGTERM or SIGINT."""

    def __init__(
        self, children: list[Child], *, on_death: Callable[[], None], is_blocking_all: Callable[[int], bool]
    ) -> None:
        self.children = children
        self._on_death = on_death
        self._is_blocking_all = is_blocking_all
        self._standstill_due = 0.0
        self._is_ending = False

    def run(self, *, is_ready: Callable[[], bool], on_ready: Callable[[], None]) -> None:
        """Start all, call `on_ready` once when `is_ready`, and return when all have ended."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        ready = False
        while not self._is_ending:
            self._look_after()
            if not ready and is_ready():
                ready = True
                on_ready()
            time.sleep(LOOK_S)
        self._end()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._is_ending = True

    def _look_after(self) -> None:
        died = [child for child in self.children if child.has_died()]
        for child in self.children:
            if child.process is None and time.monotonic() >= child.start_at:
                child.start()
        if died:
            self._on_death()
        if time.monotonic() >= self._standstill_due:
            self._standstill_due = time.monotonic() + STANDSTILL_LOOK_S
            self._end_standstill()

    def _end_standstill(self) -> None:
        """Kill who stands still where nobody else can go on; its work goes on elsewhere."""
        now = time.monotonic()
        for child in self.children:
            if child.process is None or not self._is_blocking_all(child.process.pid):
                child.blocks_since = None
            elif child.blocks_since is None:
                child.blocks_since = now
            elif now - child.blocks_since >= STANDSTILL_S:
                child.blocks_since = None
                logger.warning("%s (pid %s) stood still inside a transaction.", child.name, child.process.pid)
                child.kill()

    def _end(self) -> None:
        for child in self.children:
            child.end()
        deadline = time.monotonic() + DRAIN_S
        while time.monotonic() < deadline and any(self._is_running(child) for child in self.children):
            time.sleep(0.05)
        for child in self.children:
            child.kill()

    @staticmethod
    def _is_running(child: Child) -> bool:
        return child.process is not None and child.process.poll() is None


def manage(*arguments: str) -> list[str]:
    """The command line of a management command in a process of its own."""
    return [sys.executable, os.path.abspath(sys.argv[0]), *arguments]


def wait_for_port(host: str, port: int, *, patience_s: float) -> bool:
    """Wait until nobody listens on a port; False when somebody still does after `patience_s`."""
    deadline = time.monotonic() + patience_s
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    while True:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host.strip("[]"), port))
                return True
            except OSError:
                if time.monotonic() > deadline:
                    return False
        time.sleep(0.1)


def is_answering(host: str, port: int) -> bool:
    """Whether the web process answers `/health`."""
    link = http.client.HTTPConnection(host.strip("[]"), port, timeout=1)
    try:
        link.request("GET", "/health", headers={"Host": "localhost"})
        return link.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        link.close()
