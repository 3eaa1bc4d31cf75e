"""Connecting over SSH: host keys, private keys, passwords, and what is said when it does not work."""

import asyncio
import re
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import asyncssh
import pytest

from migration_app.storages.base import Address, HostKey, HostKeyPolicy
from migration_app.storages.errors import (
    AuthenticationFailed,
    ConnectFailed,
    HostKeyRejected,
    HungUp,
    StorageError,
)
from migration_app.storages.registry import open_storage
from migration_app.storages.sftp import connection
from tests.servers.agent import ssh_agent
from tests.servers.misbehaving import OpenServer, misbehaving
from tests.servers.openssh import OpenSshServer
from tests.storages.places import sftp_address

KEY_TYPES = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ssh-rsa")


@pytest.fixture(scope="module")
def server_with_many_keys() -> Iterator[OpenSshServer]:
    with OpenSshServer(host_key_types=KEY_TYPES[::-1]) as server:
        yield server


def connect(address: Address) -> HostKey | None:
    """Connect and disconnect; the host key that was seen."""

    async def main() -> HostKey | None:
        storage = open_storage(address, b"/", guard=lambda: True)
        try:
            await storage.connect()
            await storage.root_entry()
            return storage.host_key
        finally:
            await storage.close()

    return asyncio.run(main())


def complaint(address: Address, kind: type[StorageError]) -> str:
    """What is said when connecting fails; one sentence, or two, in one line."""
    with pytest.raises(kind) as caught:
        connect(address)
    said = str(caught.value)
    assert said.isprintable()
    assert re.search(r"[^.]\.$", said)
    return said


# Host keys


def test_unknown_key_is_taken_and_told(openssh: OpenSshServer) -> None:
    assert connect(sftp_address(openssh)) == HostKey("ssh-ed25519", openssh.fingerprint)


@pytest.mark.parametrize("is_strict", [False, True])
def test_wanted_key_is_taken(openssh: OpenSshServer, is_strict: bool) -> None:
    for policy in (
        HostKeyPolicy(demanded=openssh.fingerprint, is_strict=is_strict),
        HostKeyPolicy(pinned=openssh.fingerprint, is_strict=is_strict),
    ):
        assert connect(sftp_address(openssh, host_keys=policy)) is not None


def test_unknown_key_is_refused_when_strict(openssh: OpenSshServer) -> None:
    said = complaint(sftp_address(openssh, host_keys=HostKeyPolicy(is_strict=True)), HostKeyRejected)
    assert f"{openssh.host}:{openssh.port} is unknown" in said
    assert openssh.fingerprint in said


def test_key_that_was_not_demanded_is_refused(openssh: OpenSshServer) -> None:
    policy = HostKeyPolicy(demanded="SHA256:something", pinned=openssh.fingerprint)
    said = complaint(sftp_address(openssh, host_keys=policy), HostKeyRejected)
    assert "not the demanded SHA256:something" in said


def test_changed_key_is_refused_before_anything_secret_is_sent() -> None:
    with OpenSshServer() as server:
        before = server.fingerprint
        address = sftp_address(server, host_keys=HostKeyPolicy(pinned=before))
        connect(address)
        server.new_host_key()
        accepted = server.log.count("Accepted publickey")
        said = complaint(address, HostKeyRejected)
        assert f"{server.host}:{server.port} has changed" in said
        assert before in said
        assert server.fingerprint in said
        assert server.log.count("Accepted publickey") == accepted


@pytest.mark.slow
def test_server_with_many_keys_shows_the_same_one_every_time(server_with_many_keys: OpenSshServer) -> None:
    found = {connect(sftp_address(server_with_many_keys)) for _ in range(3)}
    assert found == {HostKey("ssh-ed25519", server_with_many_keys.fingerprints["ssh-ed25519"])}


@pytest.mark.parametrize("algorithm", ["ssh-ed25519", "ecdsa-sha2-nistp256", "ssh-rsa"])
@pytest.mark.slow
def test_any_key_that_the_server_has_may_be_wanted(
    server_with_many_keys: OpenSshServer, algorithm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "_family_of", {})
    fingerprint = server_with_many_keys.fingerprints[algorithm]
    for policy in (HostKeyPolicy(demanded=fingerprint), HostKeyPolicy(pinned=fingerprint)):
        found = connect(sftp_address(server_with_many_keys, host_keys=policy))
        assert found == HostKey(algorithm, fingerprint)


