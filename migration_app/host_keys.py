"""First contact with a host: its key is shown to a person before anything is sent there."""

from collections.abc import Callable
from typing import Any

from django.conf import settings

from migration_app import endpoints, secrets
from migration_app.storages.base import HostKey, Storage
from migration_app.storages.errors import AuthenticationFailed, HostKeyRejected, StorageError
from migration_app.visits import visit
from sessions_app.models import User

Json = dict[str, Any]


class HostKeyNotTrusted(Exception):
    """Nobody vouches for the key of a host; the message says what to do."""


def settle_host_key(owner: User, config: Json, *, ask: Callable[[str], bool | None]) -> None:
    """Have the unknown host key of a validated side accepted and pin it. Raises HostKeyNotTrusted.

    `ask` gives None where nobody can be asked. A host that cannot be used is left to the job, which says why.
    """
    endpoint = endpoints.unsaved(owner.pk, config)
    try:
        side = endpoints.side_at(endpoint, config["root_path"], asks_first=True)
    except secrets.CannotOpen:
        return
    if not side.learns_host_key or settings.HOST_KEYS == "strict":
        return
    key = visit(owner, side, _shown_key)
    if key is None:
        return
    fact = f"The host {endpoint.server} was never seen before. Its key is {key.algorithm} {key.fingerprint}."
    answer = ask(f"{fact}\nTrust it from now on? [y/N] ")
    if answer is None:
        raise HostKeyNotTrusted(f"{fact} Add --accept-new-host-key to trust it without being asked.")
    if not answer:
        raise HostKeyNotTrusted("The host key was not trusted; nothing was sent there.")
    try:
        endpoints.pin(endpoint, key)
    except HostKeyRejected as error:
        raise HostKeyNotTrusted(str(error)) from None


def lets_in(owner: User, config: Json) -> bool:
    """Whether a server takes who we are, as far as that can be found out. What else is wrong is left to the job."""
    side = endpoints.side_at(endpoints.unsaved(owner.pk, config), config["root_path"])

    async def sign_in(storage: Storage) -> None:
        await storage.connect()
        await storage.close()

    try:
        visit(owner, side, sign_in)
    except AuthenticationFailed:
        return False
    except StorageError:
        return True
    return True


async def _shown_key(storage: Storage) -> HostKey | None:
    """The key that a host shows; an unknown one is refused before anything else is said to it."""
    try:
        await storage.connect()
    except StorageError:
        return storage.trace.host_key
    await storage.close()
    return storage.trace.host_key
