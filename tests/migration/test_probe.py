"""`/api/probe` against real servers."""

import asyncio
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from migration_app import probing, visits
from migration_app.endpoints import Side
from migration_app.models import Endpoint, HostKey
from migration_app.storages.base import Address
from sessions_app import accounts
from sessions_app.models import Role, User
from tests.servers.agent import ssh_agent
from tests.servers.openssh import OpenSshServer

pytestmark = pytest.mark.slow
Post = Callable[..., Any]


def conn(server: OpenSshServer, root: Path | str, **more: Any) -> dict[str, Any]:
    return {
        "protocol": "sftp",
        "host": server.host,
        "port": server.port,
        "username": server.username,
        "ssh_key": server.private_key,
        "root_path": str(root),
        **more,
    }


def probe(post: Post, body: dict[str, Any]) -> dict[str, Any]:
    answer = post("/api/probe", body)
    assert answer.status_code == 200, answer.content
    return dict(answer.json())


def states(found: dict[str, Any]) -> dict[str, str]:
    return {stage["name"]: stage["state"] for stage in found["stages"]}


@pytest.fixture
def server_of_own() -> Iterator[OpenSshServer]:
    with OpenSshServer() as server:
        yield server


def test_server_is_described_and_its_key_pinned_at_first_use(
    post: Post, openssh: OpenSshServer, tmp_path: Path
) -> None:
    found = probe(post, conn(openssh, tmp_path))
    assert found["success"], found
    assert "error_message" not in found
    names = ["name", "port", "handshake", "host_key", "login", "session", "list", "write", "read"]
    assert states(found) == dict.fromkeys(names, "ok")
    able = found["capabilities"]
    assert (able["can_list"], able["can_read"], able["can_write"], able["shell_available"]) == (True,) * 4
    assert able["sftp_version"] == 3
    assert "posix-rename@openssh.com" in able["extensions"]
    speed = found["performance"]
    assert speed["upload_speed"] > 0
    assert speed["download_speed"] > 0
    assert speed["latency"] == pytest.approx(speed["latency_ms"] * 1e6, abs=1000)
    assert speed["connection_time"] == pytest.approx(speed["connection_time_ms"] * 1e6, abs=1000)
    assert found["host_key"] == {
        "algorithm": "ssh-ed25519",
        "fingerprint": openssh.fingerprint,
        "status": "new",
    }
    assert HostKey.objects.get().fingerprint == openssh.fingerprint
    assert probe(post, conn(openssh, tmp_path))["host_key"]["status"] == "known"
    assert not list(tmp_path.iterdir())
    assert not Endpoint.objects.exists()


def test_account_without_a_shell_says_so(
    post: Post, openssh_without_shell: OpenSshServer, tmp_path: Path
) -> None:
    found = probe(post, conn(openssh_without_shell, tmp_path))
    assert found["success"]
    assert not found["capabilities"]["shell_available"]
    assert "Shell" not in found["badges"]


def test_folder_that_is_read_only_is_good_as_a_source(post: Post, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("hello")
    with OpenSshServer(sftp_options=["-R"]) as server:
        found = probe(post, conn(server, tmp_path))
    assert found["success"]
    assert states(found)["write"] == "failed"
    able = found["capabilities"]
    assert (able["can_list"], able["can_read"], able["can_write"]) == (True, True, False)
    assert "source only" in found["verdict"]


def test_missing_folder_is_no_failure_but_is_told(post: Post, openssh: OpenSshServer, tmp_path: Path) -> None:
    found = probe(post, conn(openssh, tmp_path / "new"))
    assert found["success"]
    assert "does not exist" in found["verdict"]
    assert not found["capabilities"]["can_list"]
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("change", "stage", "said"),
    [
        ({"ssh_key": "", "password": "hunter2"}, "login", "does not let user"),
        ({"host": "no-such-host.invalid"}, "name", "the name is not known"),
        ({"port": 1}, "port", "nothing listens"),
        ({"host_key": "SHA256:" + "A" * 43}, "host_key", "not the demanded"),
        ({"root_path": "/etc/passwd"}, "list", "is a file"),
    ],
)
def test_failure_names_its_stage(
    post: Post, openssh: OpenSshServer, change: dict[str, Any], stage: str, said: str
) -> None:
    found = probe(post, conn(openssh, "/tmp") | change)
    assert not found["success"]
    assert said in found["error_message"]
    assert states(found)[stage] == "failed"
    assert found["error_message"] in found["verdict"]
    assert "hunter" not in str(found)
    assert not HostKey.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_agent_is_for_owners_alone(openssh: OpenSshServer, tmp_path: Path, settings: Any) -> None:
    operator = User.objects.create(username="op", role=Role.OPERATOR)
    body = conn(openssh, tmp_path, ssh_key="")
    with ssh_agent(openssh.private_key) as agent:
        settings.SSH_AGENT = agent.socket
        assert probing.probe(accounts.owner(), body)["success"]
        refused = probing.probe(operator, body)
    assert refused["error_message"].endswith("in without a password or key.")


