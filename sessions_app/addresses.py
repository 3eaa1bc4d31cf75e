"""Where the web server listens, and how a person reaches it."""

import ipaddress
import os
from pathlib import Path

from django.conf import settings

_EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 - named, not bound


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a host name or address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def url(host: str, port: int) -> str:
    """The address for a browser on this machine; a server that listens everywhere is reached by the loopback."""
    return f"http://{'127.0.0.1' if host.strip('[]') in _EVERYWHERE else host}:{port}"


def remember(host: str, port: int) -> str:
    """Keep the address of the running server for commands that print links, and return it."""
    _file().write_text(url(host, port))
    return url(host, port)


def last() -> str:
    """The address that HAULIER_BIND names, else the one where the server was started last."""
    if "HAULIER_BIND" not in os.environ and _file().exists():
        return _file().read_text().strip()
    return url(settings.BIND_HOST, settings.BIND_PORT)


def _file() -> Path:
    return Path(settings.DATA_DIR) / "address"
