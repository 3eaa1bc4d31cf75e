"""Who moves the trees, and how: the product over HTTP, the others by their commands."""

import shlex
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncssh

from tests.bench.cells import Cell
from tests.product import Product
from tests.servers.openssh import OpenSshServer

RUN_S = 3600
"""After so long a run has failed."""
PRODUCT = "haulier"
PLAIN = "haulier, SFTP only"
RCLONE = str(Path(sys.executable).with_name("rclone"))
"""The one of requirements-dev.txt: Debian's is years older."""
RCLONE_TUNED = (
    *("--transfers", "16", "--checkers", "32"),
    *("--sftp-concurrency", "64", "--sftp-disable-hashcheck"),
)
_SLOW_TREES = ("many", "most")


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
            key = folder / f"key-{number}"
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

    def ssh(self, port: int) -> list[str]:
        """An ssh that needs nothing else, up to the host's name."""
        return [
            *("ssh", "-a", "-x", "-F", "none", "-p", str(port), "-i", str(self.key_file(port))),
            *("-o", "IdentitiesOnly=yes", "-o", f"UserKnownHostsFile={self.known_hosts}"),
        ]

    def command(self, place: Place, *words: str) -> str:
        """For a shell here: a command on the machine of a place."""
        text = shlex.join(words)
        if not place.port:
            return text
        return shlex.join([*self.ssh(place.port), f"{self.username}@{OpenSshServer.host}", text])


@dataclass
class Run:
    """What a run tells besides its seconds."""

    etas: list[tuple[float, float]] = field(default_factory=list)
    """Of the product, while it copied: seconds since it was asked, and how many it then said are left."""
    listed: int | None = None
    """How many files a scan of the product has found."""


class Peer(ABC):
    """A tool that copies or lists trees."""

    name: str
    program = ""
    """What has to be installed."""

    @abstractmethod
    def reason_against(self, cell: Cell) -> str:
        """Why it does not do that; empty when it does."""

    @abstractmethod
    def run(self, cell: Cell, source: Place, target: Place) -> Run:
        """Copy what `source` holds to `target`, or only list it. Raises RunFailed."""


class Haulier(Peer):
    """The product: a whole job, with all its bookkeeping, followed until it is complete."""

    name = PRODUCT
    product: Product
    """The one that is up."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def reason_against(self, cell: Cell) -> str:
        return ""

    def run(self, cell: Cell, source: Place, target: Place) -> Run:
        if cell.is_scan:
            return self._follow("/api/scan/stream", {"server_config": self._side(source)})
        request = {"source_config": self._side(source), "dest_config": self._side(target)}
        request["checksum"] = cell.is_by_content
        return self._follow("/api/transfer/stream", request)

    def _follow(self, path: str, request: dict[str, Any]) -> Run:
        run = Run()
        started = time.perf_counter()
        with self.product.read_sse(path, "POST", request, timeout_s=RUN_S) as stream:
            if stream.status != 200:
                raise RunFailed(f"the job was refused with {stream.status}")
            for frame in stream:
                if frame.event == "error":
                    raise RunFailed(f"the job failed: {frame.data}")
                if frame.event == "complete":
                    if "statistics" in frame.data:
                        run.listed = frame.data["statistics"]["total_files"]
                    return run
                if not frame.event and frame.data["status"] == "transferring":
                    run.etas.append((time.perf_counter() - started, frame.data["eta"]))
        raise RunFailed("the stream ended early")

    def _side(self, place: Place) -> dict[str, Any]:
        if not place.port:
            return {"protocol": "local", "root_path": str(place.path)}
        return {
            "protocol": "sftp",
            "host": OpenSshServer.host,
            "port": self._port(place),
            "username": self._access.username,
            "ssh_key": self._access.key(self._port(place)),
            "root_path": str(place.path),
        }

    def _port(self, place: Place) -> int:
        return place.port


class PlainHaulier(Haulier):
    """The product, where the same trees are behind servers that give no shell, as many hosts do."""

    name = PLAIN

    def __init__(self, access: Access, plain_ports: dict[int, int]) -> None:
        super().__init__(access)
        self._plain_ports = plain_ports

    def reason_against(self, cell: Cell) -> str:
        if cell.tree not in ("small", "again", "sums") or cell.way == "local":
            return "measured with small files and servers"
        return ""

    def _port(self, place: Place) -> int:
        return self._plain_ports[place.port]


class Rsync(Peer):
    """`rsync -a`, over ssh where one side is a server; with `-c` where contents are compared."""

    name = "rsync -a"
    program = "rsync"

    def __init__(self, access: Access) -> None:
        self._access = access

    def reason_against(self, cell: Cell) -> str:
        if cell.is_scan:
            return "find lists"
        return "it does not copy from server to server" if cell.way == "relay" else ""

    def run(self, cell: Cell, source: Place, target: Place) -> Run:
        port = source.port or target.port
        shell = shlex.join(self._access.ssh(port)) if port else "false"
        run(
            "rsync",
            "-ac" if cell.is_by_content else "-a",
            "-e",
            shell,
            f"{self._named(source)}/",
            f"{self._named(target)}/",
        )
        return Run()

    def _named(self, place: Place) -> str:
        return f"{self._access.username}@{OpenSshServer.host}:{place.path}" if place.port else str(place.path)


class Rclone(Peer):
    """`rclone copy`, tuned: as it comes it takes minutes for small files."""

    name = "rclone tuned"
    program = "rclone"

    def __init__(self, access: Access) -> None:
        self._access = access
        self._config = access.known_hosts.with_name("rclone.conf")

    def reason_against(self, cell: Cell) -> str:
        return _too_slow(cell)

    def run(self, cell: Cell, source: Place, target: Place) -> Run:
        for port in {source.port, target.port} - {0}:
            self._know(port)
        sides = [f"{f'port{place.port}:' if place.port else ''}{place.path}" for place in (source, target)]
        run(RCLONE, "--config", str(self._config), "copy", *RCLONE_TUNED, *sides)
        return Run()

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


class Lftp(Peer):
    """`lftp mirror`, 16 files at a time, over SFTP through the system's ssh."""

    name = "lftp mirror -P16"
    program = "lftp"

    def __init__(self, access: Access) -> None:
        self._access = access

    def reason_against(self, cell: Cell) -> str:
        if cell.way in ("relay", "local"):
            return "it copies between this machine and a server"
        return _too_slow(cell)

    def run(self, cell: Cell, source: Place, target: Place) -> Run:
        port = source.port or target.port
        # It adds `-p PORT` and the rest itself.
        ssh = shlex.join(word for word in self._access.ssh(port) if word not in ("-p", str(port)))
        user = self._access.username
        way = "mirror -R" if target.port else "mirror"
        run(
            "lftp",
            "--norc",
            "-c",
            f'set sftp:connect-program "{ssh}"; set cmd:fail-exit yes; set net:max-retries 2; '
            f"open -u {user},unused sftp://{OpenSshServer.host}:{port}; "
            f"{way} --parallel=16 {shlex.quote(f'{source.path}/')} {shlex.quote(f'{target.path}/')}",
        )
        return Run()


