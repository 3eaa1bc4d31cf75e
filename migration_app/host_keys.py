"""First contact with a host: its key is shown to a person before anything is sent there."""

from collections.abc import Callable, Iterable
from typing import Any

from migration_app import contacts, endpoints
from migration_app.models import Endpoint
from migration_app.storages.base import HostKey, Storage
from migration_app.storages.errors import AuthenticationFailed, HostKeyRejected, StorageError
from migration_app.visits import visit
from sessions_app.models import User

Json = dict[str, Any]


class HostKeyNotTrusted(Exception):
    """Nobody vouches for the key of a host; the message says what to do."""


def settle_host_keys(owner: User, configs: Iterable[Json], *, ask: Callable[[str], bool | None]) -> None:
    """Have the unknown host keys on the way to validated sides accepted and pin them. Raises HostKeyNotTrusted.

    `ask` gives None where nobody can be asked. A host that cannot be used is left to the job, which says why.
    """
    sides = {str(number): config for number, config in enumerate(configs)}
    rows = {name: endpoints.unsaved(owner.pk, config) for name, config in sides.items()}
    # Behind a jump host that has just been trusted, another key may wait.
    while unseen := {name: sides[name] for name, row in rows.items() if contacts.unseen([row]) is not None}:
        found = [one for one in contacts.look(owner, unseen).values() if one.unknown_key is not None]
        if not found:
            return
        for contact in found:
            # Both sides may be on one server.
            if contact.unknown_key is not None and endpoints.takes_any_key(contact.endpoint):
                _settle(contact.endpoint, contact.unknown_key, ask)


def _settle(endpoint: Endpoint, key: HostKey, ask: Callable[[str], bool | None]) -> None:
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
