"""Connecting through a jump host: two real servers, and what is said when either does not work."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import asyncssh
import pytest

from migration_app.storages.base import Address, HostKeyPolicy, Storage
from migration_app.storages.errors import (
    AuthenticationFailed,
    ConnectFailed,
    ConnectionLost,
    HostKeyRejected,
    StorageError,
)
from migration_app.storages.registry import open_storage
from migration_app.storages.sftp import connection
from tests.product import until
from tests.servers.agent import ssh_agent
from tests.servers.openssh import OpenSshServer
from tests.storages.places import sftp_address

pytestmark = pytest.mark.slow
ELSEWHERE = "SHA256:" + "A" * 43


@pytest.fixture(scope="module")
def jump() -> Iterator[OpenSshServer]:
    with OpenSshServer() as server:
        yield server


def through(jump: OpenSshServer, server: OpenSshServer, **of_jump: Any) -> Address:
    return sftp_address(server, jump=sftp_address(jump, **of_jump))


async def connected(address: Address) -> Storage:
    storage = open_storage(address, b"/", guard=lambda: True)
    await storage.connect()
    return storage


def complaint(address: Address, kind: type[StorageError]) -> str:
    with pytest.raises(kind) as caught:
        asyncio.run(connected(address))
    return str(caught.value)


def test_server_is_reached_through_another_and_both_keys_are_seen(
    jump: OpenSshServer, openssh: OpenSshServer
) -> None:
    async def main() -> None:
        storage = await connected(through(jump, openssh))
        assert await storage.root_entry()
        trace = storage.trace
        assert trace.host_key is not None
        assert trace.jump_host_key is not None
        keys = (trace.jump_host_key.fingerprint, trace.host_key.fingerprint)
        assert keys == (jump.fingerprint, openssh.fingerprint)
        assert list(trace.reached) == ["jump", "port", "handshake", "host_key", "login", "session"]
        assert (await storage.features()).has_shell
        await storage.close()
        with pytest.raises(ConnectionLost):
            await storage.root_entry()

    asyncio.run(main())
    until(lambda: not jump.session_pids)


def test_agent_signs_in_at_both(jump: OpenSshServer, openssh: OpenSshServer) -> None:
    with ssh_agent(jump.private_key, openssh.private_key) as agent:
        nothing: dict[str, Any] = {"ssh_key": "", "agent": agent.socket}
        address = replace(through(jump, openssh, **nothing), **nothing)

        async def main() -> None:
            await (await connected(address)).close()

        asyncio.run(main())


def test_either_of_several_keys_may_be_pinned(jump: OpenSshServer) -> None:
    with OpenSshServer(host_key_types=("ssh-ed25519", "ssh-rsa")) as server:
        policy = HostKeyPolicy(pinned=server.fingerprints["ssh-rsa"])

        async def main() -> None:
            await (await connected(replace(through(jump, server), host_keys=policy))).close()

        asyncio.run(main())


def test_refusals_say_which_of_the_two_it_is(jump: OpenSshServer, openssh: OpenSshServer) -> None:
    there, before = f"{openssh.host}:{openssh.port}", f"{jump.host}:{jump.port} (the jump host)"
    other = asyncssh.generate_private_key("ssh-ed25519").export_private_key("openssh").decode()
    said = complaint(through(jump, openssh, ssh_key=other), AuthenticationFailed)
    assert said == f"{before} does not let user {jump.username!r} in with this key."
    said = complaint(replace(through(jump, openssh), ssh_key=other), AuthenticationFailed)
    assert said == f"{there} does not let user {openssh.username!r} in with this key."
    changed = HostKeyPolicy(pinned=ELSEWHERE)
    said = complaint(through(jump, openssh, host_keys=changed), HostKeyRejected)
    assert f"The host key of {before} has changed: it was {ELSEWHERE}" in said
    said = complaint(replace(through(jump, openssh), host_keys=changed), HostKeyRejected)
    assert f"The host key of {there} has changed" in said
    strict = HostKeyPolicy(is_strict=True)
    said = complaint(through(jump, openssh, host_keys=strict), HostKeyRejected)
    assert said.startswith(f"The host key of {before} is unknown")
    said = complaint(replace(through(jump, openssh), port=1), ConnectFailed)
    assert said == f"127.0.0.1:1 cannot be reached from {before}: Connection refused."
    said = complaint(replace(through(jump, openssh), host="no-such-host.invalid"), ConnectFailed)
    assert said.startswith(f"no-such-host.invalid:{openssh.port} cannot be reached from {before}")


def test_jump_host_that_forwards_nothing_is_told(
    openssh_without_shell: OpenSshServer, openssh: OpenSshServer
) -> None:
    said = complaint(through(openssh_without_shell, openssh), ConnectFailed)
    assert "(the jump host) lets this account in but forwards nothing to" in said


def silent_host(jump: OpenSshServer | None, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """What is said when a server says nothing: the one behind a jump host, or the jump host itself."""
    monkeypatch.setattr(connection, "CONNECT_S", 1.0)

    async def main() -> tuple[str, str]:
        ended = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()
            ended.set()

        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            silent = Address("sftp", "127.0.0.1", port, "somebody")
            address = replace(silent, jump=silent if jump is None else sftp_address(jump))
            with pytest.raises(ConnectFailed) as caught:
                await connected(address)
            await ended.wait()
            return str(caught.value), f"127.0.0.1:{port}"

    return asyncio.run(main())


def test_silence_is_given_up_wherever_it_is(jump: OpenSshServer, monkeypatch: pytest.MonkeyPatch) -> None:
    said, where = silent_host(jump, monkeypatch)
    assert said == f"{where} did not answer within 1 s."
    said, where = silent_host(None, monkeypatch)
    assert said == f"{where} (the jump host) did not answer within 1 s."
    until(lambda: not jump.session_pids)


def test_connection_is_lost_with_the_jump_host(openssh: OpenSshServer) -> None:
    async def main(server: OpenSshServer) -> None:
        storage = await connected(through(server, openssh))
        assert await storage.root_entry()
        server.drop_sessions()
        with pytest.raises(ConnectionLost):
            await storage.root_entry()
        await storage.close()

    with OpenSshServer() as server:
        asyncio.run(main(server))


def test_nothing_is_sent_when_the_lease_is_over(jump: OpenSshServer, openssh: OpenSshServer) -> None:
    is_valid = True

    async def main() -> None:
        nonlocal is_valid
        storage = open_storage(through(jump, openssh), b"/", guard=lambda: is_valid)
        await storage.connect()
        is_valid = False
        with pytest.raises(ConnectionLost, match="The lease is over"):
            await storage.root_entry()
        await storage.close()

    asyncio.run(main())
    until(lambda: not jump.session_pids)


def test_cancelled_connecting_leaves_nothing_behind(jump: OpenSshServer, openssh: OpenSshServer) -> None:
    """Warnings of sockets that nobody closed are errors."""

    async def main() -> None:
        for turns in range(0, 200, 20):
            storage = open_storage(through(jump, openssh), b"/", guard=lambda: True)
            task = asyncio.create_task(storage.connect())
            for _ in range(turns):
                await asyncio.sleep(0.001)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await storage.close()
        await asyncio.sleep(0.05)

    asyncio.run(main())
    until(lambda: not jump.session_pids)


def test_secrets_of_a_jump_host_are_not_shown() -> None:
    address = Address("sftp", "host", jump=Address("sftp", "jump", password="pass-1", passphrase="phrase-2"))
    assert "pass-1" not in repr(address)
    assert "phrase-2" not in repr(address)
