"""What a content management system is to a scan: paths that give it away, and files that say more."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

LONGEST_VALUE = 200


@dataclass(frozen=True, slots=True)
class Database:
    """What a configuration file says of the database, but for its password."""

    name: str
    username: str = ""
    host: str = ""
    port: int = 0
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class System:
    """A content management system. Paths are relative to its folder; files are read in the order given here."""

    type: str
    name: str
    signs: tuple[tuple[bytes, ...], ...]
    """All paths of any one of these prove it."""
    hints: tuple[bytes, ...] = ()
    """Paths that make it the more likely."""
    versions: Mapping[bytes, Callable[[bytes], str]] = field(default_factory=dict)
    """Files that tell the version, each with what reads it; empty text where it does not say."""
    configs: Mapping[bytes, Callable[[bytes], Database | None]] = field(default_factory=dict)
    """Configuration files, each with what reads its database; None where it names none as plain text."""
    disposables: Mapping[str, str] = field(default_factory=dict)
    """Folders that a move may leave behind, each with why; of one that ends in `/?*` only what is in it."""
    deepest: int = 8
    """How far below the root of the tree it is looked for."""
    rivals: tuple[str, ...] = ()
    """Types of files that a tree of this kind does not hold."""

    @property
    def paths(self) -> set[bytes]:
        """All paths that matter."""
        return {path for sign in self.signs for path in sign} | {*self.hints, *self.versions, *self.configs}


@dataclass(frozen=True, slots=True)
class Cms:
    """A content management system that was recognised. Paths are relative to the root of the tree."""

    type: str
    version: str
    root: bytes
    config_file: bytes | None
    database: Database | None
    confidence: float
    """From 0 to 1."""
    indicators: list[str]


def database_of(values: Mapping[str, object], names: Mapping[str, str]) -> Database | None:
    """The database among settings, given what the system calls each; None where it has no name.

    >>> names = {"name": "db", "username": "user", "host": "host"}
    >>> database_of({"db": "shop", "host": "sql.example.org:3307"}, names)
    Database(name='shop', username='', host='sql.example.org', port=3307, prefix='')
    """
    found = {field: _plain(values.get(name)) for field, name in names.items()}
    if not found.get("name"):
        return None
    host, port = _host_and_port(found.get("host", ""))
    given = found.get("port", "")
    return Database(
        name=found["name"],
        username=found.get("username", ""),
        host=host,
        port=int(given) if given.isascii() and given.isdigit() and len(given) < 6 else port,
        prefix=found.get("prefix", ""),
    )


def _plain(value: object) -> str:
    return str(value)[:LONGEST_VALUE] if isinstance(value, str | int) else ""


def _host_and_port(text: str) -> tuple[str, int]:
    """`host`, `host:port`, `[::1]:port`; what follows another colon is a socket's path and stays with the host."""
    host, separator, port = text.rpartition(":")
    is_port = port.isascii() and port.isdigit() and len(port) < 6
    if separator and is_port and (":" not in host or host.endswith("]")):
        return host, int(port)
    return text, 0
