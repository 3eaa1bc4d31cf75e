"""The OpenSSH server that other tests stand on."""

import asyncio
import os

import asyncssh
import pytest

from tests.servers.openssh import OpenSshServer


async def _connect(server: OpenSshServer, username: str = "") -> asyncssh.SSHClientConnection:
    return await asyncssh.connect(
        server.host,
        server.port,
        username=username or server.username,
        client_keys=[asyncssh.import_private_key(server.private_key)],
        known_hosts=None,
        config=None,
        agent_path=None,
    )


def test_server_runs_commands_and_sftp(openssh: OpenSshServer) -> None:
    async def main() -> None:
        async with await _connect(openssh) as connection:
            said = await connection.run("echo hello")
            assert said.stdout == "hello\n"
            assert openssh.session_pids
            async with connection.start_sftp_client() as sftp:
                assert await sftp.isdir("/")

    asyncio.run(main())
    assert "Accepted publickey" in openssh.log


def test_server_without_shell_gives_sftp_only(openssh_without_shell: OpenSshServer) -> None:
    async def main() -> None:
        async with await _connect(openssh_without_shell) as connection:
            async with connection.start_sftp_client() as sftp:
                assert await sftp.isdir("/")
            said = await asyncio.wait_for(connection.run("echo hello", input=""), 10)
            assert "hello" not in str(said.stdout)

    asyncio.run(main())


def test_new_host_key_keeps_the_port() -> None:
    with OpenSshServer() as server:
        port, before = server.port, server.fingerprint
        server.new_host_key()
        assert server.port == port
        assert server.fingerprint != before

        async def main() -> None:
            async with await _connect(server) as connection:
                key = connection.get_server_host_key()
                assert key is not None
                assert key.get_fingerprint("sha256") == server.fingerprint

        asyncio.run(main())
    assert server.session_pids == []
    assert not server.folder.exists()


def test_root_server_lets_in_another_user(openssh: OpenSshServer) -> None:
    username = "nobody" if os.geteuid() == 0 else openssh.username

    async def main() -> None:
        async with await _connect(openssh, username) as connection, connection.start_sftp_client() as sftp:
            with pytest.raises(asyncssh.SFTPPermissionDenied):
                await sftp.listdir("/root")

    asyncio.run(main())
