"""Names and texts from outside, checked before anything is made of them."""

from migration_app.storages.base import Path
from migration_app.storages.errors import NameRefused, OutsideRoot, StorageError

LONGEST_PATH = 4096
_LONGEST_SHOWN = 200


def refusal_of(path: Path, name: bytes) -> StorageError | None:
    """Why a name that a server listed must not be used, or None. `path` is the whole path that it would have."""
    if not name or b"/" in name or b"\0" in name or name in (b".", b".."):
        return NameRefused(f"The server lists a name that must not be used: {shown(name)}.")
    if len(path) > LONGEST_PATH:
        return NameRefused(f"The path is longer than {LONGEST_PATH} bytes.")
    return None


def path_refusal(path: Path) -> StorageError | None:
    """Why a path below the root must not be used, or None. The root itself has no name to use."""
    # Asked several times for each file: quicker than taking it apart.
    whole = b"/" + path + b"/"
    if b"//" in whole or b"/./" in whole or b"/../" in whole or b"\0" in path:
        return NameRefused(f"{shown(path)} is not a path below the root.")
    return None


def path_below(root: Path, path: Path) -> Path:
    """A path that lies in a root, both absolute and without links, as one relative to it. Raises OutsideRoot.

    >>> path_below(b"/srv/www", b"/srv/www/a/b"), path_below(b"/", b"/a")
    (b'a/b', b'a')
    """
    above = root.rstrip(b"/")
    inside = path[len(above) + 1 :]
    is_below = path in (above, root) or path.startswith(above + b"/")
    # A server may say what it likes.
    if not is_below or (inside and path_refusal(inside) is not None) or len(path) > LONGEST_PATH:
        raise OutsideRoot("It leads out of the root.")
    return inside


def shown(text: bytes | str) -> str:
    """Text from outside, fit for a message: one line, printable, not long."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "backslashreplace")
    clean = "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)
    return clean if len(clean) <= _LONGEST_SHOWN else clean[:_LONGEST_SHOWN] + "…"


def readable(said: str) -> str:
    """A server's words, fit for a message: printable characters only, at most 200."""
    cleaned = "".join(character if character.isprintable() else " " for character in said)
    return " ".join(cleaned.split())[:200].rstrip(".")
