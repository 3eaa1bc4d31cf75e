"""Recognises WordPress by the names in a tree and reads its version and database name, never its password."""

import re

from migration_app.cms.base import Cms, Database

VERSION_FILE = b"wp-includes/version.php"
CONFIG_FILE = b"wp-config.php"
MOST_READ = 256 * 1024
"""No more is read of a file: version.php and wp-config.php have a few kilobytes."""

_MARKS = (CONFIG_FILE, b"wp-login.php", b"wp-admin/index.php", b"wp-content")
MARKS_TEXT = tuple(mark.decode() for mark in (VERSION_FILE, *_MARKS))
"""Ends of the paths that `find_root` and `describe` want to know of."""

# One pass over PHP: comments go, strings stay, so that a `//` in a string is no comment.
_PHP = re.compile(r"""(?P<string>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")|/\*.*?\*/|(?://|\#)[^\n]*""", re.DOTALL)
_VALUE = r"""(?:'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)")"""
_VERSION = re.compile(rf"\$wp_version\s*=\s*{_VALUE}")
_PREFIX = re.compile(rf"\$table_prefix\s*=\s*{_VALUE}")


def find_root(paths: set[bytes]) -> bytes | None:
    """The folder of the WordPress that lies nearest to the root, given the marked paths of a tree; None if none.

    >>> find_root({b"blog/wp-includes/version.php", b"blog/wp-config.php"})
    b'blog'
    """
    roots = [
        path[: -len(VERSION_FILE)].rstrip(b"/")
        for path in paths
        if path == VERSION_FILE or path.endswith(b"/" + VERSION_FILE)
    ]
    return min(roots, key=lambda root: (root.count(b"/") + bool(root), root), default=None)


def below(root: bytes, name: bytes) -> bytes:
    """The path of a name in the WordPress folder."""
    return root + b"/" + name if root else name


def describe(root: bytes, paths: set[bytes], version_php: bytes, config_php: bytes | None) -> Cms:
    """What the two files say; `config_php` is None where there is none or it cannot be read."""
    seen = [VERSION_FILE, *(mark for mark in _MARKS if below(root, mark) in paths)]
    version = _first(_VERSION, _without_comments(version_php))
    confidence = 0.4 * bool(version) + 0.2 + 0.1 * (len(seen) - 1)
    has_config = below(root, CONFIG_FILE) in paths
    return Cms(
        type="wordpress",
        version=version,
        root=root,
        config_file=below(root, CONFIG_FILE) if has_config else None,
        database=read_database(config_php) if config_php is not None else None,
        confidence=min(round(confidence, 2), 1.0),
        indicators=[mark.decode() for mark in seen],
    )


def read_database(config_php: bytes) -> Database | None:
    """The database that a wp-config.php names as plain strings; None when it names none."""
    text = _without_comments(config_php)
    name = _first(_define("DB_NAME"), text)
    if not name:
        return None
    host, port = _host_and_port(_first(_define("DB_HOST"), text))
    return Database(name, _first(_define("DB_USER"), text), host, port, _first(_PREFIX, text))


def _define(constant: str) -> re.Pattern[str]:
    return re.compile(rf"""\bdefine\s*\(\s*['"]{constant}['"]\s*,\s*{_VALUE}\s*[,)]""")


def _without_comments(php: bytes) -> str:
    text = php[:MOST_READ].decode("utf-8", "replace")
    return _PHP.sub(lambda match: match["string"] or " ", text)


def _first(pattern: re.Pattern[str], text: str) -> str:
    match = pattern.search(text)
    if match is None:
        return ""
    value = next((group for group in match.groups() if group is not None), "")
    return re.sub(r"\\(.)", r"\1", value, flags=re.DOTALL)[:200]


def _host_and_port(text: str) -> tuple[str, int]:
    """`host`, `host:port`, `[::1]:port`; what follows another colon is a socket's path and stays with the host."""
    host, separator, port = text.rpartition(":")
    if separator and port.isascii() and port.isdigit() and (":" not in host or host.endswith("]")):
        return host, int(port)
    return text, 0
