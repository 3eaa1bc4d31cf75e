"""What a look at a tree may say of the site in it."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Database:
    """What a configuration file says of the database, but for its password."""

    name: str
    username: str = ""
    host: str = ""
    port: int = 0
    prefix: str = ""


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
    indicators: list[str] = field(default_factory=list)
