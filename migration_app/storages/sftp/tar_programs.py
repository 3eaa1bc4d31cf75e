"""GNU tar at the server: how it is run for bundles, and whether it is there."""

import asyncio

import asyncssh

from migration_app.storages.sftp.opening import opening
from migration_app.storages.sftp.shell_channel import Program

FIND_S = 5.0
_IS_THERE = 'case "$(tar --version 2>/dev/null)" in "tar (GNU tar)"*) ;; *) exit 96 ;; esac'
_TAR = "env -u TAR_OPTIONS LC_ALL=C tar"
PACK = Program(
    "GNU tar", _IS_THERE, f"{_TAR} -c -f - --format=gnu --null --no-recursion --hard-dereference -T -"
)
"""Takes names, each ended by NUL, and gives what they name."""
UNPACK = Program("GNU tar", _IS_THERE, f"{_TAR} -x -f - -p --no-same-owner")
"""Takes an archive. A file that is there is removed first, never written through."""


async def has_gnu_tar(connection: asyncssh.SSHClientConnection) -> bool:
    """Whether there is a shell that finds GNU tar."""
    try:
        async with asyncio.timeout(FIND_S):
            with opening():
                found = await connection.run(
                    "exec sh -c 'tar --version'", stdin=asyncssh.DEVNULL, errors="replace"
                )
    except (asyncssh.Error, OSError):
        # TimeoutError is an OSError.
        return False
    return "tar (GNU tar)" in str(found.stdout)
