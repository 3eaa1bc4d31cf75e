"""What the environment says, read once and checked: every variable is named in docs/operating.md."""

import os
import secrets
import stat
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import dj_database_url
from cryptography.fernet import Fernet
from django.core.exceptions import ImproperlyConfigured

from sessions_app.durations import parse_duration

BASE_DIR = Path(__file__).resolve().parent.parent
EVERY_ADDRESS = ("0.0.0.0", "::", "[::]")  # noqa: S104 - recognised, not bound to
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
DATABASE_NAME = "haulier.sqlite3"
_OURS = (DATABASE_NAME, "secret.key", "secrets.keys")


def is_on(name: str, *, default: bool) -> bool:
    """Whether a switch is on; raises ImproperlyConfigured for anything but on/off, 1/0, true/false."""
    text = os.environ.get(name, "").strip().lower()
    if not text:
        return default
    if text in ("on", "1", "true", "yes"):
        return True
    if text in ("off", "0", "false", "no"):
        return False
    raise ImproperlyConfigured(f"{name} must be on or off, not {text!r}.")


def number(name: str, default: float, *, low: float, high: float) -> float:
    """A number between `low` and `high`; raises ImproperlyConfigured otherwise."""
    text = os.environ.get(name, "").strip()
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        raise ImproperlyConfigured(f"{name} must be a number, not {text!r}.") from None
    if not low <= value <= high:
        raise ImproperlyConfigured(f"{name} must be between {low:g} and {high:g}, not {text}.")
    return value


def whole_number(name: str, default: int, *, low: int, high: int) -> int:
    """A number without a fraction between `low` and `high`; raises ImproperlyConfigured otherwise."""
    value = number(name, default, low=low, high=high)
    if value != int(value):
        raise ImproperlyConfigured(f"{name} must be a whole number, not {value:g}.")
    return int(value)


def words(name: str, separator: str | None = None) -> list[str]:
    """A list: separated by commas or spaces, or by `separator` alone."""
    text = os.environ.get(name, "")
    parts = text.split(separator) if separator else text.replace(",", " ").split()
    return [part.strip() for part in parts if part.strip()]


def ssh_agent() -> str:
    """The socket of the SSH agent, as OpenSSH's programs find it; empty when there is none."""
    return os.environ.get("SSH_AUTH_SOCK", "")


def bind_address() -> tuple[str, int]:
    """Host and port that the web server listens on; raises ImproperlyConfigured when malformed."""
    text = os.environ.get("HAULIER_BIND", "127.0.0.1:8080")
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ImproperlyConfigured(f"HAULIER_BIND must look like 127.0.0.1:8080, not {text!r}.")
    return host, int(port)


def data_directory() -> Path:
    """The folder of everything that lasts; made with mode 0700 when missing, and closed to others when open to them.

    Raises ImproperlyConfigured when it cannot be made.
    """
    path = Path(os.environ.get("HAULIER_DATA_DIR") or BASE_DIR / "var").absolute()
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        # A folder of other things too, such as /tmp, keeps its mode.
        names = os.listdir(path)
        if not names or any(name in names for name in _OURS):
            _close_to_others(path, 0o700)
    except OSError as error:
        raise ImproperlyConfigured(
            f"HAULIER_DATA_DIR: {path} cannot be used as a folder: {error.strerror}."
        ) from None
    return path


def _close_to_others(path: Path, mode: int) -> None:
    found = path.stat()
    is_shared = found.st_mode & stat.S_ISVTX
    if found.st_uid == os.geteuid() and found.st_mode & 0o077 and not is_shared:
        path.chmod(mode)


