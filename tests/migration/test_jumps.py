"""Jump hosts of requests and stored connections: shapes, pins, and whose secrets go where."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from migration_app import endpoints
from migration_app.models import Endpoint, HostKey
from migration_app.pages.job_view import address_text
from migration_app.repeats import repeat
from migration_app.secrets import CannotOpen
from migration_app.storages.base import Address
from sessions_app.models import Job, Role, User
from sessions_app.submitters import RequestMeta
from tests.migration.test_connections import WEB, row, scan, side
from tests.migration.test_probe import conn, probe, states
from tests.servers.openssh import OpenSshServer

Post = Callable[..., Any]
Json = dict[str, Any]
INNER = {
    "protocol": "sftp",
    "host": "10.0.0.5",
    "username": "web",
    "password": "canary-inner",
    "root_path": "/srv/site",
}
OWN = {"host": "bastion.example.org", "port": 2200, "username": "me", "password": "canary-jump"}
BASTION = WEB | {"name": "bastion", "host": "bastion.example.org", "port": 0, "password": "canary-bastion"}


def jump_of(job: Job) -> Address:
    found = side(job).address.jump
    assert found is not None
    return found


def stored(post: Post, body: Json) -> Json:
    answer = post("/api/connections", body)
    assert answer.status_code == 201, answer.content
    return dict(answer.json())


@pytest.mark.parametrize(
    ("text", "host", "port", "username"),
    [
        ("me@bastion.example.org:2200", "bastion.example.org", 2200, "me"),
        ("bastion", "bastion", 0, "web"),
        ("me@[2001:db8::1]:22", "2001:db8::1", 22, "me"),
    ],
)
def test_text_is_a_host_with_the_credentials_of_the_server(
    post: Post, text: str, host: str, port: int, username: str
) -> None:
    job = scan(post, INNER | {"jump": text})
    found = jump_of(job)
    assert (found.host, found.port, found.username) == (host, port, username)
    assert found.password == "canary-inner"
    shown = job.public["source_config"]["jump"]
    assert shown["host"] == host
    assert shown["password"] == shown["ssh_key"] == shown["passphrase"] == ""


def test_object_has_secrets_of_its_own_and_they_are_sealed(post: Post, api: Client) -> None:
    job = scan(post, INNER | {"jump": OWN | {"host_key": "SHA256:" + "A" * 43}})
    found = jump_of(job)
    assert (found.password, found.host_keys.demanded) == ("canary-jump", "SHA256:" + "A" * 43)
    assert side(job).address.password == "canary-inner"
    rows = [*Endpoint.objects.values(), *Job.objects.values()]
    assert "canary" not in json.dumps(rows, default=str)
    assert "canary" not in api.get(f"/api/sessions/{job.pk}").content.decode()
    way = "through me@bastion.example.org:2200"
    assert address_text(job.public["source_config"]) == f"sftp://web@10.0.0.5/srv/site {way}"
    report = api.get(f"/api/sessions/{job.pk}/report?format=html").content.decode()
    assert way in re.sub(r"</?bdi>", "", report)
    assert "canary" not in report


@pytest.mark.parametrize("nothing", ["", {}, [], None])
def test_empty_jump_is_none(post: Post, nothing: Any) -> None:
    job = scan(post, INNER | {"jump": nothing})
    assert side(job).address.jump is None
    assert "jump" not in job.public["source_config"]


@pytest.mark.parametrize(
    ("jump", "field"),
    [
        ("me:canary@bastion", "jump"),
        ("me@bastion/path", "jump"),
        ("bastion:", "jump"),
        (5, "jump"),
        (False, "jump"),
        ("bastion:99999", "jump.port"),
        ({"username": "me"}, "jump.host"),
        ({"host": "bastion", "jump": "other"}, "jump.jump"),
        ({"host": "a b"}, "jump.host"),
        ({"host": "bastion", "host_key": "MD5:aa"}, "jump.host_key"),
        ({"connection": "999"}, "jump.connection"),
    ],
)
def test_odd_jump_is_refused_by_name(post: Post, jump: Any, field: str) -> None:
    answer = post("/api/scan", {"server_config": INNER | {"jump": jump}})
    assert answer.status_code == 400
    assert list(answer.json()["fields"]) == [f"server_config.{field}"]
    assert "canary" not in answer.content.decode()


def test_local_folder_has_no_jump_host(post: Post) -> None:
    local = {"protocol": "local", "root_path": "/srv", "jump": "bastion"}
    assert "server_config.jump" in post("/api/scan", {"server_config": local}).json()["fields"]


def test_stored_connection_is_a_jump_host_by_its_id(post: Post, api: Client) -> None:
    bastion = stored(post, BASTION)
    inner = stored(post, INNER | {"name": "inner", "jump": {"connection": bastion["id"]}})
    assert inner["jump"] == {
        "connection": bastion["id"],
        "host": "bastion.example.org",
        "port": 0,
        "username": "web",
    }
    job = scan(post, {"connection": inner["id"]})
    assert jump_of(job).password == "canary-bastion"
    assert side(job).address.password == "canary-inner"
    # What was read can be written back.
    again = api.put(f"/api/connections/{inner['id']}", strip(inner), content_type="application/json")
    assert again.status_code == 200, again.content
    assert side(job).address.password == "canary-inner"
    Job.objects.update(status="completed")
    change = {"host": "elsewhere.org"}
    for answer in (
        api.delete(f"/api/connections/{bastion['id']}"),
        api.patch(f"/api/connections/{bastion['id']}", change, content_type="application/json"),
        api.patch(f"/api/connections/{bastion['id']}", {"jump": "x"}, content_type="application/json"),
    ):
        assert answer.status_code == 409
        assert "while the connection inner goes through it" in answer.json()["error"]
    api.delete(f"/api/connections/{inner['id']}")
    assert api.delete(f"/api/connections/{bastion['id']}").status_code == 200


def strip(found: Json) -> Json:
    """The fields of an answer that a request may have."""
    return {
        name: value
        for name, value in found.items()
        if name not in ("id", "secrets_stored", "created_at", "last_test")
    }


def test_connection_that_a_job_goes_through_cannot_be_deleted(post: Post, api: Client) -> None:
    bastion = stored(post, BASTION)
    job = scan(post, INNER | {"jump": {"connection": bastion["id"]}})
    assert api.delete(f"/api/connections/{bastion['id']}").status_code == 409
    Job.objects.update(status="completed")
    assert api.delete(f"/api/connections/{bastion['id']}").status_code == 200
    with pytest.raises(CannotOpen, match="has been deleted"):
        side(job)


def test_connection_as_a_jump_host_must_be_a_plain_sftp_one_of_ones_own(post: Post, owner: User) -> None:
    stranger = User.objects.create(username="stranger", role=Role.OPERATOR)
    theirs = Endpoint.objects.create(owner=stranger, name="theirs", protocol="sftp", host="h", username="u")
    local = stored(post, {"name": "here", "protocol": "local", "root_path": "/srv"})
    behind = stored(post, INNER | {"name": "behind", "jump": OWN})
    for number, said in (
        (str(theirs.pk), "no stored connection"),
        (local["id"], "by SFTP"),
        (behind["id"], "cannot have a jump host itself"),
    ):
        answer = post("/api/scan", {"server_config": INNER | {"jump": {"connection": number}}})
        assert said in answer.json()["fields"]["server_config.jump.connection"][0]
    answer = post("/api/scan", {"server_config": INNER | {"jump": {"connection": behind["id"], "host": "x"}}})
    assert "server_config.jump.host" in answer.json()["fields"]


def test_connection_cannot_go_through_itself(post: Post, api: Client) -> None:
    bastion = stored(post, BASTION)
    jump = {"jump": {"connection": bastion["id"]}}
    answer = api.patch(f"/api/connections/{bastion['id']}", jump, content_type="application/json")
    assert "through itself" in answer.json()["fields"]["jump.connection"][0]


def test_stored_secrets_stay_while_the_way_does_and_go_with_it(post: Post, api: Client) -> None:
    found = stored(post, INNER | {"name": "inner", "jump": OWN})
    assert found["secrets_stored"] == ["jump_password", "password"]
    assert found["jump"]["password"] == ""

    def patch(change: Json) -> Json:
        answer = api.patch(f"/api/connections/{found['id']}", change, content_type="application/json")
        assert answer.status_code == 200, answer.content
        assert "canary" not in answer.content.decode()
        return dict(answer.json())

    same = {"host": "Bastion.example.org", "port": 2200, "username": "me"}
    assert patch({"root_path": "/srv/other"})["secrets_stored"] == ["jump_password", "password"]
    assert patch({"jump": same})["secrets_stored"] == ["jump_password", "password"]
    assert patch({"jump": same | {"ssh_key": "key", "passphrase": "canary"}})["secrets_stored"] == [
        *("jump_passphrase", "jump_password", "jump_ssh_key", "password")
    ]
    assert "jump_passphrase" not in patch({"jump": same | {"ssh_key": "other"}})["secrets_stored"]
    for jump in (same | {"host": "evil.example.org"}, "evil.example.org", ""):
        patch({"password": "canary", "jump": jump})
        changed = patch({"jump": same})
        assert changed["secrets_stored"] == []


def test_stored_secret_is_not_sent_to_a_jump_host_of_the_request(post: Post) -> None:
    plain = stored(post, INNER | {"name": "plain"})
    request = {name: value for name, value in INNER.items() if name != "password"}
    answer = post("/api/scan", {"server_config": request | {"jump": "evil.example.org"}})
    assert "of the connection plain are not sent there" in answer.json()["fields"]["server_config.jump"][0]
    answer = post("/api/scan", {"server_config": {"connection": plain["id"], "jump": "evil.example.org"}})
    assert "server_config.jump" in answer.json()["fields"]
    job = scan(post, request | {"jump": OWN})
    assert (side(job).address.password, jump_of(job).password) == ("canary-inner", "canary-jump")
    stored(post, INNER | {"name": "behind", "jump": OWN})
    stored(post, INNER | {"name": "newer"})
    same = {name: OWN[name] for name in ("host", "port", "username")}
    job = scan(post, request | {"jump": same})
    assert (side(job).address.password, jump_of(job).password) == ("canary-inner", "canary-jump")


def test_old_job_of_a_connection_that_goes_another_way_now_has_no_secrets(post: Post, api: Client) -> None:
    found = stored(post, INNER | {"name": "inner", "jump": "bastion"})
    job = scan(post, {"connection": found["id"]})
    Job.objects.update(status="completed")
    change = {"jump": "elsewhere", "password": "canary"}
    api.patch(f"/api/connections/{found['id']}", change, content_type="application/json")
    with pytest.raises(CannotOpen, match="goes another way now"):
        side(job)


def test_pins_go_with_the_jump_host_unless_another_connection_uses_it(
    post: Post, api: Client, owner: User
) -> None:
    for host, port in (("bastion.example.org", 2200), ("10.0.0.5", 22)):
        HostKey.objects.create(owner=owner, host=host, port=port, algorithm="a", fingerprint="f")
    one = stored(post, INNER | {"name": "one", "jump": OWN})
    two = stored(post, INNER | {"name": "two", "jump": OWN})
    for found, left in ((one, ["10.0.0.5", "bastion.example.org"]), (two, ["10.0.0.5"])):
        api.patch(f"/api/connections/{found['id']}", {"jump": ""}, content_type="application/json")
        assert sorted(HostKey.objects.values_list("host", flat=True)) == left


def test_job_through_a_jump_host_is_done_again(post: Post, owner: User) -> None:
    bastion = stored(post, BASTION)
    meta = RequestMeta(None, "", "")
    for way, password in (
        (OWN, "canary-jump"),
        ("me@bastion", "canary-inner"),
        ({"connection": bastion["id"]}, "canary-bastion"),
    ):
        again = repeat(scan(post, INNER | {"jump": way}), owner, meta)
        assert (side(again).address.password, jump_of(again).password) == ("canary-inner", password)
    behind = stored(post, INNER | {"name": "behind", "jump": OWN})
    again = repeat(scan(post, {"connection": behind["id"]}), owner, meta)
    assert (side(again).address.password, jump_of(again).password) == ("canary-inner", "canary-jump")
    assert Endpoint.objects.get(job=again).connection_id == int(behind["id"])


def test_loopback_behind_a_jump_host_is_that_host() -> None:
    config = {"protocol": "sftp", "host": "127.0.0.1", "port": 22, "username": "me", "root_path": "/srv"}
    assert endpoints.claim_key(config) == "sftp://localhost:22"
    behind = config | {"jump": {"host": "Bastion", "username": "me"}}
    assert endpoints.claim_key(behind) == "sftp://bastion:22"
    private = config | {"host": "10.0.0.5"}
    one, two = ({"jump": {"host": name, "username": "me"}} for name in ("one", "two"))
    assert endpoints.overlap_refusal(private | one, private | one)
    assert not endpoints.overlap_refusal(private | one, private | two)


# Against real servers


@pytest.fixture
def jump() -> Iterator[OpenSshServer]:
    with OpenSshServer() as server:
        yield server


def own(server: OpenSshServer) -> Json:
    return {
        "host": server.host,
        "port": server.port,
        "username": server.username,
        "ssh_key": server.private_key,
    }


@pytest.mark.slow
def test_probe_shows_and_pins_both_keys(
    post: Post, jump: OpenSshServer, openssh: OpenSshServer, tmp_path: Path
) -> None:
    body = conn(openssh, tmp_path, jump=own(jump))
    found = probe(post, body)
    assert found["success"], found
    names = ["jump", "port", "handshake", "host_key", "login", "session", "list", "write", "read"]
    assert states(found) == dict.fromkeys(names, "ok")
    keys = [found[name] for name in ("jump_host_key", "host_key")]
    assert [(key["fingerprint"], key["status"]) for key in keys] == [
        (jump.fingerprint, "new"),
        (openssh.fingerprint, "new"),
    ]
    assert sorted(HostKey.objects.values_list("port", flat=True)) == sorted([jump.port, openssh.port])
    again = probe(post, body)
    assert [again[name]["status"] for name in ("jump_host_key", "host_key")] == ["known", "known"]
    before = jump.fingerprint
    jump.new_host_key()
    changed = probe(post, body)
    assert not changed["success"]
    assert before in changed["error_message"]
    assert "(the jump host) has changed" in changed["error_message"]
    assert changed["jump_host_key"]["status"] == "changed"
    assert "host_key" not in changed
    assert states(changed)["jump"] == "failed"
    assert changed["verdict"].endswith("Look at the jump host, and at who we are there.")


@pytest.mark.slow
def test_strict_refuses_an_unknown_jump_host(
    post: Post, jump: OpenSshServer, openssh: OpenSshServer, tmp_path: Path, settings: Any
) -> None:
    settings.HOST_KEYS = "strict"
    body = conn(openssh, tmp_path, jump=own(jump), host_key=openssh.fingerprint)
    assert "(the jump host) is unknown" in probe(post, body)["error_message"]
    assert not HostKey.objects.exists()
    body["jump"]["host_key"] = jump.fingerprint
    assert probe(post, body)["success"]


@pytest.mark.slow
def test_connection_is_tested_and_browsed_through_its_jump_host(
    post: Post, api: Client, jump: OpenSshServer, openssh: OpenSshServer, tmp_path: Path
) -> None:
    (tmp_path / "index.html").write_text("hello")
    found = stored(post, conn(openssh, tmp_path, name="inner", jump=own(jump)))
    folder = api.get(f"/api/connections/{found['id']}/browse").json()
    assert [entry["name"] for entry in folder["entries"]] == ["index.html"]
    assert HostKey.objects.count() == 2
    assert post(f"/api/connections/{found['id']}/test", {}).json()["success"]
    assert row(found).last_test is not None
