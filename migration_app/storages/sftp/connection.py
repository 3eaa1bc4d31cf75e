"""Connecting: host key, authentication, the SFTP subsystem; everything that can go wrong in one clear sentence."""

import asyncio
import socket

import asyncssh

from migration_app.storages.base import Address, Guard, HostKey, HostKeyPolicy
from migration_app.storages.errors import (
    AuthenticationFailed,
    ConnectFailed,
    HostKeyRejected,
    StorageError,
)
from migration_app.storages.sftp.wire import SftpWire, readable

CONNECT_S = 8.0
DEFAULT_PORT = 22
CHANNEL_WINDOW = 16 * 1024 * 1024
LARGEST_PACKET = 128 * 1024
# With AES-NI a third faster than chacha20, which OpenSSH would prefer.
CIPHERS = (
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "chacha20-poly1305@openssh.com",
    "aes128-ctr",
    "aes256-ctr",
)


class _Client(asyncssh.SSHClient):
    """Judges the host key."""

    def __init__(self, where: str, policy: HostKeyPolicy) -> None:
        self.host_key: HostKey | None = None
        self.refusal: HostKeyRejected | None = None
        self._where = where
        self._policy = policy

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        """Whether the key is taken; asyncssh asks before it authenticates."""
        algorithm = key.get_algorithm()
        self.host_key = HostKey(algorithm, key.get_fingerprint("sha256"))
        sentence = self._objection(self.host_key)
        self.refusal = HostKeyRejected(sentence) if sentence else None
        return self.refusal is None

    def _objection(self, key: HostKey) -> str:
        policy, found = self._policy, f"{key.algorithm} {key.fingerprint}"
        if policy.demanded is not None:
            if key.fingerprint != policy.demanded:
                return f"The host key of {self._where} is {found}, not the demanded {policy.demanded}."
            return ""
        if policy.pinned is not None:
            if key.fingerprint != policy.pinned:
                return (
                    f"The host key of {self._where} has changed: it was {policy.pinned}, now it is {found}. "
                    "Somebody may be in between, or the server was set up anew."
                )
            return ""
        return f"The host key of {self._where} is unknown: {found}." if policy.is_strict else ""


async def open_wire(
    address: Address, guard: Guard
) -> tuple[asyncssh.SSHClientConnection, SftpWire, HostKey | None]:
    """Connect and start SFTP within CONNECT_S.

    Raises ConnectFailed, AuthenticationFailed or HostKeyRejected.
    """
    port = address.port or DEFAULT_PORT
    where = f"[{address.host}]:{port}" if ":" in address.host else f"{address.host}:{port}"
    client = _Client(where, address.host_keys)
    connection: asyncssh.SSHClientConnection | None = None
    try:
        async with asyncio.timeout(CONNECT_S):
            connection = await _connect(address, port, client)
            wire = await _start(connection, where, guard)
            return connection, wire, client.host_key
    except BaseException as error:
        if connection is not None:
            connection.abort()
        if client.refusal is not None:
            raise client.refusal from error
        if isinstance(error, Exception):
            raise _translated(error, address, where) from error
        raise


async def _connect(address: Address, port: int, client: _Client) -> asyncssh.SSHClientConnection:
    return await asyncssh.connect(
        address.host,
        port,
        client_factory=lambda: client,
        # Nothing of the account that Haulier runs under: no ~/.ssh, no agent, no known hosts.
        config=None,
        known_hosts=([], [], []),
        agent_path=None,
        gss_host=None,
        username=address.username,
        password=address.password or None,
        client_keys=_keys(address),
        encryption_algs=CIPHERS,
        compression_algs=None,
        keepalive_interval=15,
        connect_timeout=CONNECT_S,
        login_timeout=CONNECT_S,
    )


def _keys(address: Address) -> list[asyncssh.SSHKey] | None:
    if not address.ssh_key:
        return None
    try:
        return [asyncssh.import_private_key(address.ssh_key, address.passphrase or None)]
    except asyncssh.KeyEncryptionError:
        reason = "has another passphrase" if address.passphrase else "needs a passphrase"
        raise AuthenticationFailed(f"The private key {reason}.") from None
    except asyncssh.KeyImportError:
        raise AuthenticationFailed("The text given as private key is none that can be read.") from None


async def _start(connection: asyncssh.SSHClientConnection, where: str, guard: Guard) -> SftpWire:
    wire = SftpWire(guard)
    try:
        await connection.create_session(
            lambda: wire,
            subsystem="sftp",
            encoding=None,
            window=CHANNEL_WINDOW,
            max_pktsize=LARGEST_PACKET,
        )
    except asyncssh.ChannelOpenError as error:
        raise ConnectFailed(f"{where} lets this account in but offers it no SFTP.") from error
    await wire.start()
    return wire


def _translated(error: Exception, address: Address, where: str) -> StorageError:
    if isinstance(error, StorageError):
        return error
    if isinstance(error, asyncssh.PermissionDenied):
        tried = [name for name, given in (("password", address.password), ("key", address.ssh_key)) if given]
        with_what = f"with this {' and '.join(tried)}" if tried else "without a password or key"
        return AuthenticationFailed(f"{where} does not let user {address.username!r} in {with_what}.")
    if isinstance(error, TimeoutError):
        return ConnectFailed(f"{where} did not answer within {CONNECT_S:.0f} s.")
    if isinstance(error, socket.gaierror):
        return ConnectFailed(f"The name {address.host} is not known.")
    if isinstance(error, ConnectionRefusedError):
        return ConnectFailed(f"{where} refuses connections: nothing listens on that port.")
    if isinstance(error, OSError):
        return ConnectFailed(f"{where} cannot be reached: {error.strerror or type(error).__name__}.")
    if isinstance(error, asyncssh.Error):
        return ConnectFailed(f"{where} does not speak SSH with us: {readable(error.reason)}.")
    return ConnectFailed(f"{where} cannot be used ({type(error).__name__}).")
