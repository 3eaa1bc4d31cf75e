"""What every storage is: entries, capabilities, addresses."""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

Path = bytes
"""Relative to the storage's root, components joined by `/`; `b""` is the root itself."""


class Kind(StrEnum):
    """What an entry is."""

    FILE = "file"
    FOLDER = "folder"
    LINK = "link"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Entry:
    """One name in a tree. Sizes in bytes, `mtime` in whole seconds since 1970 (may be negative), `mode` the low 12 bits."""

    path: Path
    kind: Kind
    size: int = 0
    mtime: int = 0
    mode: int = 0
    target: bytes | None = None
    """Of a link: what it holds, as it is."""


@dataclass(frozen=True, slots=True)
class HostKey:
    """A server's public key: `algorithm` as in `ssh-ed25519`, `fingerprint` as in `SHA256:…`."""

    algorithm: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class HostKeyPolicy:
    """Which host key is taken. `demanded` comes from the request, `pinned` from an earlier connection; both are
    fingerprints. With neither, an unknown key is taken unless `is_strict`."""

    demanded: str | None = None
    pinned: str | None = None
    is_strict: bool = False


@dataclass(frozen=True, slots=True)
class Address:
    """Where a storage is and who we are there; hashable, so it can key a pool of connections."""

    protocol: str
    host: str = ""
    port: int = 0
    username: str = ""
    password: str = field(default="", repr=False)
    ssh_key: str = field(default="", repr=False)
    passphrase: str = field(default="", repr=False)
    host_keys: HostKeyPolicy = HostKeyPolicy()
    local_roots: tuple[str, ...] = ()
    """Of `local`: folders it may reach."""
    forbidden: tuple[str, ...] = ()
    """Of `local`: folders it never reaches, as the data directory."""


Guard = Callable[[], bool]
"""Asked before anything is sent: False means that the lease is over and nothing more may leave."""
