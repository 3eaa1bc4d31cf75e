"""A private OpenSSH server on loopback: own port, host keys, configuration and log, gone after the test."""

import contextlib
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import asyncssh

START_S = 10.0
_ATTEMPTS = 5
_POLL_S = 0.02
_SFTP_SERVERS = (
    "/usr/lib/openssh/sftp-server",
    "/usr/libexec/openssh/sftp-server",
    "/usr/libexec/sftp-server",
)


class OpenSshServer:
    """A running `sshd`. It lets in everybody of this machine that it can become (only ourselves, unless it runs as
    root) who holds `private_key`.

    `has_shell=False` gives nothing but `internal-sftp`, as many hosts do. `sftp_options` go to `internal-sftp`:
    `-R` serves read-only, `-P posix-rename,…` forbids operations and hides their extensions. `config` are further
    lines of sshd_config, `port` is one that is free, else it takes any. `programs` is a folder whose programs commands
    find before all others.
    """

    host = "127.0.0.1"

    def __init__(
        self,
        *,
        has_shell: bool = True,
        host_key_types: Sequence[str] = ("ssh-ed25519",),
        sftp_options: Sequence[str] = (),
        config: Sequence[str] = (),
        port: int = 0,
        most_sessions: int = 1000,
        programs: Path | None = None,
    ) -> None:
        self.username = pwd.getpwuid(os.geteuid()).pw_name
        self.port = port
        self.private_key = ""
        """Text of the key that is let in, in OpenSSH's format."""
        self.fingerprints: dict[str, str] = {}
        """Of the host keys, as in `SHA256:…`, by algorithm."""
        self._has_shell = has_shell
        self._host_key_types = host_key_types
        self._sftp = " ".join(("internal-sftp", *sftp_options))
        self._config = list(config)
        self._most_sessions = most_sessions
        if programs is not None:
            cases = f'internal-sftp*) exec {_sftp_server()};; *) eval "$SSH_ORIGINAL_COMMAND";;'
            self._config.append(
                f'ForceCommand PATH={programs}:$PATH; case "$SSH_ORIGINAL_COMMAND" in {cases} esac'
            )
        self._process: subprocess.Popen[bytes] | None = None
        # Below /tmp, not in a folder of pytest's: another user must be able to reach the authorized keys.
        self.folder = Path(tempfile.mkdtemp(prefix="haulier-sshd-"))
        """Ours, and readable by all."""
        self.folder.chmod(0o755)
        self._log = self.folder / "log"
        try:
            self._make_user_key()
            self._make_host_keys()
            self._start()
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def fingerprint(self) -> str:
        """Of the first host key."""
        return self.fingerprints[self._host_key_types[0]]

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
        """What sshd said so far."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    @property
    def session_pids(self) -> list[int]:
        """Processes that serve a connection now."""
        return _descendants(self._process.pid) if self._process is not None else []

    def drop_sessions(self) -> None:
        """Kill what serves the connections; new ones are still taken."""
        for pid in self.session_pids:
            _kill(pid)

    def new_host_key(self) -> None:
        """Start again on the same port with other host keys; ends all connections."""
        self._end()
        self._make_host_keys()
        self._start()

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

    def _make_user_key(self) -> None:
        key = asyncssh.generate_private_key("ssh-ed25519")
        self.private_key = key.export_private_key("openssh").decode()
        keys = self.folder / "authorized_keys"
        keys.write_bytes(key.export_public_key("openssh"))
        keys.chmod(0o644)

    def allow_key(self, public_key: asyncssh.SSHKey) -> None:
        """Let in the holder of one more key."""
        with (self.folder / "authorized_keys").open("ab") as keys:
            keys.write(public_key.export_public_key("openssh"))

    def _make_host_keys(self) -> None:
        self.fingerprints = {}
        for algorithm in self._host_key_types:
            key = asyncssh.generate_private_key(algorithm)
            path = self.folder / f"host_{algorithm}"
            path.touch(mode=0o600)
            path.write_bytes(key.export_private_key("openssh"))
            self.fingerprints[algorithm] = key.get_fingerprint("sha256")

    def _lines(self, version: tuple[int, int]) -> list[str]:
        lines = [
            f"ListenAddress {self.host}:{self.port}",
            *(f"HostKey {self.folder / f'host_{algorithm}'}" for algorithm in self._host_key_types),
            f"AuthorizedKeysFile {self.folder / 'authorized_keys'}",
            "PidFile none",
            "LogLevel VERBOSE",
            "StrictModes no",
            "UsePAM no",
            "UseDNS no",
            "PermitRootLogin yes",
            "PubkeyAuthentication yes",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "MaxStartups 1000",
            f"MaxSessions {self._most_sessions}",
            "MaxAuthTries 20",
            "PrintMotd no",
            # At the first level bash would read the .bashrc of whoever runs the tests, which may do anything: pyenv's
            # takes a lock, and keeps it for ever when a test kills the connection meanwhile.
            "SetEnv SHLVL=1",
            f"Subsystem sftp {self._sftp}",
            *self._config,
        ]
        if version >= (9, 8):
            # Else refusals, which tests are about, would soon shut loopback out.
            lines.append("PerSourcePenalties no")
        if not self._has_shell:
            lines += ["DisableForwarding yes", f"ForceCommand {self._sftp}"]
        return lines

    def _start(self) -> None:
        program = _program()
        version = _version(program)
        if os.geteuid() == 0:
            # Where a root sshd locks up its unprivileged part; made by the service, which may never have run here.
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        for _ in range(_ATTEMPTS):
            port_before = self.port
            self.port = self.port or _free_port()
            config = self.folder / "sshd_config"
            config.write_text("\n".join(self._lines(version)) + "\n")
            with self._log.open("ab") as log:
                self._process = subprocess.Popen(
                    [program, "-D", "-e", "-f", str(config)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
            if self._wait_until_ready(self._process):
                return
            self._end()
            # Somebody else took the port in between.
            self.port = port_before
        raise RuntimeError(f"{program} does not start:\n{self.log}")

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


class LoggingServer(OpenSshServer):
    """One that tells what it was asked for: `sftp-server -l INFO`, as `internal-sftp` would tell the system's log."""

    def __init__(self, *, has_shell: bool = False) -> None:
        self._operations = Path(tempfile.mkdtemp(prefix="haulier-operations-"))
        program = _sftp_server()
        # Named after the client's port, the second word of SSH_CONNECTION.
        serve = f"set -- $SSH_CONNECTION; exec {program} -e -l INFO 2>>{self._operations}/$2"
        if has_shell:
            # A forced command takes the place of all others, so it lets them through.
            serve = f'case "$SSH_ORIGINAL_COMMAND" in internal-sftp*) {serve};; *) eval "$SSH_ORIGINAL_COMMAND";; esac'
        super().__init__(has_shell=has_shell, config=[f"ForceCommand {serve}"])

    def operations(self) -> dict[int, str]:
        """What it was asked for so far, a line each, by the client's port."""
        return {int(log.name): log.read_text() for log in sorted(self._operations.iterdir())}

    def stop(self) -> None:
        super().stop()
        shutil.rmtree(self._operations, ignore_errors=True)


def _sftp_server() -> str:
    return next(path for path in _SFTP_SERVERS if Path(path).exists())


def _program() -> str:
    found = shutil.which("sshd") or "/usr/sbin/sshd"
    if not os.access(found, os.X_OK):
        raise RuntimeError(
            "These tests need OpenSSH's sshd: /usr/sbin/sshd, or on the PATH (openssh-server)."
        )
    return found


def _version(program: str) -> tuple[int, int]:
    # Before 9.2 `-V` was an error, whose text held the version all the same.
    said = subprocess.run([program, "-V"], capture_output=True, text=True, check=False)
    match = re.search(r"OpenSSH_(\d+)\.(\d+)", said.stdout + said.stderr)
    return (int(match[1]), int(match[2])) if match else (0, 0)


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
