"""Stored connections: kept, changed, tried out, looked into. Their secrets go in and never come out."""

import base64
import posixpath
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import Q
from django.utils import timezone
from rest_framework.exceptions import ValidationError

from migration_app import endpoints, secrets
from migration_app.models import Endpoint
from migration_app.probing import probe_endpoint
from migration_app.serializers import StoredConnectionSerializer, plain_path
from migration_app.storages.base import Entry, FolderListing, Kind, Storage, Trace, ask
from migration_app.storages.errors import StorageError
from migration_app.visits import visit
from sessions_app.fields import validated
from sessions_app.models import Job, Schedule, User
from sessions_app.problems import Conflict
from sessions_app.serializers import instant
from sessions_app.states import ACTIVE

Json = dict[str, Any]

MOST_ENTRIES = 5000
_ONLY_SHOWN = ("id", "secrets_stored", "created_at", "last_test")
"""Fields of an answer that no request sets."""


def of(user: User) -> Any:
    """The person's stored connections."""
    return Endpoint.objects.stored().filter(owner=user)


def create(user: User, data: Any) -> Endpoint:
    """Store a connection. Raises ValidationError."""
    config = validated(StoredConnectionSerializer, user, data)
    stored = endpoints.unsaved(user.pk, config)
    stored.name, stored.root_path = config["name"], config["root_path"]
    _save(stored, is_new=True)
    return stored


def _save(stored: Endpoint, *, is_new: bool = False) -> None:
    try:
        with transaction.atomic():
            stored.save(force_insert=is_new)
    except IntegrityError:
        # The same name twice in the same instant.
        raise ValidationError({"name": ["Another of your connections has this name."]}) from None


def update(user: User, stored: Endpoint, data: Any, *, is_partial: bool) -> Endpoint:
    """Change a connection. An empty secret keeps the stored one; another server, user or jump host drops
    all of them, and the pin.

    Raises ValidationError, Conflict when jobs that are not finished, or other connections, use what would go.
    """
    if isinstance(data, dict):
        # An answer that is sent back as it came changes nothing.
        shown = {name: value for name, value in connection_json(stored).items() if name in _ONLY_SHOWN}
        data = {name: value for name, value in data.items() if name not in shown or value != shown[name]}
        data = _merged(stored, data) if is_partial else data
    config = validated(StoredConnectionSerializer, user, data, stored=stored.pk)
    changed = endpoints.unsaved(user.pk, config)
    given = {name: value for name, value in endpoints.secrets_of(config).items() if value}
    with transaction.atomic():
        row = Endpoint.objects.select_for_update().get(pk=stored.pk)
        is_same = endpoints.account(changed) == endpoints.account(row)
        if not is_same or endpoints.jump_account(changed) != endpoints.jump_account(row):
            _refuse_in_use(row, "Its server, user and jump host cannot be changed")
            endpoints.forget_pins(row, changed)
            row.last_test = row.tested_at = None
            kept: dict[str, str] = {}
        else:
            kept = secrets.unseal_or_nothing(row.sealed)
        for name in ("protocol", "host", "port", "username", "options"):
            setattr(row, name, getattr(changed, name))
        row.name, row.root_path = config["name"], config["root_path"]
        row.sealed = secrets.seal(endpoints.merged_secrets(kept, given))
        _save(row)
    return row


def _merged(stored: Endpoint, data: Json) -> Json:
    """The fields of a PATCH over those that are there."""
    known = endpoints.fields(stored) | endpoints.bandwidth(stored)
    given = {name: value for name, value in data.items() if value is not None}
    if given.get("protocol", stored.protocol) != stored.protocol:
        # Host and user of one protocol mean nothing to another.
        known = {"root_path": stored.root_path} | endpoints.bandwidth(stored)
    elif any(given.get(name, known[name]) != known[name] for name in ("host", "port", "username")):
        known.pop("host_key", None)
    return {"name": stored.name} | known | given


def delete(stored: Endpoint) -> None:
    """Delete a connection with its secrets. Raises Conflict while unfinished jobs or other connections use it."""
    with transaction.atomic():
        row = Endpoint.objects.select_for_update().get(pk=stored.pk)
        _refuse_in_use(row, "It cannot be deleted")
        row.delete()


def jobs_using(stored: Endpoint) -> int:
    """How many jobs that are not finished use a connection."""
    is_side = Q(endpoints__connection=stored) | Q(endpoints__options__jump__connection=stored.pk)
    return Job.objects.filter(is_side, status__in=ACTIVE).distinct().count()


def schedules_using(stored: Endpoint) -> list[Schedule]:
    """The schedules whose runs use a connection."""
    number = str(stored.pk)
    is_side = Q()
    for side in ("server_config", "source_config", "dest_config"):
        is_side |= Q(**{f"request__{side}__connection": number})
        is_side |= Q(**{f"request__{side}__jump__connection": number})
    return list(Schedule.objects.filter(is_side, owner=stored.owner))


