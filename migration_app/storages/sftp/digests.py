"""SHA-256 of many files by one command at the server, where it gives a shell.

Names go in over standard input, separated by NUL, so that none of them is ever a part of a command.
"""

import asyncio
import re
import shlex
from collections.abc import Sequence

import asyncssh

from migration_app.storages.base import Path
from migration_app.storages.sftp.opening import opening

COMMAND_S = 600.0
"""For one batch, and the time that its bytes take."""
SLOWEST_BPS = 5e6
"""Bytes a second that a server hashes at the least."""
BEGINNING_S = 6 * 3600.0
"""For the beginning of one file, of which a disk reads a hundred megabytes a second or more."""
_DIGEST_CHARACTERS = 64

_READY = b"hashes follow"
"""What a server says first that can hash: without it nobody could tell it from one of whose files none can be read."""

# `openssl` first: it uses the processor's SHA instructions, which coreutils does not.
_SCRIPT = (
    "cd -- {root} || exit 1; if command -v openssl >/dev/null 2>&1; then set -- openssl dgst -sha256 -r; "
    "elif command -v sha256sum >/dev/null 2>&1; then set -- sha256sum -b; else exit 1; fi; "
    "echo hashes' 'follow; exec xargs -0 \"$@\""
)
_BEGINNING_SCRIPT = (
    'cd -- {root} && IFS= read -r name && head -c {length} -- "$name" | '
    "if command -v openssl >/dev/null 2>&1; then openssl dgst -sha256 -r; else sha256sum -b; fi"
)


async def digest_by_command(
    connection: asyncssh.SSHClientConnection, root: bytes, paths: Sequence[Path], *, size: int = 0
) -> dict[Path, bytes] | None:
    """Digests by path, of those files that the server could hash, of `size` bytes together; None where it runs no such
    command.

    Raises OSError or asyncssh.Error when the connection breaks.
    """
    # Both programs write a name with a line break in a way that cannot be told apart.
    sent = [path for path in paths if b"\n" not in path and b"\r" not in path and b"\\" not in path]
    if not sent:
        return {}
    script = _SCRIPT.format(root=_quoted(root))
    names = b"".join(b"./" + path + b"\0" for path in sent)
    output = await _output(connection, script, names, COMMAND_S + size / SLOWEST_BPS)
    # Before it there may be what a shell says when it starts.
    return parse_digests(output, set(sent)) if _READY in output else None


async def digest_beginning_by_command(
    connection: asyncssh.SSHClientConnection, root: bytes, path: Path, length: int
) -> bytes | None:
    """Digest of a file's first `length` bytes; None where the server does not work it out.

    Raises OSError or asyncssh.Error when the connection breaks.
    """
    if b"\n" in path:
        return None
    script = _BEGINNING_SCRIPT.format(root=_quoted(root), length=length)
    output = await _output(connection, script, b"./" + path + b"\n", BEGINNING_S)
    match = re.fullmatch(rb"([0-9a-f]{64}) [^\n]*\n", output)
    return bytes.fromhex(match[1].decode("ascii")) if match else None


def _quoted(root: bytes) -> str:
    return shlex.quote(root.decode("utf-8", "surrogateescape"))


async def _output(
    connection: asyncssh.SSHClientConnection, script: str, names: bytes, timeout_s: float
) -> bytes:
    """What a script prints that is given names; nothing where none may be run, or it takes too long."""
    try:
        async with asyncio.timeout(timeout_s):
            with opening():
                done = await connection.run(
                    script.encode("utf-8", "surrogateescape"), input=names, encoding=None, check=False
                )
    except (asyncssh.ChannelOpenError, TimeoutError):
        return b""
    return done.stdout if isinstance(done.stdout, bytes) else b""


def parse_digests(output: bytes, wanted: set[Path]) -> dict[Path, bytes]:
    """Lines of `hex *./name`, as `openssl dgst -r` and `sha256sum -b` write them; anything else is passed over.

    >>> parse_digests(b"ab" * 32 + b" *./a\\n", {b"a"}) == {b"a": bytes.fromhex("ab" * 32)}
    True
    """
    found: dict[Path, bytes] = {}
    for line in output.split(b"\n"):
        digest, mark, name = (
            line[:_DIGEST_CHARACTERS],
            line[_DIGEST_CHARACTERS:][:4],
            line[_DIGEST_CHARACTERS + 4 :],
        )
        if mark == b" *./" and name in wanted:
            try:
                found[name] = bytes.fromhex(digest.decode("ascii"))
            except ValueError:
                continue
    return found
