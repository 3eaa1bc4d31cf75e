"""Sites behind a jump host: scanned, copied and verified through it, with secrets that nothing tells."""

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from tests.acceptance.conftest import local, log_of, sftp_on, submit
from tests.acceptance.test_move import move
from tests.product import Product
from tests.servers.openssh import OpenSshServer
from tests.trees import differences, small_tree

Json = dict[str, Any]
CANARY = "canary-of-the-jump-host"


@pytest.fixture(scope="module")
def jump() -> Iterator[OpenSshServer]:
    with OpenSshServer() as found:
        yield found


@pytest.fixture
def through(jump: OpenSshServer) -> Json:
    """The jump host, with a key that only a passphrase opens, and a password too."""
    key = asyncssh.generate_private_key("ssh-ed25519")
    jump.allow_key(key)
    return {
        "host": jump.host,
        "port": jump.port,
        "username": jump.username,
        "password": f"{CANARY}-password",
        "ssh_key": key.export_private_key("pkcs8-pem", passphrase=f"{CANARY}-passphrase").decode(),
        "passphrase": f"{CANARY}-passphrase",
    }


def test_site_is_scanned_copied_and_verified_through_a_jump_host(
    product: Product, openssh: OpenSshServer, jump: OpenSshServer, through: Json, tmp_path: Path
) -> None:
    site = small_tree(tmp_path / "site")
    there = sftp_on(openssh, site) | {"jump": through}
    scan = product.wait_for(submit(product, "/api/scan", {"server_config": there}))
    assert scan["scan_result"]["statistics"]["total_files"] == 15
    pins = [line for line in log_of(product, scan) if line.startswith("First connection to")]
    assert [any(f":{server.port}:" in line for line in pins) for server in (jump, openssh)] == [True, True]
    body = {"source_config": there, "dest_config": local(tmp_path / "down"), "verify_after_transfer": True}
    down = product.wait_for(submit(product, "/api/transfer", body))
    assert down["transfer_result"]["verification_result"]["success"]
    assert differences(site, tmp_path / "down") == ""
    up = {"source_config": local(site), "dest_config": there | {"root_path": str(tmp_path / "up")}}
    transfer = product.wait_for(submit(product, "/api/transfer", up))
    assert differences(site, tmp_path / "up") == ""
    verify = product.wait_for(submit(product, f"/api/sessions/{transfer['id']}/verify", {}))
    assert verify["verify_result"]["evidence"]["two_sided_hash"] == 15


def test_secrets_of_a_jump_host_are_told_nowhere(
    product: Product, openssh: OpenSshServer, through: Json, tmp_path: Path
) -> None:
    site = small_tree(tmp_path / "site")
    there = sftp_on(openssh, site) | {"jump": through}
    wrong = there | {"jump": through | {"ssh_key": "", "passphrase": ""}}
    unreadable = there | {"jump": through | {"passphrase": f"{CANARY}-wrong"}}
    stored = product.post("/api/connections", there | {"name": "behind"}).body
    said = [
        stored,
        product.post("/api/probe", there).body,
        product.post("/api/probe", wrong).body,
        product.post("/api/probe", unreadable).body,
        product.post("/api/probe", there | {"jump": f"{CANARY}:{CANARY}@host"}).body,
        product.post(f"/api/connections/{stored['id']}/test").body,
        product.get(f"/api/connections/{stored['id']}/browse").body,
        product.get(f"/connections/{stored['id']}").body,
        product.get(f"/connections/{stored['id']}/edit").body,
    ]
    assert said[1]["success"]
    assert "does not let user" in said[2]["error_message"]
    assert said[3]["error_message"] == "The private key has another passphrase."
    for config in ({"connection": stored["id"]}, wrong, unreadable):
        body = {"source_config": config, "dest_config": local(tmp_path / "down")}
        job = product.wait_for(submit(product, "/api/transfer", body), "completed", "failed")
        said += [product.get(f"/api/sessions/{job['id']}{tail}").body for tail in ("", "/log", "/report")]
        said.append(product.get(f"/jobs/{job['id']}").body)
    assert differences(site, tmp_path / "down") == ""
    assert CANARY not in str(said)
    files = [path for path in product.folder.rglob("*") if path.is_file()]
    assert any("sqlite3" in path.name for path in files)
    assert [path for path in files if CANARY.encode() in path.read_bytes()] == []


def test_job_whose_server_says_nothing_behind_a_jump_host_fails(
    product: Product, through: Json, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        there = {"protocol": "sftp", "host": "127.0.0.1", "port": port, "username": "somebody"}
        body = {"server_config": there | {"root_path": "/srv", "jump": through}}
        job = product.wait_for(submit(product, "/api/scan", body), "failed")
    assert job["error_message"] == f"127.0.0.1:{port} did not answer within 8 s."


def test_move_goes_through_the_jump_host_of_a_stored_connection(
    product: Product, openssh: OpenSshServer, jump: OpenSshServer, through: Json, tmp_path: Path
) -> None:
    site = small_tree(tmp_path / "site")
    with OpenSshServer() as unseen:
        there = sftp_on(unseen, tmp_path) | {"name": "unseen", "jump": through}
        assert product.post("/api/connections", there).status == 201
        refused = move(product, site, f"unseen:{tmp_path / 'copy'}")
        assert refused.returncode == 2
        assert unseen.fingerprint in refused.stderr
        done = move(product, site, f"unseen:{tmp_path / 'copy'}", "--accept-new-host-key")
        assert (done.returncode, done.stderr) == (0, "")
    assert differences(site, tmp_path / "copy") == ""
