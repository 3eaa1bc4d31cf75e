"""Connecting: host key, authentication, the SFTP subsystem; everything that can go wrong in one clear sentence."""

import asyncio
import secrets
import socket
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import asyncssh

from migration_app.storages.base import CONNECT_S, Address, Guard, HostKey, Trace
from migration_app.storages.errors import (
    AuthenticationFailed,
    ConnectFailed,
    HostKeyRejected,
    HungUp,
    StorageError,
)
from migration_app.storages.names import readable, shown
from migration_app.storages.sftp.guarded_socket import GuardedSocket, connect_socket
from migration_app.storages.sftp.identity import Identity, identity_of
from migration_app.storages.sftp.opening import opening
from migration_app.storages.sftp.packets import MalformedPacket
from migration_app.storages.sftp.wire import SftpWire

DEFAULT_PORT = 22
CHANNEL_WINDOW = 16 * 1024 * 1024
LARGEST_PACKET = 128 * 1024
SHELL_S = 3.0
MOST_SAID = 64 * 1024
LONGEST_QUESTION = 200
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
CLOSING_S = 0.3
"""How long a connection that refuses SFTP is looked at, whether it ends."""
# A server that has no key of the asked families hangs up, sometimes before it can be understood why.
_NO_SUCH_KEY = (asyncssh.KeyExchangeFailed, asyncssh.ConnectionLost, ConnectionError)
_family_of: dict[str, tuple[str, ...]] = {}
"""Of fingerprints that were asked for and found: spares the next connection the search."""


@dataclass(frozen=True, slots=True)
class _Server:
    """A server to sign in at, and how to get there."""

    address: Address
    guard: Guard
    trace: Trace
    via: asyncssh.SSHClientConnection | None = None
    """Signed in at the jump host, where there is one."""
    is_jump: bool = False

    @property
    def port(self) -> int:
        """The one that is meant."""
        return self.address.port or DEFAULT_PORT

    @property
    def where(self) -> str:
        """The server for people."""
        host = shown(self.address.host)
        where = f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"
        return f"{where} (the jump host)" if self.is_jump else where


class _Client(asyncssh.SSHClient):
    """Judges the host key, and gives the password to servers that ask for it as one of several questions."""

    def __init__(self, server: _Server) -> None:
        self.host_key: HostKey | None = None
        self.refusal: HostKeyRejected | None = None
        self.unanswered = ""
        """The questions that no password is the answer to, for people."""
        self._server = server
        self._password = server.address.password
        self._answered: Sequence[tuple[str, bool]] | None = None

    def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:
        """The server can be reached."""
        if self._server.via is not None:
            self._server.trace.reach("port")

    def kbdint_auth_requested(self) -> str | None:
        """Whether questions may be asked; many servers take passwords in this way only."""
        return "" if self._password and self._answered is None and not self.unanswered else None

    def kbdint_challenge_received(
        self, name: str, instructions: str, lang: str, prompts: Sequence[tuple[str, bool]]
    ) -> Sequence[str] | None:
        """Answer the question for the password, in whatever language, once; nothing else can be answered."""
        if not prompts:
            return []
        if prompts == self._answered:
            # Asked again: it was the wrong one.
            return None
        if len(prompts) != 1 or prompts[0][1] or self._answered is not None:
            asked = ", ".join(f"“{readable(text.strip())}”" for text, _ in prompts)
            self.unanswered = asked[:LONGEST_QUESTION]
            return None
        self._answered = prompts
        return [self._password]

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        """Whether the key is taken; asyncssh asks before it authenticates."""
        trace = self._server.trace
        self.host_key = trace.host_key = HostKey(key.get_algorithm(), key.get_fingerprint("sha256"))
        trace.reach("handshake")
        sentence = self._objection(self.host_key)
        self.refusal = HostKeyRejected(sentence) if sentence else None
        if self.refusal is None:
            trace.reach("host_key")
        return self.refusal is None

    def auth_completed(self) -> None:
        """The server has let us in."""
        self._server.trace.reach("login")

    def _objection(self, key: HostKey) -> str:
        policy, where = self._server.address.host_keys, self._server.where
        found = f"{key.algorithm} {key.fingerprint}"
        if policy.demanded is not None:
            if key.fingerprint != policy.demanded:
                return f"The host key of {where} is {found}, not the demanded {policy.demanded}."
            return ""
        if policy.pinned is not None:
            if key.fingerprint != policy.pinned:
                return (
                    f"The host key of {where} has changed: it was {policy.pinned}, now it is {found}. "
                    "If whoever runs the server confirms it, forget the old key on the Edit page of a connection to it."
                )
            return ""
        return f"The host key of {where} is unknown: {found}." if policy.is_strict else ""


