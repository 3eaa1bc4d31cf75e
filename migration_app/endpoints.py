"""The sides of a job: from a validated request to stored rows, and from there to addresses."""

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.conf import settings

from migration_app import secrets
from migration_app.models import Endpoint, HostKey
from migration_app.storages import base
from migration_app.storages.errors import HostKeyRejected
from sessions_app.models import Job

Json = dict[str, Any]

DEFAULT_PORTS = {"sftp": 22}
SECRETS = ("password", "ssh_key", "passphrase")


def store(job: Job, config: Json) -> Endpoint:
    """Write the endpoint of one side of a job; secrets are sealed."""
    endpoint = unsaved(job.owner_id, config)
    endpoint.job = job
    endpoint.save(force_insert=True)
    return endpoint


def unsaved(owner_id: int, config: Json) -> Endpoint:
    """The endpoint of a validated request, not written yet."""
    return Endpoint(
        owner_id=owner_id,
        protocol=config["protocol"],
        host=config["host"],
        port=config["port"],
        username=config["username"],
        options={"host_key": config["host_key"]} if config.get("host_key") else {},
        sealed=secrets.seal({name: config.get(name, "") for name in SECRETS}),
    )


def public(config: Json) -> Json:
    """What an answer shows of a side: all but the secrets, which are empty."""
    return {name: "" if name in SECRETS else value for name, value in config.items()}


def claim_key(config: Json) -> str:
    """Which server a tree is on, for `sessions_app.claims`."""
    if config["protocol"] == "local":
        return "local"
    host = config["host"].lower().rstrip(".")
    port = config["port"] or DEFAULT_PORTS[config["protocol"]]
    return f"{config['protocol']}://{config['username']}@{host}:{port}"


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a job, ready to connect: `root` absolute."""

    endpoint: Endpoint
    address: base.Address
    root: bytes

    @property
    def learns_host_key(self) -> bool:
        """Whether the key that the server shows is to be pinned."""
        keys = self.address.host_keys
        return self.address.protocol == "sftp" and keys.demanded is None and keys.pinned is None


def side(endpoint_id: int, root: str) -> Side:
    """The side that a job's parameters name. Raises Endpoint.DoesNotExist, secrets.CannotOpen."""
    return side_of(Endpoint.objects.get(pk=endpoint_id), root)


def side_of(endpoint: Endpoint, root: str) -> Side:
    """The side of an endpoint, stored or not. Raises secrets.CannotOpen."""
    opened = secrets.unseal(endpoint.sealed)
    is_local = endpoint.protocol == "local"
    address = base.Address(
        protocol=endpoint.protocol,
        host=endpoint.host,
        port=endpoint.port,
        username=endpoint.username,
        host_keys=base.HostKeyPolicy() if is_local else _policy(endpoint),
        local_roots=tuple(settings.LOCAL_ROOTS) if is_local else (),
        forbidden=(str(settings.DATA_DIR),) if is_local else (),
        **opened,
    )
    return Side(endpoint, address, root.encode())


def _policy(endpoint: Endpoint) -> base.HostKeyPolicy:
    pinned = _pins(endpoint).values_list("fingerprint", flat=True).first()
    return base.HostKeyPolicy(
        demanded=endpoint.options.get("host_key"), pinned=pinned, is_strict=settings.HOST_KEYS == "strict"
    )


def _pins(endpoint: Endpoint) -> Any:
    port = endpoint.port or DEFAULT_PORTS[endpoint.protocol]
    return HostKey.objects.filter(owner_id=endpoint.owner_id, host=endpoint.host.lower(), port=port)


def pin(endpoint: Endpoint, key: base.HostKey) -> str:
    """Pin a server's key at first use: a sentence for the log, or the empty text when another job did it meanwhile.

    Raises HostKeyRejected when that one pinned another key.
    """
    port = endpoint.port or DEFAULT_PORTS[endpoint.protocol]
    row, is_new = HostKey.objects.get_or_create(
        owner_id=endpoint.owner_id,
        host=endpoint.host.lower(),
        port=port,
        defaults={"algorithm": key.algorithm, "fingerprint": key.fingerprint},
    )
    where = f"{endpoint.host}:{port}"
    if row.fingerprint != key.fingerprint:
        raise HostKeyRejected(
            f"The host key of {where} is {key.fingerprint} here and {row.fingerprint} for another job."
        )
    return (
        f"First connection to {where}: its host key {key.algorithm} {key.fingerprint} is pinned."
        if is_new
        else ""
    )


def local_refusal(root: str) -> str:
    """Why a folder of this machine may not be reached, as a sentence; empty when it may."""
    if not settings.LOCAL_ROOTS:
        return "Folders of this machine are not open to jobs; HAULIER_LOCAL_ROOTS names those that are."
    if _is_below(root, [posixpath.realpath(str(settings.DATA_DIR)), str(settings.DATA_DIR)]):
        return "This is Haulier's own data directory, which no job may reach."
    if not _is_below(root, settings.LOCAL_ROOTS):
        return f"Only these folders of this machine are open to jobs: {', '.join(settings.LOCAL_ROOTS)}."
    return ""


def _is_below(path: str, folders: Sequence[str]) -> bool:
    return any((path.rstrip("/") + "/").startswith(folder.rstrip("/") + "/") for folder in folders)


def overlap_refusal(source: Json, destination: Json) -> str:
    """Why a source may not be copied to a destination on the same server, as a sentence; empty when it may."""
    if claim_key(source) != claim_key(destination):
        return ""
    if destination["root_path"].rstrip("/") == source["root_path"].rstrip("/"):
        return "Source and destination are the same folder."
    if _is_below(destination["root_path"], [source["root_path"]]):
        return "The destination lies inside the source: the copy would contain itself."
    return ""
