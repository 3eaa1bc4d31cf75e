"""The sides of a job: from a validated request to stored rows, and from there to addresses."""

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from django.conf import settings
from django.db.models import QuerySet

from migration_app import secrets
from migration_app.models import Endpoint, HostKey
from migration_app.storages import base
from migration_app.storages.errors import HostKeyRejected
from sessions_app.addresses import is_loopback
from sessions_app.models import Job, User

Json = dict[str, Any]

DEFAULT_PORTS = {"sftp": 22}
MOST_CONNECTIONS = 4
"""To one server at once, where no setting says another number."""
SECRETS = ("password", "ssh_key", "passphrase")
BANDWIDTH = ("bandwidth_limit", "bandwidth_timetable", "bandwidth_timezone")
"""Of all jobs that use a stored connection, and of a transfer."""
JUMP = "jump_"
"""Stands before the names of a jump host's secrets where they are sealed with those of the server behind it."""


def store(job: Job, config: Json) -> Endpoint:
    """Write the endpoint of one side of a job; secrets are sealed, or left where they are stored.

    Raises Endpoint.DoesNotExist when the stored connection has been deleted meanwhile.
    """
    endpoint = unsaved(job.owner_id, config)
    for number in (endpoint.connection_id, endpoint.options.get("jump", {}).get("connection")):
        if number is not None:
            # Held until the job is written: from then on it cannot be deleted.
            Endpoint.objects.select_for_update().get(pk=number)
    endpoint.job = job
    endpoint.save(force_insert=True)
    return endpoint


def unsaved(owner_id: int, config: Json) -> Endpoint:
    """The endpoint of a validated request, not written yet."""
    options = {name: config[name] for name in ("host_key", "max_connections", *BANDWIDTH) if config.get(name)}
    if jump := config.get("jump"):
        options["jump"] = {name: value for name, value in jump.items() if value and name not in SECRETS}
    return Endpoint(
        owner_id=owner_id,
        connection_id=config.get("connection"),
        protocol=config["protocol"],
        host=config["host"],
        port=config["port"],
        username=config["username"],
        options=options,
        sealed=secrets.seal(secrets_of(config)),
    )


def secrets_of(config: Json) -> dict[str, str]:
    """The secrets of a validated side by the names under which they are sealed, those that are not given too."""
    jump = config.get("jump", {})
    found = {name: config.get(name, "") for name in SECRETS}
    return found | {JUMP + name: jump.get(name, "") for name in SECRETS}


