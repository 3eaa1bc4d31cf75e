"""A private server on loopback: own port, keys, configuration and log, gone after the test."""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import asyncssh

START_S = 10.0
_ATTEMPTS = 5
_POLL_S = 0.02


class Daemon(ABC):
    """A running server that speaks SSH, and lets in whoever holds `private_key`."""

    host = "127.0.0.1"

    def __init__(self, *, name: str, port: int = 0) -> None:
        self.username = pwd.getpwuid(os.geteuid()).pw_name
        self.port = port
        """One that is free, else it takes any."""
        self.private_key = ""
        """Text of the key that is let in, in OpenSSH's format."""
        self.fingerprints: dict[str, str] = {}
        """Of the host keys, as in `SHA256:…`, by algorithm."""
        self._process: subprocess.Popen[bytes] | None = None
        # Below /tmp, not in a folder of pytest's: another user must be able to reach the authorized keys.
        self.folder = Path(tempfile.mkdtemp(prefix=f"haulier-{name}-"))
        """Ours, and readable by all."""
        self.folder.chmod(0o755)
        self._log = self.folder / "log"
        try:
            self._prepare()
            self._start()
        except BaseException:
            self.stop()
            raise

    @abstractmethod
    def _prepare(self) -> None:
        """Make what it needs before it starts, its keys first of all."""

    @abstractmethod
    def _configure(self) -> tuple[Sequence[str], Mapping[str, str]]:
        """Write its configuration, for `port`. Gives the command, which must stay in the foreground, and what its
        environment has beside ours."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def conn(self, root: Path) -> dict[str, Any]:
        """The Conn object of the HTTP contract, of a folder there."""
        return {
            "protocol": "sftp",
            "host": self.host,
            "port": self.port,
            "username": self.username,
            "ssh_key": self.private_key,
            "root_path": str(root),
        }

    @property
    def log(self) -> str:
        """What it said so far."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    @property
    def session_pids(self) -> list[int]:
        """Processes that serve a connection now."""
        return _descendants(self._process.pid) if self._process is not None else []

    def drop_sessions(self) -> None:
        """Kill what serves the connections; new ones are still taken."""
        for pid in self.session_pids:
            _kill(pid)

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """Nobody listens on the port; then the server is back with the same keys."""
        self._end()
        try:
            yield
        finally:
            self._start()

    def stop(self) -> None:
        """End the server and its sessions, and remove its folder; harmless when repeated."""
        self._end()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _end(self) -> None:
        if self._process is None:
            return
        sessions = self.session_pids
        self._process.kill()
        self._process.wait()
        for pid in sessions:
            _kill(pid)
        self._process = None

    def _make_user_key(self, name: str, form: str) -> None:
        key = asyncssh.generate_private_key("ssh-ed25519")
        self.private_key = key.export_private_key("openssh").decode()
        keys = self.folder / name
        keys.write_bytes(key.export_public_key(form))
        keys.chmod(0o644)

    def _make_host_keys(self, algorithms: Sequence[str]) -> None:
        self.fingerprints = {}
        for algorithm in algorithms:
            key = asyncssh.generate_private_key(algorithm)
            path = self._host_key(algorithm)
            path.touch(mode=0o600)
            path.write_bytes(key.export_private_key("openssh"))
            self.fingerprints[algorithm] = key.get_fingerprint("sha256")

    def _host_key(self, algorithm: str) -> Path:
        return self.folder / f"host_{algorithm}"

    def _start(self) -> None:
        for _ in range(_ATTEMPTS):
            port_before = self.port
            self.port = self.port or _free_port()
            command, environment = self._configure()
            with self._log.open("ab") as log:
                self._process = subprocess.Popen(
                    command,
                    env={**os.environ, **environment},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
            if self._wait_until_ready(self._process):
                return
            self._end()
            # Somebody else took the port in between.
            self.port = port_before
        raise RuntimeError(f"{command[0]} does not start:\n{self.log}")

    def _wait_until_ready(self, process: "subprocess.Popen[bytes]") -> bool:
        deadline = time.monotonic() + START_S
        while process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection((self.host, self.port), 1) as found:
                found.settimeout(START_S)
                # Another program that took the port would be no child of ours that still runs.
                if found.recv(8).startswith(b"SSH-2.0-") and process.poll() is None:
                    return True
            time.sleep(_POLL_S)
        return False


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _descendants(pid: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # The name in parentheses may hold anything.
            fields = status.read_text(errors="replace").rpartition(")")[2].split()
            if fields[0] != "Z":
                children.setdefault(int(fields[1]), []).append(int(status.parent.name))
    found: list[int] = []
    waiting = [pid]
    while waiting:
        inner = children.get(waiting.pop(), [])
        found += inner
        waiting += inner
    return found


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)