def test_wanted_key_that_is_gone_names_the_one_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with OpenSshServer() as server:
        monkeypatch.setattr(connection, "_family_of", {"SHA256:gone": connection.KEY_FAMILIES[2]})
        address = sftp_address(server, host_keys=HostKeyPolicy(pinned="SHA256:gone"))
        assert server.fingerprint in complaint(address, HostKeyRejected)
        assert connection._family_of == {}


# Private keys


def texts(key: asyncssh.SSHKey) -> dict[str, str]:
    """A key as it may be pasted into a form."""
    openssh = key.export_private_key("openssh").decode()
    return {
        "openssh": openssh,
        "CRLF": openssh.replace("\n", "\r\n"),
        "no last newline": openssh.rstrip("\n"),
        "blank lines around": f"\n\n  {openssh}\n \n",
        "pkcs8": key.export_private_key("pkcs8-pem").decode(),
    }


@pytest.mark.parametrize("algorithm", ["ssh-ed25519", "ecdsa-sha2-nistp256", "ssh-rsa"])
@pytest.mark.slow
def test_private_keys_of_every_kind_are_read(openssh: OpenSshServer, algorithm: str) -> None:
    key = asyncssh.generate_private_key(algorithm)
    openssh.allow_key(key)
    forms = texts(key)
    if algorithm == "ssh-rsa":
        forms["pem"] = key.export_private_key("pkcs1-pem").decode()
    for text in forms.values():
        connect(sftp_address(openssh, ssh_key=text))


@pytest.mark.slow
@pytest.mark.parametrize("form", ["openssh", "pkcs8-pem", "pkcs1-pem"])
def test_private_key_with_a_passphrase_is_read(openssh: OpenSshServer, form: str) -> None:
    key = asyncssh.generate_private_key("ssh-rsa" if form == "pkcs1-pem" else "ssh-ed25519")
    openssh.allow_key(key)
    text = key.export_private_key(form, passphrase="sesame", rounds=50).decode()
    connect(sftp_address(openssh, ssh_key=text, passphrase="sesame"))
    wrong = complaint(sftp_address(openssh, ssh_key=text, passphrase="open"), AuthenticationFailed)
    assert wrong == "The private key has another passphrase."
    none = complaint(sftp_address(openssh, ssh_key=text), AuthenticationFailed)
    assert none == "The private key needs a passphrase."


@pytest.mark.parametrize(
    "text",
    [
        "nonsense",
        "PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none\n",
        "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA",
    ],
)
def test_text_that_is_no_key_is_told(openssh: OpenSshServer, text: str) -> None:
    said = complaint(sftp_address(openssh, ssh_key=text), AuthenticationFailed)
    assert said == "The text given as private key is none that can be read."


def test_key_that_is_not_let_in_is_told(openssh: OpenSshServer) -> None:
    key = asyncssh.generate_private_key("ssh-ed25519").export_private_key("openssh").decode()
    said = complaint(sftp_address(openssh, ssh_key=key), AuthenticationFailed)
    assert said == f"{openssh.host}:{openssh.port} does not let user '{openssh.username}' in with this key."


