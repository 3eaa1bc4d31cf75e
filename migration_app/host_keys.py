"""First contact with a host: its key is shown to a person before anything is sent there."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from migration_app import endpoints
from migration_app.models import HostKey
from migration_app.storages import base
from migration_app.storages.errors import StorageError
from migration_app.storages.registry import open_storage
from sessions_app.models import User

Json = dict[str, Any]


class HostKeyNotTrusted(Exception):
    """Nobody vouches for the key of a host; the message says what to do."""


def settle_host_key(owner: User, conn: Json, *, ask: Callable[[str], bool | None]) -> None:
    """Have an unknown host key accepted and pin it. Raises HostKeyNotTrusted.

    `ask` gives None where nobody can be asked. A host that cannot be reached is left to the job, which says why.
    """
    port = conn.get("port") or endpoints.DEFAULT_PORTS.get(conn["protocol"], 0)
    host = conn.get("host", "").lower()
    rows = HostKey.objects.filter(owner=owner, host=host, port=port)
    if conn["protocol"] != "sftp" or rows.exists():
        return
    key = asyncio.run(_shown_key(conn, port))
    if key is None:
        return
    fact = f"The host {host}:{port} was never seen before. Its key is {key.algorithm} {key.fingerprint}."
    answer = ask(f"{fact}\nTrust it from now on? [y/N] ")
    if answer is None:
        raise HostKeyNotTrusted(f"{fact} Add --accept-new-host-key to trust it without being asked.")
    if not answer:
        raise HostKeyNotTrusted("The host key was not trusted; nothing was sent there.")
    HostKey.objects.get_or_create(
        owner=owner,
        host=host,
        port=port,
        defaults={"algorithm": key.algorithm, "fingerprint": key.fingerprint},
    )


async def _shown_key(conn: Json, port: int) -> base.HostKey | None:
    """The key that a host shows; nothing else is said to it."""
    address = base.Address("sftp", conn["host"], port, conn["username"])
    strict = replace(address, host_keys=base.HostKeyPolicy(is_strict=True))
    storage = open_storage(strict, b"/", guard=lambda: True)
    try:
        await storage.connect()
    except StorageError:
        return storage.trace.host_key
    await storage.close()
    return storage.trace.host_key
