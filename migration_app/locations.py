"""SOURCE and DESTINATION of the command line: a local path, or an address such as `sftp://user@host:port/path`."""

import getpass
import re
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

Json = dict[str, Any]

PROTOCOLS = ("sftp", "scp")
_SCHEME = re.compile(r"([a-z][a-z0-9+]*)://", re.IGNORECASE)


class BadLocation(ValueError):
    """The text is no place; the message says why."""


def parse_location(text: str) -> Json:
    """The Conn object of the HTTP contract, without secrets. Raises BadLocation.

    >>> parse_location("sftp://web@example.org:2222/var/www")["port"]
    2222
    """
    match = _SCHEME.match(text)
    if match is None:
        if not text:
            raise BadLocation("An empty path is no place.")
        # A local root must not be reached through links; a person who names one means where it leads.
        return {"protocol": "local", "root_path": str(Path(text).expanduser().resolve())}
    return _parse_address(match[1].lower(), text)


def _parse_address(protocol: str, text: str) -> Json:
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port or 0
    except ValueError as error:
        raise BadLocation(f"{_shown(text)} is no address: {error}.") from None
    if parts.password is not None:
        raise BadLocation(
            "A password in an address could be read by everybody on this machine: "
            "take it out and use HAULIER_SOURCE_PASSWORD, HAULIER_DESTINATION_PASSWORD or a key file."
        )
    if protocol not in PROTOCOLS:
        raise BadLocation(f"This version does not speak {protocol} yet; it speaks {', '.join(PROTOCOLS)}.")
    if not host:
        raise BadLocation(f"{text} names no host.")
    return {
        "protocol": protocol,
        "host": host,
        "port": port,
        "username": unquote(parts.username or "") or getpass.getuser(),
        "root_path": _path(parts),
    }


def _path(parts: SplitResult) -> str:
    # `#` and `?` are letters like others in the name of a file.
    query = f"?{parts.query}" if parts.query else ""
    fragment = f"#{parts.fragment}" if parts.fragment else ""
    return unquote(parts.path + query + fragment) or "/"


def _shown(text: str) -> str:
    """An address that could not be read, without what might be a password."""
    return re.sub(r"//[^/]*@", "//…@", text)