def test_keys_of_our_own_account_are_never_used(
    openssh: OpenSshServer, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / ".ssh"
    home.mkdir(mode=0o700)
    (home / "id_ed25519").write_text(openssh.private_key)
    (home / "config").write_text(f"Host *\n  IdentityFile {home / 'id_ed25519'}\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert "without a password or key" in complaint(sftp_address(openssh, ssh_key=""), AuthenticationFailed)


# An agent


def test_keys_of_an_agent_are_tried_where_nothing_else_is_given(openssh: OpenSshServer) -> None:
    other = asyncssh.generate_private_key("ssh-rsa").export_private_key("openssh").decode()
    with ssh_agent(other, openssh.private_key) as agent:
        connect(sftp_address(openssh, ssh_key="", agent=agent.socket))
        said = complaint(
            sftp_address(openssh, ssh_key="", password="wrong", agent=agent.socket), AuthenticationFailed
        )
        assert said.endswith("in with this password.")
        said = complaint(sftp_address(openssh, ssh_key=other, agent=agent.socket), AuthenticationFailed)
        assert said.endswith("in with this key.")


def test_agent_without_the_right_key_is_told(openssh: OpenSshServer) -> None:
    other = asyncssh.generate_private_key("ssh-ed25519").export_private_key("openssh").decode()
    with ssh_agent() as agent:
        address = sftp_address(openssh, ssh_key="", agent=agent.socket)
        said = complaint(address, AuthenticationFailed)
        assert said.endswith("in without a password or key, and the SSH agent holds no key.")
        agent.add(other)
        assert complaint(address, AuthenticationFailed).endswith("in with a key of the SSH agent.")
    assert complaint(address, AuthenticationFailed).endswith("and the SSH agent does not answer.")


# Passwords


class _PasswordServer(OpenServer):
    """Takes a password, in the plain way."""

    def begin_auth(self, username: str) -> bool:
        return True

    def password_auth_supported(self) -> bool:
        return True

    def validate_password(self, username: str, password: str) -> bool:
        return password == "secret"


class _AskingServer(OpenServer):
    """Takes a password as the answer to a question, as many hosts do."""

    prompts: Sequence[tuple[str, bool]] = [("Passwort für somebody: ", False)]
    asked = 0

    def begin_auth(self, username: str) -> bool:
        return True

    def kbdint_auth_supported(self) -> bool:
        return True

    def get_kbdint_challenge(
        self, username: str, lang: str, submethods: str
    ) -> tuple[str, str, str, Sequence[tuple[str, bool]]]:
        type(self).asked += 1
        return "", "Welcome", "", self.prompts

    def validate_kbdint_response(self, username: str, responses: Sequence[str]) -> bool:
        return list(responses) == ["secret"]


class _TwoFactorServer(_AskingServer):
    prompts = [("Password: ", False), ("Code: ", True)]


class _SecondQuestionServer(_AskingServer):
    """Asks for a code when the password was right, as servers with a second factor do."""

    def validate_kbdint_response(self, username: str, responses: Sequence[str]) -> Any:
        right = super().validate_kbdint_response(username, responses)
        return ("", "", "", [("One-time\ncode: ", False)]) if right else False


class _InsistingServer(_AskingServer):
    """Asks for the password again when it was wrong."""

    def validate_kbdint_response(self, username: str, responses: Sequence[str]) -> Any:
        right = super().validate_kbdint_response(username, responses)
        return right or ("", "Try again", "", self.prompts)


@pytest.mark.parametrize("server_class", [_PasswordServer, _AskingServer])
def test_password_is_taken_in_either_way(server_class: type[OpenServer]) -> None:
    attempt(server_class, lambda address: address)


@pytest.mark.parametrize("server_class", [_PasswordServer, _AskingServer, _InsistingServer])
def test_wrong_password_is_told_and_not_tried_for_ever(server_class: type[OpenServer]) -> None:
    _AskingServer.asked = _InsistingServer.asked = 0
    with pytest.raises(AuthenticationFailed) as caught:
        attempt(
            server_class, lambda address: Address("sftp", address.host, address.port, "somebody", "wrong")
        )
    assert str(caught.value).endswith("does not let user 'somebody' in with this password.")
    assert "wrong" not in str(caught.value)
    assert _AskingServer.asked <= 1
    assert _InsistingServer.asked <= 1


@pytest.mark.parametrize(
    ("server_class", "asked"),
    [(_TwoFactorServer, "“Password:”, “Code:”"), (_SecondQuestionServer, "“One-time code:”")],
)
def test_second_question_is_told(server_class: type[OpenServer], asked: str) -> None:
    with pytest.raises(AuthenticationFailed) as caught:
        attempt(server_class, lambda address: address)
    assert f"asks user 'somebody' for more than a password: {asked}." in str(caught.value)
    assert "secret" not in str(caught.value)


def attempt(server_class: type[OpenServer], change: Callable[[Address], Address]) -> None:
    async def main() -> None:
        async with asyncio.timeout(20), misbehaving(server_class=server_class) as address:
            storage = open_storage(change(address), b"/", guard=lambda: True)
            try:
                await storage.connect()
                await storage.root_entry()
            finally:
                await storage.close()

    asyncio.run(main())


# No connection


def test_port_where_nothing_listens_is_told() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        said = complaint(Address("sftp", "127.0.0.1", port, "somebody"), ConnectFailed)
    assert said == f"127.0.0.1:{port} refuses connections: nothing listens on that port."


@pytest.mark.parametrize("host", ["does-not-exist.invalid", "x" * 64 + ".invalid", "a..b", "bad\nname"])
def test_name_that_is_not_known_is_told(host: str) -> None:
    assert "cannot be reached" in complaint(Address("sftp", host, 2222, "somebody"), ConnectFailed)


def speak(banner: bytes | None, error: type[ConnectFailed] = ConnectFailed) -> str:
    """What is said of a server that says `banner` and hangs up; None: it says nothing at all."""

    async def main() -> str:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if banner is None:
                await reader.read()
            else:
                writer.write(banner)
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            storage = open_storage(Address("sftp", "127.0.0.1", port, "somebody"), b"/", guard=lambda: True)
            with pytest.raises(error) as caught:
                await storage.connect()
            await storage.close()
            assert str(caught.value).startswith(f"127.0.0.1:{port} ")
            return str(caught.value)

    return asyncio.run(main())


def test_server_that_is_no_ssh_is_told() -> None:
    assert "does not speak SSH" in speak(b"HTTP/1.1 400 Bad Request\r\n\r\n" + b"x" * 2000)
    assert speak(b"").isprintable()


@pytest.mark.parametrize("command", ["kill -9 $PPID", "kill -9 $$"])
def test_session_that_is_killed_at_its_beginning_may_work_a_moment_later(command: str) -> None:
    with OpenSshServer(config=[f"ForceCommand {command}"]) as server:
        assert "SFTP does not start" in complaint(sftp_address(server), HungUp)


def test_connection_that_is_lost_before_sftp_is_granted_may_work_a_moment_later(
    openssh: OpenSshServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = asyncssh.SSHClientChannel._make_request

    async def gone(channel: Any, *arguments: Any) -> Any:
        channel.get_connection().abort()
        return await asked(channel, *arguments)

    monkeypatch.setattr(asyncssh.SSHClientChannel, "_make_request", gone)
    assert "hung up before SFTP had started" in complaint(sftp_address(openssh), HungUp)


def test_refusal_that_is_followed_by_the_end_of_the_connection_may_work_a_moment_later(
    openssh: OpenSshServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refused(channel: Any, *_: Any) -> bool:
        asyncio.get_running_loop().call_later(0.05, channel.get_connection().abort)
        return False

    monkeypatch.setattr(asyncssh.SSHClientChannel, "_make_request", refused)
    assert "offers it no SFTP" in complaint(sftp_address(openssh), HungUp)


def test_server_that_hangs_up_in_the_handshake_may_work_a_moment_later() -> None:
    assert "hung up" in speak(b"SSH-2.0-OpenSSH_9.6\r\n", HungUp)


def test_silent_server_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "CONNECT_S", 0.3)
    assert "did not answer within" in speak(None)


def test_cancelled_connecting_leaves_nothing_behind(openssh: OpenSshServer) -> None:
    """Warnings of sockets that nobody closed are errors."""

    async def main() -> None:
        for turns in range(0, 60, 7):
            storage = open_storage(sftp_address(openssh), b"/", guard=lambda: True)
            task = asyncio.create_task(storage.connect())
            for _ in range(turns):
                await asyncio.sleep(0.001)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await storage.close()
        await asyncio.sleep(0.01)

    asyncio.run(main())


def test_secrets_are_not_shown() -> None:
    address = Address("sftp", "host", 22, "me", password="pass-1", ssh_key="key-2", passphrase="phrase-3")
    assert not re.search(r"pass-1|key-2|phrase-3", repr(address))