def _refuse_in_use(stored: Endpoint, what: str) -> None:
    if count := jobs_using(stored):
        jobs = "a job that is not finished uses" if count == 1 else f"{count} jobs that are not finished use"
        raise Conflict(f"{what} while {jobs} it.")
    behind = of(stored.owner).filter(options__jump__connection=stored.pk).first()
    if behind is not None:
        raise Conflict(f"{what} while the connection {behind.name} goes through it.")


def try_out(user: User, stored: Endpoint, *, asks_first: bool = False) -> Json:
    """ProbeResult of a connection, remembered. `asks_first` refuses an unknown host key. Raises visits.Busy."""
    found = probe_endpoint(user, stored, stored.root_path, asks_first=asks_first)
    stored.tested_at, stored.last_test = timezone.now(), found
    stored.save(update_fields=["tested_at", "last_test"])
    return found


def connection_json(stored: Endpoint) -> Json:
    """A connection as the API shows it: `secrets_stored` names the secrets that are there."""
    found: Json = {
        "id": str(stored.pk),
        "name": stored.name,
        **({} if stored.protocol == "local" else {"max_connections": endpoints.MOST_CONNECTIONS}),
        **endpoints.fields(stored),
        "bandwidth_limit": 0,
        "bandwidth_timetable": [],
        "bandwidth_timezone": "UTC",
        **endpoints.bandwidth(stored),
        **dict.fromkeys(endpoints.SECRETS, ""),
        "secrets_stored": sorted(secrets.unseal_or_nothing(stored.sealed)),
        "created_at": instant(stored.created_at),
    }
    if stored.last_test is not None:
        found["last_test"] = {
            "tested_at": instant(stored.tested_at),
            "success": stored.last_test["success"],
            "verdict": stored.last_test["verdict"],
            "latency_ms": stored.last_test["performance"]["latency_ms"],
        }
    return found


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder of the other side; `entries` are at most MOST_ENTRIES of all that it holds, folders first."""

    path: str
    entries: list[Entry]
    total: int

    @property
    def parent(self) -> str | None:
        """The folder above; the root has none."""
        return posixpath.dirname(self.path) if self.path != "/" else None

    def path_of(self, entry: Entry) -> str | None:
        """The absolute path of an entry, where a request can name it."""
        try:
            return plain_path(posixpath.join(self.path, entry.path.decode()))
        except (UnicodeDecodeError, ValidationError):
            return None


def browse(user: User, stored: Endpoint, path: str, *, asks_first: bool = False) -> Folder:
    """What one folder holds; without a path the connection's own. `asks_first` refuses an unknown host key.

    Raises ValidationError for a path that cannot be listed, StorageError when there is no connection, visits.Busy.
    """
    path = _checked(user, stored, path or stored.root_path)
    side = endpoints.side_at(stored, path, asks_first=asks_first)

    async def look(storage: Storage) -> tuple[Trace, FolderListing | StorageError]:
        await storage.connect()
        try:
            await storage.root_entry()
            return storage.trace, await ask(partial(storage.list_folder, b""))
        except StorageError as error:
            return storage.trace, error
        finally:
            await storage.close()

    trace, listing = visit(user, side, look)
    for server, key in side.unpinned(trace):
        endpoints.pin(server, key)
    if isinstance(listing, StorageError):
        raise ValidationError({"path": [str(listing)]})
    entries = sorted(listing.entries, key=lambda entry: (entry.kind is not Kind.FOLDER, entry.path))
    return Folder(path, entries[:MOST_ENTRIES], len(entries))


def folder_json(folder: Folder) -> Json:
    """A folder as the API shows it."""
    return {
        "path": folder.path,
        "parent": folder.parent,
        "total": folder.total,
        "is_truncated": folder.total > len(folder.entries),
        "entries": [_entry_json(folder, entry) for entry in folder.entries],
    }


def _checked(user: User, stored: Endpoint, path: str) -> str:
    try:
        found = plain_path(path)
    except ValidationError as error:
        raise ValidationError({"path": error.detail}) from None
    if stored.protocol == "local":
        if not user.is_owner:
            raise ValidationError({"path": ["Only owners may use folders of this machine."]})
        if refusal := endpoints.local_refusal(found):
            raise ValidationError({"path": [refusal]})
    return found


def _entry_json(folder: Folder, entry: Entry) -> Json:
    """An entry; `path` is there where a request can name it, `name_b64` where the name is not UTF-8."""
    found: Json = {
        "name": entry.path.decode("utf-8", "backslashreplace"),
        "type": entry.kind.value,
        "size_bytes": entry.size,
        "modified_at": instant(modified_at(entry)),
        "mode": f"{entry.mode:04o}",
    }
    if (path := folder.path_of(entry)) is not None:
        found["path"] = path
    if not _is_utf8(entry.path):
        found["name_b64"] = base64.b64encode(entry.path).decode()
    return found


def _is_utf8(name: bytes) -> bool:
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True


def modified_at(entry: Entry) -> datetime | None:
    """When an entry was changed last, where that is an instant of the calendar."""
    try:
        return datetime.fromtimestamp(entry.mtime, UTC)
    except (ValueError, OverflowError, OSError):
        return None