class Tar(Peer):
    """`tar | ssh tar`: it compares nothing, and is about the least that a copy can cost."""

    name = "tar | ssh tar"
    program = "tar"

    def __init__(self, access: Access) -> None:
        self._access = access

    def reason_against(self, cell: Cell) -> str:
        if cell.is_scan:
            return "find lists"
        if cell.way == "local":
            return "cp copies"
        return "it looks at nothing that is there" if cell.is_again else ""

    def run(self, cell: Cell, source: Place, target: Place) -> Run:
        path = shlex.quote(str(target.path))
        packing = self._access.command(source, "tar", "-C", str(source.path), "-cf", "-", ".")
        unpacking = self._access.command(target, "sh", "-c", f"mkdir -p {path} && tar -C {path} -xf -")
        run("bash", "-c", f"set -o pipefail; {packing} | {unpacking}")
        return Run()


class Cp(Peer):
    """`cp -a`."""

    name = "cp -a"
    program = "cp"

    def reason_against(self, cell: Cell) -> str:
        return "" if cell.way == "local" else "it copies on one machine only"

    def run(self, cell: Cell, source: Place, target: Place) -> Run:
        run("cp", "-a", str(source.path), str(target.path))
        return Run()


class Find(Peer):
    """`find -ls`, at the server where the tree is there."""

    name = "find -ls"
    program = "find"

    def __init__(self, access: Access) -> None:
        self._access = access

    def reason_against(self, cell: Cell) -> str:
        return "" if cell.is_scan else "it only lists"

    def run(self, cell: Cell, source: Place, target: Place) -> Run:
        command = self._access.command(source, "find", str(source.path), "-ls")
        run("bash", "-c", f"set -o pipefail; {command} | cat > /dev/null")
        return Run()


def _too_slow(cell: Cell) -> str:
    if cell.is_scan:
        return "find lists"
    if cell.is_by_content:
        return "it runs a command for each file, or compares no contents"
    return "it takes very long for so many files" if cell.tree in _SLOW_TREES else ""


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


def peers_of(names: Sequence[str], access: Access, plain_ports: dict[int, int]) -> list[Peer]:
    """The product, and those that were asked for by program."""
    others = [Rsync(access), Rclone(access), Lftp(access), Tar(access), Cp(), Find(access)]
    return [
        Haulier(access),
        PlainHaulier(access, plain_ports),
        *(peer for peer in others if peer.program in names),
    ]