def test_changed_key_is_refused_and_both_are_shown(
    post: Post, server_of_own: OpenSshServer, tmp_path: Path
) -> None:
    before = server_of_own.fingerprint
    probe(post, conn(server_of_own, tmp_path))
    server_of_own.new_host_key()
    found = probe(post, conn(server_of_own, tmp_path))
    assert not found["success"]
    assert before in found["error_message"]
    assert found["host_key"]["fingerprint"] == server_of_own.fingerprint
    assert found["host_key"]["status"] == "changed"
    assert HostKey.objects.get().fingerprint == before


def test_unknown_key_is_refused_by_name_when_keys_are_strict(
    post: Post, openssh: OpenSshServer, tmp_path: Path, settings: Any
) -> None:
    settings.HOST_KEYS = "strict"
    found = probe(post, conn(openssh, tmp_path))
    assert not found["success"]
    assert openssh.fingerprint in found["error_message"]
    assert found["host_key"]["status"] == "new"
    assert not HostKey.objects.exists()
    assert probe(post, conn(openssh, tmp_path, host_key=openssh.fingerprint))["success"]


def test_folder_of_this_machine_is_probed_too(post: Post, tmp_path: Path) -> None:
    found = probe(post, {"protocol": "local", "root_path": str(tmp_path)})
    assert found["success"]
    assert list(states(found)) == ["list", "write", "read"]
    assert "host_key" not in found
    assert found["badges"][0] == "This machine"
    assert not list(tmp_path.iterdir())


def test_server_that_says_nothing_is_given_up(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("migration_app.storages.sftp.connection.CONNECT_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        body = {"protocol": "sftp", "host": "127.0.0.1", "port": listener.getsockname()[1], "username": "web"}
        found = probe(post, body | {"root_path": "/"})
    assert not found["success"]
    assert states(found)["handshake"] == "failed"


def test_invalid_request_is_400_with_the_field(post: Post) -> None:
    answer = post("/api/probe", {"protocol": "sftp", "host": "a b", "root_path": "x"})
    assert answer.status_code == 400
    assert set(answer.json()["fields"]) == {"host", "username", "root_path"}
    assert post("/api/probe", []).status_code == 400


def test_one_person_cannot_use_up_all_visits(owner: User, tmp_path: Path) -> None:
    side = Side(Endpoint(), Address("local", local_roots=("/",)), os.fsencode(tmp_path))
    hold, started = threading.Event(), threading.Semaphore(0)

    async def wait(_: Any) -> None:
        started.release()
        await asyncio.to_thread(hold.wait)

    waiting = [
        threading.Thread(target=visits.visit, args=(owner, side, wait)) for _ in range(visits.MOST_EACH)
    ]
    for thread in waiting:
        thread.start()
    for _ in waiting:
        started.acquire()

    async def nothing(_: Any) -> str:
        return "done"

    try:
        with pytest.raises(visits.Busy):
            visits.visit(owner, side, nothing)
        assert visits.visit(User(pk=owner.pk + 1), side, nothing) == "done"
    finally:
        hold.set()
        for thread in waiting:
            thread.join()
    assert visits.visit(owner, side, nothing) == "done"