def database(directory: Path) -> dict[str, Any]:
    """Django's settings of the database: DATABASE_URL, or SQLite in the data directory.

    A file of SQLite is there afterwards, readable by its owner only. Raises ImproperlyConfigured.
    """
    url = os.environ.get("DATABASE_URL", "").strip() or f"sqlite:///{quote(str(directory / DATABASE_NAME))}"
    try:
        found = dict(dj_database_url.parse(url))
    except ValueError:
        # Without the value: it may hold a password.
        raise ImproperlyConfigured(
            "DATABASE_URL must be an address such as sqlite:////srv/haulier.sqlite3."
        ) from None
    if found["ENGINE"] == "django.db.backends.sqlite3" and found["NAME"] != ":memory:":
        path = Path(str(found["NAME"])).absolute()
        try:
            _make_private(path)
        except OSError as error:
            raise ImproperlyConfigured(f"The database {path} cannot be used: {error.strerror}.") from None
    return found


def _make_private(path: Path) -> None:
    # SQLite itself would make it readable for all, and gives its other files the mode of this one. It is never
    # opened when it is there: closing it would drop the locks that SQLite holds on it in this process.
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        if path.is_file():
            _close_to_others(path, 0o600)


def _made_once(path: Path, content: str) -> str:
    # link() publishes the file whole or not at all, so of two processes that start together
    # one wins and both read the same key.
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(descriptor, content.encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    try:
        os.link(draft, path)
    except FileExistsError:
        pass  # The other process won; its content is read below.
    finally:
        draft.unlink()
    return path.read_text().strip()


def secret_key(directory: Path) -> str:
    """Django's key, from the environment or made in the data directory."""
    return os.environ.get("HAULIER_SECRET_KEY") or _key_file(
        directory / "secret.key", secrets.token_urlsafe(48)
    )


def secrets_keys(directory: Path) -> list[str]:
    """Fernet keys that seal stored secrets, newest first; made in the data directory when none is given.

    Raises ImproperlyConfigured for a key that Fernet does not take.
    """
    keys = words("HAULIER_SECRETS_KEYS")
    if not keys:
        keys = _key_file(directory / "secrets.keys", Fernet.generate_key().decode()).split()
    for key in keys:
        try:
            Fernet(key)
        except ValueError:
            raise ImproperlyConfigured(
                "HAULIER_SECRETS_KEYS must hold Fernet keys: 32 bytes, URL-safe base64."
            ) from None
    return keys


def _key_file(path: Path, content: str) -> str:
    try:
        return path.read_text().strip() if path.exists() else _made_once(path, content)
    except OSError as error:
        raise ImproperlyConfigured(f"{path} cannot be read or made: {error.strerror}.") from None


def choice(name: str, default: str, allowed: tuple[str, ...]) -> str:
    """One of a few words; raises ImproperlyConfigured otherwise."""
    text = os.environ.get(name, "").strip() or default
    if text not in allowed:
        raise ImproperlyConfigured(f"{name} must be {' or '.join(allowed)}, not {text!r}.")
    return text


DEFAULT_RETENTION = "scan=24h plan=24h transfer=90d verify=90d rollback=90d failed=7d"


def retention() -> dict[str, timedelta]:
    """How long finished jobs stay, by job type and `failed`; raises ImproperlyConfigured when malformed.

    One duration alone sets all of them, failed jobs too.
    """
    kept = {name: _duration(text) for name, text in _pairs(DEFAULT_RETENTION)}
    text = os.environ.get("HAULIER_RETENTION", "").strip()
    if text and "=" not in text:
        return dict.fromkeys(kept, _duration(text))
    for name, length in _pairs(text):
        if name not in kept:
            raise ImproperlyConfigured(
                f"HAULIER_RETENTION does not know {name!r}; it knows {', '.join(kept)}."
            )
        kept[name] = _duration(length)
    return kept


def _pairs(text: str) -> list[tuple[str, str]]:
    pairs = []
    for word in text.split():
        name, separator, length = word.partition("=")
        if not separator:
            raise ImproperlyConfigured(f"HAULIER_RETENTION must look like scan=24h failed=7d, not {word!r}.")
        pairs.append((name, length))
    return pairs


def _duration(text: str) -> timedelta:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise ImproperlyConfigured(f"HAULIER_RETENTION: {error}") from None
