"""A look at the servers of a request before its job starts: nobody's key is taken that no person has seen."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from django.conf import settings

from migration_app import endpoints, secrets
from migration_app.endpoints import Side
from migration_app.models import Endpoint
from migration_app.storages.base import HostKey, HostKeyPolicy, Storage, Trace
from migration_app.storages.errors import HostKeyRejected, StorageError
from migration_app.visits import visit
from sessions_app.models import Job, User

Json = dict[str, Any]

_CHANGED = " Nothing was sent there."


@dataclass(frozen=True, slots=True)
class Contact:
    """What a server showed: a key that nobody has vouched for yet, or why it cannot be used."""

    endpoint: Endpoint
    unknown_key: HostKey | None = None
    error: str = ""

    @property
    def is_fine(self) -> bool:
        """Whether a job may go there."""
        return self.unknown_key is None and not self.error


def look(user: User, configs: dict[str, Json]) -> dict[str, Contact]:
    """What the SFTP servers among the validated sides of a request show, both at once. Nothing but the greeting is
    sent to one that shows the wanted key or an unknown one. Raises visits.Busy."""
    wanted = {name: config for name, config in configs.items() if config["protocol"] == "sftp"}
    rows = {name: endpoints.unsaved(user.pk, config) for name, config in wanted.items()}
    found: dict[str, Contact] = {}
    sides: dict[str, Side] = {}
    for name, row in rows.items():
        try:
            sides[name] = endpoints.side_at(row, wanted[name]["root_path"], asks_first=True)
        except secrets.CannotOpen as error:
            found[name] = Contact(row, error=str(error))
    with ThreadPoolExecutor(max_workers=2) as pool:
        looks = {name: pool.submit(_look, user, side) for name, side in sides.items()}
    return found | {name: one.result() for name, one in looks.items()}


def _look(user: User, side: Side) -> Contact:
    policy = side.address.host_keys
    greeting = replace(side, address=replace(side.address, host_keys=HostKeyPolicy(is_strict=True)))
    trace, error = visit(user, greeting, _connect)
    key, jump = trace.host_key, side.address.jump
    if key is None:
        unpinned = side.unpinned(trace) if settings.HOST_KEYS != "strict" else []
        if unpinned:
            # That of the jump host, with which the way ended.
            return Contact(*unpinned[0])
        is_changed = isinstance(error, HostKeyRejected) and jump is not None and jump.host_keys.pinned
        return Contact(side.endpoint, error=f"{error}{_CHANGED if is_changed else ''}")
    vouched_for = policy.demanded or policy.pinned
    if vouched_for is None and settings.HOST_KEYS != "strict":
        return Contact(side.endpoint, unknown_key=key)
    if vouched_for != key.fingerprint:
        # A server with several keys may have the wanted one too: only connecting with it in mind tells.
        _, error = visit(user, side, _connect)
        advice = _CHANGED if isinstance(error, HostKeyRejected) and policy.pinned else ""
        return Contact(side.endpoint, error=f"{error}{advice}" if error is not None else "")
    return Contact(side.endpoint)


async def _connect(storage: Storage) -> tuple[Trace, StorageError | None]:
    try:
        await storage.connect()
    except StorageError as error:
        return storage.trace, error
    await storage.close()
    return storage.trace, None


def unseen(sides: Iterable[Endpoint]) -> Endpoint | None:
    """The first server on the way to the sides whose key nobody has vouched for, as after it was forgotten."""
    servers = (server for one in sides for server in endpoints.servers_of(one))
    return next((server for server in servers if endpoints.takes_any_key(server)), None)


def sides_of(job: Job) -> Iterable[Endpoint]:
    """The sides of a scan or a transfer."""
    return Endpoint.objects.filter(job=job)