class _Tunnel:
    """The connection to a jump host, which ends with the one that goes through it, and at once."""

    def __init__(self, via: asyncssh.SSHClientConnection) -> None:
        self._via = via

    def close(self) -> None:
        """See asyncssh's tunnels."""
        self._via.abort()

    async def wait_closed(self) -> None:
        """See asyncssh's tunnels."""
        await self._via.wait_closed()


async def open_wire(
    address: Address, guard: Guard, trace: Trace
) -> tuple[asyncssh.SSHClientConnection, SftpWire]:
    """Connect, through the jump host where there is one, and start SFTP, all within CONNECT_S.

    Raises ConnectFailed, AuthenticationFailed or HostKeyRejected.
    """
    server = _Server(address, guard, trace)
    with ExitStack() as opened:
        try:
            async with asyncio.timeout(CONNECT_S):
                if address.jump is not None:
                    server = _Server(address.jump, guard, Trace(), is_jump=True)
                    try:
                        via = await _sign_in(server)
                    finally:
                        trace.jump_host_key = server.trace.host_key
                    opened.callback(via.abort)
                    trace.reach("jump")
                    server = _Server(address, guard, trace, via)
                connection = await _sign_in(server)
                opened.callback(connection.abort)
                if server.via is not None:
                    connection.set_tunnel(_Tunnel(server.via))
                wire = await _start(connection, server.where, guard)
        except Exception as error:
            raise _translated(error, server) from error
        trace.reach("session")
        opened.pop_all()
    return connection, wire


async def _sign_in(server: _Server) -> asyncssh.SSHClientConnection:
    async with identity_of(server.address) as identity:
        return await _find_key(server, identity)


async def _find_key(server: _Server, identity: Identity) -> asyncssh.SSHClientConnection:
    """Connect; when one key is wanted and the server shows another, see whether it has that one too.

    A server shows one key, of the algorithm agreed on, and a fingerprint does not tell its algorithm.
    """
    trace = server.trace
    wanted = server.address.host_keys.demanded or server.address.host_keys.pinned
    known = _family_of.get(wanted) if wanted else None
    client = _Client(server)
    try:
        found = await _attempt(server, identity, client, [known] if known else [*KEY_FAMILIES])
    except _NO_SUCH_KEY:
        if wanted is None or _family_of.pop(wanted, None) is None:
            raise
        # The server has no key of that family any more: the refusal should name the one that it has.
        return await _find_key(server, identity)
    except HostKeyRejected as refusal:
        seen, reached = client.host_key, dict(trace.reached)
        if wanted is None or seen is None:
            raise
        for family in KEY_FAMILIES:
            if family == known or seen.algorithm in family:
                continue
            try:
                found = await _attempt(server, identity, _Client(server), [family])
            except (HostKeyRejected, *_NO_SUCH_KEY):
                continue  # another key, or none of this family
            _family_of[wanted] = family
            return found
        trace.host_key, trace.reached = seen, reached
        raise refusal
    return found


