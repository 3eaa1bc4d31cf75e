"""A private OpenSSH server on loopback."""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import asyncssh

from tests.servers.daemon import Daemon

_SFTP_SERVERS = (
    "/usr/lib/openssh/sftp-server",
    "/usr/libexec/openssh/sftp-server",
    "/usr/libexec/sftp-server",
)


class OpenSshServer(Daemon):
    """A running `sshd`. It lets in everybody of this machine that it can become (only ourselves, unless it runs as
    root) who holds `private_key`.

    `has_shell=False` gives nothing but `internal-sftp`, as many hosts do. `sftp_options` go to `internal-sftp`:
    `-R` serves read-only, `-P posix-rename,…` forbids operations and hides their extensions. `config` are further
    lines of sshd_config, `port` is one that is free, else it takes any. `programs` is a folder whose programs commands
    find before all others.
    """

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
        super().__init__(name="sshd", port=port)

    @property
    def fingerprint(self) -> str:
        """Of the first host key."""
        return self.fingerprints[self._host_key_types[0]]

    def new_host_key(self) -> None:
        """Start again on the same port with other host keys; ends all connections."""
        self._end()
        self._make_host_keys(self._host_key_types)
        self._start()

    def _prepare(self) -> None:
        self._make_user_key("authorized_keys", "openssh")
        self._make_host_keys(self._host_key_types)

    def allow_key(self, public_key: asyncssh.SSHKey) -> None:
        """Let in the holder of one more key."""
        with (self.folder / "authorized_keys").open("ab") as keys:
            keys.write(public_key.export_public_key("openssh"))

    def _lines(self, version: tuple[int, int]) -> list[str]:
        lines = [
            f"ListenAddress {self.host}:{self.port}",
            *(f"HostKey {self._host_key(algorithm)}" for algorithm in self._host_key_types),
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

    def _configure(self) -> tuple[Sequence[str], Mapping[str, str]]:
        program = _program()
        if os.geteuid() == 0:
            # Where a root sshd locks up its unprivileged part; made by the service, which may never have run here.
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        config = self.folder / "sshd_config"
        config.write_text("\n".join(self._lines(_version(program))) + "\n")
        return [program, "-D", "-e", "-f", str(config)], {}


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