def split_secrets(held: dict[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """What was sealed together: the server's own secrets, and those of the jump host before it."""
    own = {name: value for name, value in held.items() if not name.startswith(JUMP)}
    return own, {name.removeprefix(JUMP): value for name, value in held.items() if name.startswith(JUMP)}


def merged_secrets(known: dict[str, str], given: dict[str, str]) -> dict[str, str]:
    """Secrets that are there with those that are given now, by the names under which they are sealed."""
    found = dict(known)
    for prefix in ("", JUMP):
        if f"{prefix}ssh_key" in given:
            # It belonged to the key that is replaced.
            found.pop(f"{prefix}passphrase", None)
    return found | given


def entered_secrets(conn: Json) -> dict[str, str]:
    """All secrets of a side as it was entered, not validated yet, by the names under which they are sealed."""
    jump = _entered_jump(conn)
    found = {name: conn.get(name, "") for name in SECRETS}
    return found | {JUMP + name: jump.get(name, "") for name in SECRETS}


def with_secrets(conn: Json, held: dict[str, str]) -> Json:
    """A side as it was entered, with secrets that were sealed."""
    own, of_jump = split_secrets(held)
    return conn | own | ({"jump": conn["jump"] | of_jump} if of_jump else {})


def entered_account(conn: Json) -> list[Any]:
    """Whose secrets a side has, as it was entered: of the server and, as they may go there too, of the jump host."""
    jump = _entered_jump(conn)
    hop = _entered_place(jump) if jump else ()
    return [*_entered_place(conn), *hop, str(jump.get("connection", ""))]


def _entered_jump(conn: Json) -> Json:
    """The jump host; where it could not be read it is told as an error, and nothing goes there."""
    jump = conn.get("jump")
    return jump if isinstance(jump, dict) else {}


def _entered_place(server: Json) -> "Account":
    port = server.get("port") or 0
    host, user = str(server.get("host", "")).strip(), str(server.get("username", ""))
    return account_of("sftp", host, port if isinstance(port, int) else 0, user)


def public(config: Json) -> Json:
    """What an answer shows of a side: all but the secrets, which are empty."""
    found = {name: "" if name in SECRETS else value for name, value in config.items() if name != "connection"}
    return found | ({"jump": _public_jump(config["jump"])} if "jump" in config else {})


def _public_jump(jump: Json) -> Json:
    found = {"host": jump["host"], "port": jump.get("port", 0), "username": jump["username"]}
    if jump.get("connection"):
        return {"connection": str(jump["connection"])} | found
    if jump.get("host_key"):
        found["host_key"] = jump["host_key"]
    return found | dict.fromkeys(SECRETS, "")


def jump_of(endpoint: Endpoint) -> Endpoint | None:
    """The server that the way to an endpoint goes through, as an endpoint that is not written."""
    jump = endpoint.options.get("jump")
    if not jump:
        return None
    return Endpoint(
        owner=endpoint.owner,
        connection_id=jump.get("connection"),
        protocol="sftp",
        host=jump["host"],
        port=jump.get("port", 0),
        username=jump["username"],
        options={"host_key": jump["host_key"]} if jump.get("host_key") else {},
    )


def servers_of(endpoint: Endpoint) -> list[Endpoint]:
    """The servers on the way to an endpoint, in their order; none of a local folder."""
    jump = jump_of(endpoint)
    return [] if endpoint.protocol == "local" else [endpoint] if jump is None else [jump, endpoint]


Account = tuple[str, str, int, str]


def account_of(protocol: str, host: str, port: int, username: str) -> Account:
    """Protocol, host, port and user in the form in which equal ones are equal."""
    return protocol, host.lower().rstrip("."), port or DEFAULT_PORTS.get(protocol, 0), username


def account(endpoint: Endpoint) -> Account:
    """Whose secret an endpoint holds."""
    return account_of(endpoint.protocol, endpoint.host, endpoint.port, endpoint.username)


def jump_account(endpoint: Endpoint) -> tuple[Account, int | None] | None:
    """Whose secret the jump host of an endpoint gets, and the stored connection that has it."""
    jump = jump_of(endpoint)
    return (account(jump), jump.connection_id) if jump is not None else None


def has_secret(endpoint: Endpoint) -> bool:
    """Whether what a side signs in with is stored, so that any process can."""
    if endpoint.protocol == "local":
        return True
    try:
        address = side_at(endpoint, "/").address
    except secrets.CannotOpen:
        return False
    return all(hop.password or hop.ssh_key for hop in (address, address.jump) if hop is not None)


def is_same_account(stored: Endpoint, config: Json) -> bool:
    """Whether a request is about the account of a stored connection."""
    read = config.get
    wanted = account_of(read("protocol", ""), read("host", ""), read("port", 0), read("username", ""))
    return account(stored) == wanted


def stored_for(owner: User, config: Json) -> Endpoint | None:
    """The owner's stored connection that has a secret for the account of a request, the newest of several.

    One with the jump host of the request comes first.
    """
    wanted = account_of(config["protocol"], config["host"], config["port"], config["username"])
    found = Endpoint.objects.stored().filter(owner=owner, protocol=wanted[0], username=wanted[3])
    fitting = [one for one in found.exclude(sealed="").order_by("-pk") if account(one) == wanted]
    way = jump_account(unsaved(owner.pk, config))
    return next((one for one in fitting if jump_account(one) == way), fitting[0] if fitting else None)


def jump_refusal(stored: Endpoint, config: Json) -> str:
    """Why the secrets of a stored connection are not for the jump host of a request, as a sentence; else empty.

    A jump host without secrets of its own gets those of the server behind it: whoever may use a connection, but never
    see its secrets, could have them sent to a server of his own.
    """
    wanted = unsaved(stored.owner_id, config)
    if not _shares_secrets(wanted) or jump_account(stored) == jump_account(wanted):
        return ""
    return f"Give it a password or key of its own: those of the connection {stored.name} are not sent there."


def _shares_secrets(endpoint: Endpoint) -> bool:
    """Whether the jump host of an endpoint has neither secrets of its own nor a stored connection."""
    jump = jump_of(endpoint)
    _, own = split_secrets(secrets.unseal_or_nothing(endpoint.sealed))
    return jump is not None and jump.connection_id is None and not _can_sign_in(own)


def _can_sign_in(held: dict[str, str]) -> bool:
    return "password" in held or "ssh_key" in held


def needs_agent(config: Json) -> bool:
    """Whether a validated side names nothing to sign in with, so that only an SSH agent can."""
    return (
        config["protocol"] != "local"
        and "connection" not in config
        and not any(config[name] for name in ("password", "ssh_key"))
    )


def find_stored(owner: User, number: Any) -> Endpoint | None:
    """One of the owner's stored connections by its id as text; None for whatever is none."""
    if not (isinstance(number, str) and number.isascii() and number.isdigit() and len(number) < 19):
        return None
    return Endpoint.objects.stored().filter(owner=owner, pk=int(number)).first()


def bandwidth(stored: Endpoint) -> Json:
    """The limit of a stored connection, those of its fields that are set."""
    return {name: stored.options[name] for name in BANDWIDTH if stored.options.get(name)}


def fields(stored: Endpoint) -> Json:
    """A stored connection as the fields of a Conn, without its secrets."""
    found: Json = {
        "protocol": stored.protocol,
        "host": stored.host,
        "port": stored.port,
        "username": stored.username,
        "root_path": stored.root_path,
    }
    for name in ("host_key", "max_connections"):
        if stored.options.get(name):
            found[name] = stored.options[name]
    if stored.options.get("jump"):
        found["jump"] = _public_jump(stored.options["jump"])
    return found


def claim_key(config: Json) -> str:
    """Which server a tree is on, for `sessions_app.claims`, whoever signs in there."""
    if config["protocol"] == "local":
        return "local"
    protocol, host, port, _ = account_of(
        config["protocol"], config["host"], config["port"], config["username"]
    )
    if is_loopback(host):
        # Behind a jump host, that host itself is meant.
        host = config["jump"]["host"].lower() if "jump" in config else "localhost"
    return f"{protocol}://{'localhost' if is_loopback(host) else host}:{port}"


def server_key(endpoint: Endpoint) -> str:
    """Which server an endpoint connects to, whoever signs in there: by it connections are counted."""
    jump = jump_of(endpoint)
    return _server_key(endpoint.protocol, endpoint.host, endpoint.port, jump.host if jump is not None else "")


def address_key(address: base.Address) -> str:
    """The `server_key` of an address."""
    return _server_key(
        address.protocol, address.host, address.port, address.jump.host if address.jump else ""
    )


def _server_key(protocol: str, host: str, port: int, jump: str) -> str:
    protocol, host, port, _ = account_of(protocol, host, port, "")
    # The same name may well be another server behind a jump host.
    return f"{protocol}://{host}:{port}" + (f" through {jump.lower()}" if jump else "")


def most_connections(endpoint: Endpoint) -> int:
    """How many connections to its server all jobs together may have open."""
    chosen = endpoint if endpoint.connection is None else endpoint.connection
    return int(chosen.options.get("max_connections", MOST_CONNECTIONS))


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a job, ready to connect: `root` absolute."""

    endpoint: Endpoint
    address: base.Address
    root: bytes

    @property
    def learns_host_key(self) -> bool:
        """Whether a key that a server on the way shows is to be pinned."""
        hops = (self.address, self.address.jump)
        return any(_learns_host_key(hop) for hop in hops if hop is not None)

    def unpinned(self, trace: base.Trace) -> list[tuple[Endpoint, base.HostKey]]:
        """The keys that were shown and are to be pinned, with the servers that they are of."""
        shown = [(self.endpoint, self.address, trace.host_key)]
        jump = jump_of(self.endpoint)
        if jump is not None and self.address.jump is not None:
            shown.insert(0, (jump, self.address.jump, trace.jump_host_key))
        return [(server, key) for server, hop, key in shown if key is not None and _learns_host_key(hop)]


def _learns_host_key(address: base.Address) -> bool:
    keys = address.host_keys
    return address.protocol == "sftp" and keys.demanded is None and keys.pinned is None


def keeps_no_times(endpoint: Endpoint, root: str) -> bool:
    """Whether an earlier transfer to this folder found that no mtimes can be set there."""
    return _without_times(endpoint, root).exists()


def note_times(endpoint: Endpoint, root: str, *, are_kept: bool) -> None:
    """Note for later transfers to a folder whether mtimes can be set there."""
    for one in _without_times(endpoint, root) if are_kept else [endpoint]:
        options = {name: value for name, value in one.options.items() if name != "keeps_no_times_in"}
        one.options = options if are_kept else options | {"keeps_no_times_in": root}
        one.save(update_fields=["options"])


def _without_times(endpoint: Endpoint, root: str) -> "QuerySet[Endpoint]":
    return Endpoint.objects.filter(
        owner=endpoint.owner_id,
        protocol=endpoint.protocol,
        host=endpoint.host,
        port=endpoint.port,
        username=endpoint.username,
        options__keeps_no_times_in=root,
    )


def side(endpoint_id: int, root: str) -> Side:
    """The side that a job's parameters name. Raises Endpoint.DoesNotExist, secrets.CannotOpen."""
    return side_at(Endpoint.objects.select_related("connection", "owner").get(pk=endpoint_id), root)


def side_at(endpoint: Endpoint, root: str, *, asks_first: bool = False) -> Side:
    """The side of an endpoint, written or not; `asks_first` has an unknown host key refused.

    Raises secrets.CannotOpen.
    """
    own, of_jump = split_secrets(_opened(endpoint))
    address = _address(endpoint, own, asks_first=asks_first)
    jump = jump_of(endpoint)
    if jump is not None:
        if jump.connection_id is not None:
            of_jump, _ = split_secrets(_opened_of_stored(jump, jump.connection_id))
        elif not _can_sign_in(of_jump):
            of_jump = own
        address = replace(address, jump=_address(jump, of_jump, asks_first=asks_first))
    return Side(endpoint, address, root.encode())


def _address(endpoint: Endpoint, held: dict[str, str], *, asks_first: bool) -> base.Address:
    is_local = endpoint.protocol == "local"
    return base.Address(
        protocol=endpoint.protocol,
        host=endpoint.host,
        port=endpoint.port,
        username=endpoint.username,
        password=held.get("password", ""),
        ssh_key=held.get("ssh_key", ""),
        passphrase=held.get("passphrase", ""),
        agent="" if is_local else agent_of(endpoint.owner),
        host_keys=base.HostKeyPolicy() if is_local else _policy(endpoint, asks_first=asks_first),
        local_roots=tuple(settings.LOCAL_ROOTS) if is_local else (),
        forbidden=(str(settings.DATA_DIR),) if is_local else (),
    )


def agent_of(user: User) -> str:
    """The SSH agent of this process, for owners alone: its keys are those of the person who started the server."""
    return str(settings.SSH_AGENT) if user.is_owner else ""


def _opened(endpoint: Endpoint) -> dict[str, str]:
    """The secrets of an endpoint, from where they are stored. Raises secrets.CannotOpen."""
    held = secrets.unseal(endpoint.sealed)
    stored = endpoint.connection
    if stored is None:
        return held
    is_same_way = jump_account(stored) == jump_account(endpoint)
    if _shares_secrets(endpoint) and not is_same_way:
        raise secrets.CannotOpen(f"The stored connection {stored.name} goes another way now.")
    kept = _opened_of_stored(endpoint, stored.pk)
    return (kept if is_same_way else split_secrets(kept)[0]) | held


def _opened_of_stored(endpoint: Endpoint, number: int) -> dict[str, str]:
    stored = Endpoint.objects.stored().filter(pk=number, owner=endpoint.owner_id).first()
    if stored is None:
        raise secrets.CannotOpen(f"The stored connection to {endpoint.server} has been deleted.")
    if account(stored) != account(endpoint):
        raise secrets.CannotOpen(f"The stored connection {stored.name} is of another server or user now.")
    return secrets.unseal(stored.sealed)


def _policy(endpoint: Endpoint, *, asks_first: bool) -> base.HostKeyPolicy:
    pinned = _pins(endpoint).values_list("fingerprint", flat=True).first()
    return base.HostKeyPolicy(
        demanded=endpoint.options.get("host_key"),
        pinned=pinned,
        is_strict=asks_first or settings.HOST_KEYS == "strict",
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


def pinned_key(endpoint: Endpoint) -> HostKey | None:
    """The key that is pinned for an endpoint's server."""
    found: HostKey | None = _pins(endpoint).first() if endpoint.protocol != "local" else None
    return found


def takes_any_key(endpoint: Endpoint) -> bool:
    """Whether the key that a server shows next would be pinned unseen."""
    is_sftp = endpoint.protocol == "sftp"
    return is_sftp and not endpoint.options.get("host_key") and not _pins(endpoint).exists()


def forget_pins(before: Endpoint, after: Endpoint) -> None:
    """Forget the keys of servers that a changed connection does not use any more, unless another of the owner does."""
    others = Endpoint.objects.stored().filter(owner_id=before.owner_id).exclude(pk=before.pk)
    kept = {account(server)[:3] for other in others for server in servers_of(other)}
    same = [account(server) for server in servers_of(after)]
    for server in servers_of(before):
        if account(server) not in same and account(server)[:3] not in kept:
            _pins(server).delete()


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


def overlap_refusal(source: Json, destination: Json, *, deletes: bool = False) -> str:
    """Why a source may not be copied to a destination on the same server, as a sentence; empty when it may.

    `deletes`: what only the destination has is deleted there.
    """
    # The same address behind different jump hosts may well be two servers.
    hosts = [config.get("jump", {}).get("host", "").lower() for config in (source, destination)]
    if claim_key(source) != claim_key(destination) or len(set(hosts)) > 1:
        return ""
    if destination["root_path"].rstrip("/") == source["root_path"].rstrip("/"):
        return "Source and destination are the same folder."
    if _is_below(destination["root_path"], [source["root_path"]]):
        return "The destination lies inside the source: the copy would contain itself."
    if deletes and _is_below(_real_root(source), [_real_root(destination)]):
        return "The source lies inside the destination: it would be deleted."
    return ""


def _real_root(config: Json) -> str:
    """A root without links, as far as they are on this machine."""
    root: str = config["root_path"]
    return posixpath.realpath(root) if config["protocol"] == "local" else root
