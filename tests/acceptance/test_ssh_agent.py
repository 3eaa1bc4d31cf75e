"""Signing in by the SSH agent of whoever started the server, or the command."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from tests.acceptance.conftest import local, submit
from tests.acceptance.test_move import Terminal, move
from tests.product import Product, until
from tests.servers.agent import SshAgent, ssh_agent
from tests.servers.openssh import OpenSshServer
from tests.trees import differences, small_tree


@pytest.fixture
def agent(host: OpenSshServer) -> Iterator[SshAgent]:
    with ssh_agent(host.private_key) as found:
        yield found


@pytest.fixture
def machine(agent: SshAgent, tmp_path: Path) -> Iterator[Product]:
    with Product(tmp_path / "product", SSH_AUTH_SOCK=agent.socket) as found:
        found.migrate()
        yield found


def test_owner_needs_no_secret_where_the_server_has_an_agent(
    machine: Product, sftp: Callable[[Path], Any], tmp_path: Path
) -> None:
    site = small_tree(tmp_path / "site")
    there = sftp(tmp_path / "host") | {"ssh_key": ""}
    machine.start()
    probe = machine.post("/api/probe", there | {"root_path": str(tmp_path)}).body
    assert probe["success"], probe
    body = {"source_config": local(site), "dest_config": there, "verify_after_transfer": True}
    job = machine.wait_for(submit(machine, "/api/transfer", body))
    assert job["transfer_result"]["verification_result"]["success"]
    assert differences(site, tmp_path / "host") == ""


def test_move_uses_the_agent_and_asks_when_it_does_not_help(
    machine: Product, host: OpenSshServer, tmp_path: Path
) -> None:
    site = small_tree(tmp_path / "site")
    address = f"sftp://{host.username}@{host.host}:{host.port}{tmp_path / 'host'}"
    done = move(machine, site, address, "--accept-new-host-key")
    assert (done.returncode, done.stderr) == (0, "")
    assert differences(site, tmp_path / "host") == ""
    other = asyncssh.generate_private_key("ssh-ed25519").export_private_key("openssh").decode()
    with ssh_agent(other) as useless:
        done = move(machine, site, address, SSH_AUTH_SOCK=useless.socket)
        assert done.returncode == 2
        assert "or a key in the SSH agent" in done.stderr
        machine.environment["SSH_AUTH_SOCK"] = useless.socket
        terminal = Terminal(machine, site, address)
        until(lambda: "Password of" in terminal.text)
        terminal.type("wrong\n")
        assert terminal.wait() == 1
        assert "in with this password" in terminal.text
