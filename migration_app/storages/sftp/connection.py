"""Connecting: host key, authentication, the SFTP subsystem; everything that can go wrong in one clear sentence."""

import asyncio
import base64
import secrets
import socket
from collections.abc import Sequence

import asyncssh

from migration_app.storages.base import CONNECT_S, Address, Guard, HostKey, HostKeyPolicy, Trace
from migration_app.storages.errors import (
    AuthenticationFailed,
    ConnectFailed,
    HostKeyRejected,
    StorageError,
)
from migration_app.storages.names import shown
from migration_app.storages.sftp.guarded_socket import GuardedSocket, connect_socket
from migration_app.storages.sftp.packets import MalformedPacket
from migration_app.storages.sftp.wire import SftpWire, readable

DEFAULT_PORT = 22
CHANNEL_WINDOW = 16 * 1024 * 1024
LARGEST_PACKET = 128 * 1024
SHELL_S = 3.0
MOST_SAID = 64 * 1024
# With AES-NI a third faster than chacha20, which OpenSSH would prefer.
CIPHERS = (
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "chacha20-poly1305@openssh.com",
    "aes128-ctr",
    "aes256-ctr",
)
# Always in this order, so that a server with several keys shows the same one every time; no certificates, which
# would hide the key that a fingerprint is of.
KEY_FAMILIES = (
    ("ssh-ed25519",),
    ("ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521"),
    ("rsa-sha2-512", "rsa-sha2-256", "ssh-rsa"),
)
# A server that has no key of the asked families hangs up, sometimes before it can be understood why.
_NO_SUCH_KEY = (asyncssh.KeyExchangeFailed, asyncssh.ConnectionLost, ConnectionError)
_family_of: dict[str, tuple[str, ...]] = {}
"""Of fingerprints that were asked for and found: spares the next connection the search."""


class _Client(asyncssh.SSHClient):
    """Judges the host key, and gives the password to servers that ask for it as one of several questions."""

    def __init__(self, where: str, address: Address, trace: Trace) -> None:
        self.trace = trace
        self.host_key: HostKey | None = None
        self.refusal: HostKeyRejected | None = None
        self._where = where
        self._policy: HostKeyPolicy = address.host_keys
        self._password = address.password
        self._is_password_told = False

    def kbdint_auth_requested(self) -> str | None:
        """Whether questions may be asked; many servers take passwords in this way only."""
        return "" if self._password and not self._is_password_told else None

    def kbdint_challenge_received(
        self, name: str, instructions: str, lang: str, prompts: Sequence[tuple[str, bool]]
    ) -> Sequence[str] | None:
        """Answer the question for the password, in whatever language, once; nothing else can be answered."""
        if not prompts:
            return []
        if len(prompts) != 1 or prompts[0][1] or self._is_password_told:
            return None
        self._is_password_told = True
        return [self._password]

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        """Whether the key is taken; asyncssh asks before it authenticates."""
        algorithm = key.get_algorithm()
        self.host_key = self.trace.host_key = HostKey(algorithm, key.get_fingerprint("sha256"))
        self.trace.reach("handshake")
        sentence = self._objection(self.host_key)
        self.refusal = HostKeyRejected(sentence) if sentence else None
        if self.refusal is None:
            self.trace.reach("host_key")
        return self.refusal is None

    def auth_completed(self) -> None:
        """The server has let us in."""
        self.trace.reach("login")

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
    address: Address, guard: Guard, trace: Trace
) -> tuple[asyncssh.SSHClientConnection, SftpWire, HostKey | None]:
    """Connect and start SFTP within CONNECT_S.

    Raises ConnectFailed, AuthenticationFailed or HostKeyRejected.
    """
    port = address.port or DEFAULT_PORT
    host = shown(address.host)
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        async with asyncio.timeout(CONNECT_S):
            keys = await _keys(address)
            return await _find_key(address, port, where, keys, guard, trace)
    except Exception as error:
        raise _translated(error, address, where) from error


async def _find_key(
    address: Address,
    port: int,
    where: str,
    keys: list[asyncssh.SSHKey] | None,
    guard: Guard,
    trace: Trace,
) -> tuple[asyncssh.SSHClientConnection, SftpWire, HostKey | None]:
    """Connect; when one key is wanted and the server shows another, see whether it has that one too.

    A server shows one key, of the algorithm agreed on, and a fingerprint does not tell its algorithm.
    """
    wanted = address.host_keys.demanded or address.host_keys.pinned
    known = _family_of.get(wanted) if wanted else None
    client = _Client(where, address, trace)
    try:
        found = await _attempt(
            address, port, where, keys, guard, client, [known] if known else [*KEY_FAMILIES]
        )
    except _NO_SUCH_KEY:
        if wanted is None or _family_of.pop(wanted, None) is None:
            raise
        # The server has no key of that family any more: the refusal should name the one that it has.
        return await _find_key(address, port, where, keys, guard, trace)
    except HostKeyRejected as refusal:
        seen, reached = client.host_key, dict(trace.reached)
        if wanted is None or seen is None:
            raise
        for family in KEY_FAMILIES:
            if family == known or seen.algorithm in family:
                continue
            try:
                other = _Client(where, address, trace)
                found = await _attempt(address, port, where, keys, guard, other, [family])
            except (HostKeyRejected, *_NO_SUCH_KEY):
                continue  # another key, or none of this family
            _family_of[wanted] = family
            return found
        trace.host_key, trace.reached = seen, reached
        raise refusal
    return found


