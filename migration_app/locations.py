"""SOURCE and DESTINATION of the command line: a local path, an address such as `sftp://user@host:port/path`, or
`NAME:/path` for a stored connection.

As with scp and rsync, a colon before the first slash is never part of a local path; such a one is written `./a:b`.
What a text means so does not depend on which folders there are.
"""

import getpass
import re
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from migration_app import connections
from migration_app.pages.wording import plain_text
from sessions_app.models import User

Json = dict[str, Any]

PROTOCOLS = {"sftp": "sftp", "scp": "sftp"}
_SCHEME = re.compile(r"([a-z][a-z0-9+]*)://", re.IGNORECASE)


class BadLocation(ValueError):
    """The text is no place; the message says why."""


def parse_location(text: str, owner: User) -> Json:
    """The Conn object of the HTTP contract, without secrets. Raises BadLocation."""
    if not text:
        raise BadLocation("An empty path is no place.")
    if any("\ud800" <= sign <= "\udfff" for sign in text):
        raise BadLocation("A path on the command line must be UTF-8; name a folder above it, or link to it.")
    match = _SCHEME.match(text)
    if match is not None:
        return _parse_address(match[1].lower(), text)
    name, colon, path = text.partition(":")
    if colon and "/" not in name:
        return _parse_stored(name, path, text, owner)
    try:
        # A local root must not be reached through links; a person who names one means where it leads.
        return {"protocol": "local", "root_path": str(Path(text).expanduser().resolve())}
    except (OSError, RuntimeError) as error:
        raise BadLocation(f"{plain_text(text)}: {error}") from None


def _parse_stored(name: str, path: str, text: str, owner: User) -> Json:
    stored = connections.of(owner).filter(name=name).first()
    if stored is None:
        names = ", ".join(sorted(connections.of(owner).values_list("name", flat=True))) or "none"
        raise BadLocation(
            f"There is no stored connection “{plain_text(name)}”; stored: {names}. A server is written "
            f"sftp://user@host/path, and a folder of this machine with a colon ./{plain_text(text)}"
        )
    if not path.startswith("/"):
        raise BadLocation(f"After {name}: comes the whole path, as in {name}:{stored.root_path}")
    return {"connection": str(stored.pk), "root_path": path}


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
    path = _path(parts)
    if not path:
        # Somebody who leaves it out means his home, as with scp; here it would be the root of the whole server.
        raise BadLocation(
            f"{text} names no folder: after the host comes the whole path, as in {text}/srv/site"
        )
    return {
        "protocol": PROTOCOLS[protocol],
        "host": host,
        "port": port,
        "username": unquote(parts.username or "") or getpass.getuser(),
        "root_path": path,
    }


def _path(parts: SplitResult) -> str:
    # `#` and `?` are letters like others in the name of a file.
    query = f"?{parts.query}" if parts.query else ""
    fragment = f"#{parts.fragment}" if parts.fragment else ""
    return unquote(parts.path + query + fragment)


def _shown(text: str) -> str:
    """An address that could not be read, without what might be a password."""
    return re.sub(r"//[^/]*@", "//…@", text)
