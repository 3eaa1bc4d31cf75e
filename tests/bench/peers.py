"""Who moves the trees, and how: the product over HTTP, the others by their commands."""

import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncssh

from tests.product import Product
from tests.servers.openssh import OpenSshServer

RUN_S = 600
"""After so long a run has failed."""
PRODUCT = "haulier"
RCLONE = str(Path(sys.executable).with_name("rclone"))
"""The one of requirements-dev.txt: Debian's is years older."""
RCLONE_TUNED = ("--transfers=16", "--checkers=32", "--sftp-chunk-size=255k", "--sftp-disable-hashcheck")


class RunFailed(Exception):
    """A run ended without a copy; the text says why."""


@dataclass(frozen=True)
class Place:
    """A folder of this machine, or one behind `port` of an SSH server."""

    path: Path
    port: int = 0


class Access:
    """How one signs in at the servers: a key, and the host keys of each port that leads to one."""

    def __init__(self, folder: Path, servers: Sequence[OpenSshServer]) -> None:
        self.username = servers[0].username
        self._folder = folder
        self._known: dict[int, str] = {}
        self._keys: dict[int, tuple[str, Path]] = {}
        self.known_hosts = folder / "known_hosts"
        for number, server in enumerate(servers):
            key = folder / f"key {number}"
            key.touch(mode=0o600)
            key.write_text(server.private_key)
            self._keys[server.port] = (server.private_key, key)
            self.add(server, server.port)

    def add(self, server: OpenSshServer, port: int) -> None:
        """One more port leads to a server."""
        host_key = asyncssh.read_private_key(server.folder / "host_ssh-ed25519")
        self._known[port] = f"[{server.host}]:{port} {host_key.export_public_key().decode().strip()}\n"
        self._keys[port] = self._keys[server.port]
        self.known_hosts.write_text("".join(self._known.values()))

    def key(self, port: int) -> str:
        """The text of the key that signs in there."""
        return self._keys[port][0]

    def key_file(self, port: int) -> Path:
        """The same, as a file."""
        return self._keys[port][1]


class Peer(ABC):
    """A tool that copies trees."""

    name: str
    program = ""
    """What has to be installed."""

    def reason_against(self, way: str) -> str:
        """Why it does not go this way; empty when it does."""
        return ""

    @abstractmethod
    def move(self, source: Place, target: Place) -> None:
        """Copy what `source` holds to `target`, which is not there. Raises RunFailed."""


class Haulier(Peer):
    """The product: a whole job, with all its bookkeeping, followed until it is complete."""

    name = PRODUCT

    def __init__(self, product: Product, access: Access) -> None:
        self._product = product
        self._access = access

    def move(self, source: Place, target: Place) -> None:
        request = {"source_config": self._side(source), "dest_config": self._side(target)}
        with self._product.read_sse("/api/transfer/stream", "POST", request, timeout_s=RUN_S) as stream:
            if stream.status != 200:
                raise RunFailed(f"the job was refused with {stream.status}")
            for frame in stream:
                if frame.event == "error":
                    raise RunFailed(f"the job failed: {frame.data}")
                if frame.event == "complete":
                    return
        raise RunFailed("the stream ended early")

    def _side(self, place: Place) -> dict[str, Any]:
        if not place.port:
            return {"protocol": "local", "root_path": str(place.path)}
        return {
            "protocol": "sftp",
            "host": OpenSshServer.host,
            "port": place.port,
            "username": self._access.username,
            "ssh_key": self._access.key(place.port),
            "root_path": str(place.path),
        }


class Rsync(Peer):
    """`rsync -a`, over ssh where one side is a server."""

    name = "rsync -a"
    program = "rsync"

    def __init__(self, access: Access) -> None:
        self._access = access

    def reason_against(self, way: str) -> str:
        return "it does not copy from server to server" if way == "relay" else ""

    def move(self, source: Place, target: Place) -> None:
        port = source.port or target.port
        shell = (
            f"ssh -F none -p {port} -i '{self._access.key_file(port)}' -o IdentitiesOnly=yes "
            f"-o UserKnownHostsFile='{self._access.known_hosts}'"
            if port
            else "false"
        )
        run("rsync", "-a", "-e", shell, f"{self._named(source)}/", f"{self._named(target)}/")

    def _named(self, place: Place) -> str:
        return f"{self._access.username}@{OpenSshServer.host}:{place.path}" if place.port else str(place.path)


class Rclone(Peer):
    """`rclone copy`, as it comes or with options."""

    program = "rclone"

    def __init__(self, access: Access, name: str, options: Sequence[str] = ()) -> None:
        self.name = name
        self._access = access
        self._options = options
        self._config = access.known_hosts.with_name(f"{name}.conf")

    def move(self, source: Place, target: Place) -> None:
        for port in {source.port, target.port} - {0}:
            self._know(port)
        sides = [f"{f'port{place.port}:' if place.port else ''}{place.path}" for place in (source, target)]
        run(RCLONE, "--config", str(self._config), "copy", *self._options, *sides)

    def _know(self, port: int) -> None:
        section = f"[port{port}]\n"
        written = self._config.read_text() if self._config.exists() else ""
        # What it finds out about a server it keeps in there.
        if section not in written:
            self._config.write_text(
                f"{written}\n{section}type = sftp\nhost = {OpenSshServer.host}\nport = {port}\n"
                f"user = {self._access.username}\nkey_file = {self._access.key_file(port)}\n"
                f"known_hosts_file = {self._access.known_hosts}\n"
            )


class Cp(Peer):
    """`cp -a`."""

    name = "cp -a"
    program = "cp"

    def reason_against(self, way: str) -> str:
        return "" if way == "local" else "it copies on one machine only"

    def move(self, source: Place, target: Place) -> None:
        run("cp", "-a", str(source.path), str(target.path))


def run(*command: str) -> str:
    """What a command printed. Raises RunFailed."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=RUN_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise RunFailed(f"{Path(command[0]).name} was not done after {RUN_S} s") from None
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["and said nothing"]
        raise RunFailed(f"{Path(command[0]).name} ended with {done.returncode}: {lines[-1]}")
    return done.stdout


def peers_of(names: Sequence[str], product: Product, access: Access) -> list[Peer]:
    """The product, and those that were asked for by program."""
    found: dict[str, list[Peer]] = {
        "rsync": [Rsync(access)],
        "rclone": [Rclone(access, "rclone"), Rclone(access, "rclone tuned", RCLONE_TUNED)],
        "cp": [Cp()],
    }
    return [
        Haulier(product, access),
        *(peer for name, some in found.items() if name in names for peer in some),
    ]
