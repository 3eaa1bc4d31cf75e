"""A private ProFTPD on loopback, whose mod_sftp gives SFTP without OpenSSH and without a shell, as many hosts do."""

import grp
import os
import pwd
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests.product import ROOT
from tests.servers.daemon import Daemon

UNPACKED = ROOT / ".cache/proftpd"
"""Where script/test-data puts it."""
HOST_KEY = "ssh-ed25519"


class ProftpdServer(Daemon):
    """A running `proftpd`. It lets in everybody of this machine that it can become (only ourselves, unless it runs as
    root) who holds `private_key`.

    `jail` is a folder that the account sees as `/`, as hosts have it. `config` are further lines of proftpd.conf.
    """

    def __init__(self, *, jail: Path | None = None, config: Sequence[str] = ()) -> None:
        if not UNPACKED.exists():
            pytest.skip("There is no ProFTPD in .cache: script/test-data fetches it where apt-get is.")
        self._config = [*config, *([f"DefaultRoot {jail}"] if jail is not None else [])]
        self._home = jail
        super().__init__(name="proftpd")

    def _prepare(self) -> None:
        self._make_user_key("authorized_keys", "rfc4716")
        self._make_host_keys([HOST_KEY])
        home = self._home or self.folder
        accounts = pwd.getpwall() if os.geteuid() == 0 else [pwd.getpwuid(os.geteuid())]
        users = [f"{one.pw_name}:*:{one.pw_uid}:{one.pw_gid}::{home}:/bin/sh" for one in accounts]
        self._write("users", "\n".join(users) + "\n")
        groups = {one.pw_gid: f"{one.pw_name}:x:{one.pw_gid}:" for one in reversed(accounts)}
        self._write("groups", "\n".join(groups.values()) + "\n")

    def _configure(self) -> tuple[Sequence[str], Mapping[str, str]]:
        (program,) = UNPACKED.glob("usr/sbin/proftpd")
        libraries = {str(library.parent) for library in UNPACKED.glob("**/lib*.so.*")}
        config = self._write("proftpd.conf", "\n".join(self._lines()) + "\n")
        return [str(program), "-n", "-c", str(config)], {"LD_LIBRARY_PATH": ":".join(sorted(libraries))}

    def _lines(self) -> list[str]:
        return [
            'ServerName "Haulier\'s tests"',
            "ServerType standalone",
            f"DefaultAddress {self.host}",
            f"Port {self.port}",
            "SocketBindTight on",
            "UseIPv6 off",
            "UseReverseDNS off",
            f"ModulePath {UNPACKED / 'usr/lib/proftpd'}",
            "LoadModule mod_sftp.c",
            f"User {self.username}",
            f"Group {grp.getgrgid(os.getegid()).gr_name}",
            f"PidFile {self.folder / 'pid'}",
            f"ScoreboardFile {self.folder / 'scoreboard'}",
            "SystemLog none",
            "WtmpLog off",
            "TransferLog none",
            "DelayEngine off",
            "CapabilitiesEngine off",
            "MaxInstances none",
            "AuthPAM off",
            "AuthOrder mod_auth_file.c",
            f"AuthUserFile {self.folder / 'users'}",
            f"AuthGroupFile {self.folder / 'groups'}",
            "RequireValidShell off",
            "RootLogin on",
            "UseFtpUsers off",
            # As Debian has it.
            "AllowOverwrite on",
            "Umask 022 022",
            "SFTPEngine on",
            f"SFTPLog {self._log}",
            f"SFTPHostKey {self._host_key(HOST_KEY)}",
            "SFTPKeyBlacklist none",
            "SFTPAuthMethods publickey",
            f"SFTPAuthorizedUserKeys file:{self.folder / 'authorized_keys'}",
            *self._config,
        ]

    def _write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text)
        path.chmod(0o600)
        return path