async def _attempt(
    address: Address,
    port: int,
    where: str,
    keys: list[asyncssh.SSHKey] | None,
    guard: Guard,
    client: _Client,
    families: list[tuple[str, ...]],
) -> tuple[asyncssh.SSHClientConnection, SftpWire, HostKey | None]:
    connection: asyncssh.SSHClientConnection | None = None
    link: GuardedSocket | None = None
    try:
        link = await connect_socket(address.host, port, guard, client.trace.reach)
        connection = await asyncssh.connect(
            address.host,
            port,
            sock=link,
            client_factory=lambda: client,
            # Nothing of the account that Haulier runs under: no ~/.ssh, no agent, no known hosts.
            config=None,
            known_hosts=([], [], []),
            server_host_key_algs=[algorithm for family in families for algorithm in family],
            agent_path=None,
            gss_host=None,
            username=address.username,
            password=address.password or None,
            client_keys=keys,
            encryption_algs=CIPHERS,
            compression_algs=None,
            keepalive_interval=15,
            # CONNECT_S, around all of this, comes first.
            connect_timeout=2 * CONNECT_S,
            login_timeout=2 * CONNECT_S,
        )
        wire = await _start(connection, where, guard)
        client.trace.reach("session")
    except BaseException as error:
        if connection is not None:
            connection.abort()
        elif link is not None:
            link.close()
        if client.refusal is not None and isinstance(error, Exception):
            raise client.refusal from error
        raise
    return connection, wire, client.host_key


async def _keys(address: Address) -> list[asyncssh.SSHKey] | None:
    if not address.ssh_key:
        return None
    # What is pasted into a form often ends its lines as Windows does, or lacks the last end.
    text = "\n".join(address.ssh_key.split("\r\n")).strip() + "\n"
    try:
        # A passphrase is slow to try by design, and how slow is the key's own choice.
        key = await asyncio.to_thread(asyncssh.import_private_key, text, address.passphrase or None)
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError, ValueError):
        if _is_encrypted(text):
            reason = "has another passphrase" if address.passphrase else "needs a passphrase"
            raise AuthenticationFailed(f"The private key {reason}.") from None
        raise AuthenticationFailed("The text given as private key is none that can be read.") from None
    return [key]


def _is_encrypted(text: str) -> bool:
    """Whether a private key wants a passphrase; asyncssh's errors do not tell that apart."""
    lines = text.splitlines()
    if any("ENCRYPTED" in line for line in lines[:3]):
        return True
    try:
        data = base64.b64decode("".join(line for line in lines if not line.startswith("-")))
    except ValueError:
        return False
    # OpenSSH's PROTOCOL.key: a magic word, then the name of the cipher.
    return data.startswith(b"openssh-key-v1\0") and not data[15:].startswith(b"\0\0\0\4none")


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
        await wire.start()
    except asyncssh.ChannelOpenError as error:
        raise ConnectFailed(f"{where} lets this account in but offers it no SFTP.") from error
    except (StorageError, MalformedPacket) as error:
        raise ConnectFailed(f"{where} lets this account in, but SFTP does not start: {error}") from error
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
        return ConnectFailed(f"{where} cannot be reached: the name is not known.")
    if isinstance(error, UnicodeError):
        return ConnectFailed(f"{where} cannot be reached: that is no name of a host.")
    if isinstance(error, ConnectionRefusedError):
        return ConnectFailed(f"{where} refuses connections: nothing listens on that port.")
    if isinstance(error, OSError):
        return ConnectFailed(
            f"{where} cannot be reached: {readable(error.strerror or type(error).__name__)}."
        )
    if isinstance(error, asyncssh.Error):
        return ConnectFailed(f"{where} does not speak SSH with us: {readable(error.reason)}.")
    return ConnectFailed(f"{where} cannot be used ({type(error).__name__}).")


async def has_shell(connection: asyncssh.SSHClientConnection) -> bool:
    """Whether commands can be run: an account for SFTP alone refuses, or answers with something else."""
    word = secrets.token_hex(8)
    said = ""
    try:
        async with asyncio.timeout(SHELL_S):
            # A refusal may repeat the command, but only a shell takes the quotes away.
            process = await connection.create_process(
                f"echo {word[:8]}''{word[8:]}", errors="replace", stdin=asyncssh.DEVNULL
            )
            try:
                while word not in said and len(said) < MOST_SAID:
                    if not (piece := await process.stdout.read(MOST_SAID)):
                        break
                    said += piece
            finally:
                process.close()
    except (asyncssh.Error, OSError):
        # TimeoutError is an OSError.
        return False
    return word in said