async def _attempt(
    server: _Server, identity: Identity, client: _Client, families: list[tuple[str, ...]]
) -> asyncssh.SSHClientConnection:
    address = server.address
    link: GuardedSocket | None = None
    try:
        if server.via is None:
            link = await connect_socket(address.host, server.port, server.guard, server.trace.reach)
        return await asyncssh.connect(
            address.host,
            server.port,
            sock=link,
            tunnel=server.via or (),
            client_factory=lambda: client,
            # Nothing of the account that Haulier runs under: no ~/.ssh, no known hosts, no agent but the one given.
            config=None,
            known_hosts=([], [], []),
            server_host_key_algs=[algorithm for family in families for algorithm in family],
            agent_path=None,
            gss_host=None,
            username=address.username,
            password=address.password or None,
            client_keys=identity.keys or None,
            encryption_algs=CIPHERS,
            compression_algs=None,
            keepalive_interval=15,
            # CONNECT_S, around all of this, comes first.
            connect_timeout=2 * CONNECT_S,
            login_timeout=2 * CONNECT_S,
        )
    except BaseException as error:
        if link is not None:
            link.close()
        if isinstance(error, Exception):
            if client.refusal is not None:
                raise client.refusal from error
            if isinstance(error, asyncssh.PermissionDenied):
                raise AuthenticationFailed(_refusal(server, identity, client)) from error
        raise


def _refusal(server: _Server, identity: Identity, client: _Client) -> str:
    user = f"user {server.address.username!r}"
    if client.unanswered:
        return (
            f"{server.where} asks {user} for more than a password: {client.unanswered}. "
            "Only a password can be given: use a key, or an account without a second question."
        )
    return f"{server.where} does not let {user} in {identity.said}."


async def _start(connection: asyncssh.SSHClientConnection, where: str, guard: Guard) -> SftpWire:
    wire = SftpWire(guard)
    try:
        with opening():
            await connection.create_session(
                lambda: wire,
                subsystem="sftp",
                encoding=None,
                window=CHANNEL_WINDOW,
                max_pktsize=LARGEST_PACKET,
            )
        await wire.start()
    except asyncssh.ChannelOpenError as error:
        if connection.is_closed():
            raise HungUp(f"{where} hung up before SFTP had started.") from error
        # Perhaps only because it was about to end, as when its process was killed.
        refused = HungUp if await _closes(connection) else ConnectFailed
        raise refused(f"{where} lets this account in but offers it no SFTP.") from error
    except (StorageError, MalformedPacket) as error:
        failed = HungUp if isinstance(error, HungUp) else ConnectFailed
        raise failed(f"{where} lets this account in, but SFTP does not start: {error}") from error
    return wire


async def _closes(connection: asyncssh.SSHClientConnection) -> bool:
    """Whether a refusal was the connection's end, which may come to be known a moment later."""
    try:
        async with asyncio.timeout(CLOSING_S):
            await connection.wait_closed()
    except TimeoutError:
        return False
    return True


def _translated(error: Exception, server: _Server) -> StorageError:
    where = server.where
    if isinstance(error, StorageError):
        return error
    if isinstance(error, asyncssh.ChannelOpenError) and server.address.jump is not None:
        jump = _Server(server.address.jump, server.guard, server.trace, is_jump=True).where
        if error.code == asyncssh.OPEN_CONNECT_FAILED:
            return ConnectFailed(f"{where} cannot be reached from {jump}: {readable(error.reason)}.")
        return ConnectFailed(f"{jump} lets this account in but forwards nothing to {where}.")
    if isinstance(error, TimeoutError):
        return ConnectFailed(f"{where} did not answer within {CONNECT_S:.0f} s.")
    if isinstance(error, socket.gaierror):
        return ConnectFailed(f"{where} cannot be reached: the name is not known.")
    if isinstance(error, UnicodeError):
        return ConnectFailed(f"{where} cannot be reached: that is no name of a host.")
    if isinstance(error, ConnectionRefusedError):
        return ConnectFailed(f"{where} refuses connections: nothing listens on that port.")
    if isinstance(error, (ConnectionResetError, BrokenPipeError, asyncssh.ConnectionLost)):
        if "handshake" in server.trace.reached:
            return HungUp(f"{where} hung up before SFTP had started.")
        return HungUp(f"{where} hung up: it does not speak SSH, or takes no more connections now.")
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
            with opening():
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
