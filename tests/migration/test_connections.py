"""Stored connections: what is kept, what is never told, and what goes when a server changes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from migration_app import connections, endpoints
from migration_app.models import Endpoint, HostKey
from migration_app.secrets import CannotOpen
from migration_app.storages.base import HostKey as Key
from sessions_app import accounts, jobs
from sessions_app.models import Job, Role, User
from tests.migration.test_probe import conn
from tests.servers.openssh import OpenSshServer

Post = Callable[..., Any]
Json = dict[str, Any]

WEB = {
    "name": "web",
    "protocol": "sftp",
    "host": "example.org",
    "port": 2222,
    "username": "web",
    "password": "canary-one",
    "root_path": "/var/www",
}
LOCAL = {"protocol": "local", "root_path": "/srv/copy"}


@pytest.fixture
def stored(post: Post) -> Json:
    answer = post("/api/connections", WEB)
    assert answer.status_code == 201, answer.content
    return dict(answer.json())


@pytest.fixture
def patch(api: Client, stored: Json) -> Callable[[Json], Any]:
    return lambda body: api.patch(f"/api/connections/{stored['id']}", body, content_type="application/json")


def row(stored: Json) -> Endpoint:
    return Endpoint.objects.get(pk=stored["id"])


def password(endpoint: Endpoint) -> str:
    return endpoints.side_at(endpoint, "/").address.password


def scan(post: Post, config: Json) -> Job:
    answer = post("/api/scan", {"server_config": config})
    assert answer.status_code == 202, answer.content
    return Job.objects.get(pk=answer.json()["id"])


def side(job: Job) -> endpoints.Side:
    return endpoints.side(job.params["endpoint"], job.params["root"])


def test_connection_is_listed_and_read_without_its_secret(api: Client, stored: Json) -> None:
    assert stored["password"] == stored["ssh_key"] == stored["passphrase"] == ""
    assert stored["secrets_stored"] == ["password"]
    assert (stored["name"], stored["host"], stored["root_path"]) == ("web", "example.org", "/var/www")
    assert api.get("/api/connections").json() == [stored]
    assert api.get(f"/api/connections/{stored['id']}").json() == stored
    assert api.get(f"/api/connections/{stored['id']}/").json() == stored
    assert password(row(stored)) == "canary-one"
    assert "canary" not in json.dumps(list(Endpoint.objects.values()), default=str)


def test_list_is_paged_newest_first(api: Client, post: Post, stored: Json) -> None:
    newer = post("/api/connections", WEB | {"name": "newer"}).json()
    first = api.get("/api/connections?limit=1")
    assert [found["id"] for found in first.json()] == [newer["id"]]
    assert first["X-Total-Count"] == "2"
    rest = api.get(first["Link"].partition(">")[0].lstrip("<"))
    assert [found["id"] for found in rest.json()] == [stored["id"]]
    assert "Link" not in rest.headers
    assert api.get("/api/connections?cursor=x").status_code == 400
    for address in ("/api/connections", f"/api/connections/{stored['id']}/browse"):
        answer = api.get(f"{address}?q=web")
        assert (answer.status_code, list(answer.json()["fields"])) == (400, ["q"])


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "a:b"}, "name"),
        ({"name": "a/b"}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": "x" * 101}, "name"),
        ({"name": " web "}, "name"),
        ({"host": ""}, "host"),
        ({"connection": "1"}, "connection"),
        ({"jump": {"host": ""}}, "jump.host"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_bad_field_is_refused_by_name(post: Post, stored: Json, change: Json, field: str) -> None:
    answer = post("/api/connections", WEB | {"name": "other"} | change)
    assert answer.status_code == 400
    assert field in answer.json()["fields"]
    assert Endpoint.objects.count() == 1


def test_empty_secret_keeps_the_stored_one(api: Client, stored: Json, patch: Callable[[Json], Any]) -> None:
    assert patch({"name": "site", "password": ""}).json()["name"] == "site"
    assert password(row(stored)) == "canary-one"
    body = WEB | {"password": "", "root_path": "/srv"}
    answer = api.put(f"/api/connections/{stored['id']}", body, content_type="application/json")
    assert answer.json()["root_path"] == "/srv"
    assert password(row(stored)) == "canary-one"
    assert patch({"password": "canary-two"}).json()["secrets_stored"] == ["password"]
    assert password(row(stored)) == "canary-two"


def test_answer_that_is_sent_back_changes_nothing(api: Client, stored: Json) -> None:
    address = f"/api/connections/{stored['id']}"
    for method in (api.put, api.patch):
        answer = method(address, stored, content_type="application/json")
        assert (answer.status_code, answer.json()) == (200, stored)
    for change in ({"id": "0"}, {"secrets_stored": []}, {"created_at": None}):
        answer = api.put(address, stored | change, content_type="application/json")
        assert (answer.status_code, list(answer.json()["fields"])) == (400, list(change))
    assert password(row(stored)) == "canary-one"


def test_test_takes_no_fields(post: Post, stored: Json) -> None:
    answer = post(f"/api/connections/{stored['id']}/test", {"host": "other.example.org"})
    assert (answer.status_code, list(answer.json()["fields"])) == (400, ["host"])
    assert post(f"/api/connections/{stored['id']}/test", ["host"]).status_code == 400


def test_new_key_drops_the_passphrase_of_the_old_one(stored: Json, patch: Callable[[Json], Any]) -> None:
    patch({"ssh_key": "old", "passphrase": "canary"})
    assert patch({"ssh_key": "new"}).json()["secrets_stored"] == ["password", "ssh_key"]


@pytest.mark.parametrize(
    "change", [{"host": "elsewhere.org"}, {"port": 22}, {"username": "root"}, LOCAL], ids=str
)
def test_other_server_or_user_drops_secret_and_pin(
    stored: Json, patch: Callable[[Json], Any], change: Json
) -> None:
    endpoints.pin(row(stored), Key("ssh-ed25519", "SHA256:x"))
    patch({"host_key": "SHA256:" + "A" * 43})
    answer = patch(change)
    assert answer.status_code == 200, answer.content
    assert answer.json()["secrets_stored"] == []
    assert "host_key" not in answer.json()
    assert not row(stored).sealed
    assert not HostKey.objects.exists()


def test_same_server_written_otherwise_keeps_secret_and_pin(
    stored: Json, patch: Callable[[Json], Any]
) -> None:
    endpoints.pin(row(stored), Key("ssh-ed25519", "SHA256:x"))
    assert patch({"host": "EXAMPLE.org."}).json()["secrets_stored"] == ["password"]
    assert HostKey.objects.exists()


def test_pin_stays_while_another_connection_goes_to_the_server(
    post: Post, stored: Json, patch: Callable[[Json], Any]
) -> None:
    endpoints.pin(row(stored), Key("ssh-ed25519", "SHA256:x"))
    post("/api/connections", WEB | {"name": "other", "username": "somebody"})
    patch({"host": "elsewhere.org"})
    assert HostKey.objects.exists()


def test_job_refers_to_the_stored_secret(post: Post, stored: Json, patch: Callable[[Json], Any]) -> None:
    job = scan(post, {"connection": stored["id"], "root_path": "/var/www/one"})
    endpoint = Endpoint.objects.get(pk=job.params["endpoint"])
    assert (endpoint.sealed, endpoint.connection_id) == ("", int(stored["id"]))
    assert job.public["source_config"]["host"] == "example.org"
    assert job.public["source_config"]["root_path"] == "/var/www/one"
    patch({"password": "canary-two"})
    assert side(job).address.password == "canary-two"
    assert scan(post, {"connection": stored["id"]}).params["root"] == "/var/www"


def test_transfer_takes_connections_on_both_sides(post: Post, stored: Json) -> None:
    body = {
        "source_config": {"connection": stored["id"]},
        "dest_config": {"connection": stored["id"], "root_path": "/var/copy"},
    }
    answer = post("/api/transfer", body)
    assert answer.status_code == 202, answer.content
    job = Job.objects.get(pk=answer.json()["id"])
    assert (job.params["source_root"], job.params["destination_root"]) == ("/var/www", "/var/copy")
    again = post("/api/transfer", {"source_config": job.public["source_config"], "dest_config": LOCAL})
    assert again.status_code == 202


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"connection": "999"}, "connection"),
        ({"connection": "x"}, "connection"),
        ({"connection": 1}, "connection"),
        ({"host": "elsewhere.org"}, "host"),
        ({"password": "p"}, "password"),
        ({"colour": "red"}, "colour"),
        ({"root_path": "relative"}, "root_path"),
    ],
)
def test_bad_reference_is_refused_by_name(post: Post, stored: Json, change: Json, field: str) -> None:
    answer = post("/api/scan", {"server_config": {"connection": stored["id"]} | change})
    assert answer.status_code == 400
    assert f"server_config.{field}" in answer.json()["fields"]
    assert not Job.objects.exists()


def test_request_without_a_secret_uses_the_one_stored_for_its_account(post: Post, stored: Json) -> None:
    config = {name: WEB[name] for name in ("protocol", "port", "username", "root_path")}
    assert side(scan(post, config | {"host": "Example.org"})).address.password == "canary-one"
    assert side(scan(post, config | {"host": "example.org", "password": "own"})).address.password == "own"
    for other in ({"host": "example.com"}, {"host": "example.org", "username": "root"}):
        assert side(scan(post, config | other)).address.password == ""


def test_others_see_and_use_nothing(post: Post, stored: Json) -> None:
    stranger = User.objects.create(username="stranger", role=Role.OPERATOR)
    client = Client(headers={"Authorization": f"Bearer {accounts.create_token(stranger)}"})
    path = f"/api/connections/{stored['id']}"
    assert client.get("/api/connections").json() == []
    for call, address in (
        *((client.get, path), (client.delete, path), (client.post, f"{path}/test")),
        *((client.patch, path), (client.put, path), (client.get, f"{path}/browse")),
    ):
        assert call(address).status_code == 404
    config = {name: WEB[name] for name in ("protocol", "host", "port", "username", "root_path")}
    answer = client.post("/api/scan", {"server_config": config}, content_type="application/json")
    assert side(Job.objects.get(pk=answer.json()["id"])).address.password == ""
    refused = client.post(
        "/api/scan", {"server_config": {"connection": stored["id"]}}, content_type="application/json"
    )
    assert refused.status_code == 400
    assert client.post("/api/connections", WEB, content_type="application/json").status_code == 201


def test_connection_of_an_unfinished_job_stays(
    api: Client, post: Post, stored: Json, patch: Callable[[Json], Any]
) -> None:
    job = scan(post, {"connection": stored["id"]})
    answer = api.delete(f"/api/connections/{stored['id']}")
    assert answer.status_code == 409
    assert "a job that is not finished uses it" in answer.json()["error"]
    assert patch({"host": "elsewhere.org"}).status_code == 409
    assert patch({"password": "canary-two"}).status_code == 200
    jobs.cancel(job.pk)
    assert api.delete(f"/api/connections/{stored['id']}").json() == {"message": "Connection deleted"}
    assert api.get(f"/api/connections/{stored['id']}").status_code == 404
    assert not connections.of(job.owner).exists()


def test_finished_job_does_not_get_the_secret_of_another_server(
    post: Post, stored: Json, patch: Callable[[Json], Any]
) -> None:
    job = scan(post, {"connection": stored["id"]})
    jobs.cancel(job.pk)
    assert patch({"host": "elsewhere.org", "password": "canary-two"}).status_code == 200
    with pytest.raises(CannotOpen):
        side(job)


def test_operator_reaches_no_folder_of_the_machine_through_a_connection(owner: User) -> None:
    person = User.objects.create(username="op", role=Role.OPERATOR)
    client = Client(headers={"Authorization": f"Bearer {accounts.create_token(person)}"})
    body = LOCAL | {"name": "here"}
    assert client.post("/api/connections", body, content_type="application/json").status_code == 400
    kept = Endpoint.objects.create(owner=person, name="here", protocol="local", root_path="/srv")
    assert client.get(f"/api/connections/{kept.pk}/browse").status_code == 400
    use = {"server_config": {"connection": str(kept.pk)}}
    assert client.post("/api/scan", use, content_type="application/json").status_code == 400


def test_folder_is_listed_folders_first(api: Client, post: Post, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "a.txt").write_text("hello")
    (tmp_path / "z").symlink_to("/etc")
    stored = post(
        "/api/connections", {"name": "here", "protocol": "local", "root_path": str(tmp_path)}
    ).json()
    found = api.get(f"/api/connections/{stored['id']}/browse").json()
    assert [(entry["name"], entry["type"]) for entry in found["entries"]] == [
        *(("b", "folder"), ("a.txt", "file"), ("z", "link"))
    ]
    assert (found["path"], found["parent"]) == (str(tmp_path), str(tmp_path.parent))
    assert found["entries"][1]["size_bytes"] == 5
    assert found["entries"][0]["path"] == str(tmp_path / "b")
    assert (found["total"], found["is_truncated"]) == (3, False)
    below = api.get(f"/api/connections/{stored['id']}/browse", {"path": str(tmp_path / "b")}).json()
    assert below["entries"] == []
    for bad in ("relative", "/a/../b", str(tmp_path / "a.txt"), str(tmp_path / "nowhere"), "/a\0b"):
        answer = api.get(f"/api/connections/{stored['id']}/browse", {"path": bad})
        assert answer.status_code == 400, bad
        assert "path" in answer.json()["fields"]


@pytest.mark.slow
def test_server_is_tested_and_browsed_with_the_stored_key(
    api: Client, post: Post, openssh: OpenSshServer, tmp_path: Path
) -> None:
    (tmp_path / "site").mkdir()
    Path(str(tmp_path).encode().decode() + "/caf\udce9").touch()
    stored = post("/api/connections", {"name": "server", **conn(openssh, tmp_path)}).json()
    assert "last_test" not in stored
    path = f"/api/connections/{stored['id']}"
    found = api.post(f"{path}/test").json()
    assert found["success"], found
    last = api.get(path).json()["last_test"]
    assert last["success"]
    assert last["latency_ms"] == found["performance"]["latency_ms"]
    assert last["tested_at"].endswith("Z")
    listed = api.get(f"{path}/browse").json()["entries"]
    assert [entry["name"] for entry in listed] == ["site", "caf\\xe9"]
    assert listed[1]["name_b64"] == "Y2Fm6Q=="
    assert "path" not in listed[1]
    key = openssh.private_key.splitlines()[2]
    assert key not in json.dumps([found, last, listed])


@pytest.mark.slow
def test_server_that_cannot_be_reached_is_told_when_browsing(api: Client, post: Post) -> None:
    body = WEB | {"host": "127.0.0.1", "port": 1}
    stored = post("/api/connections", body).json()
    answer = api.get(f"/api/connections/{stored['id']}/browse")
    assert answer.status_code == 400
    assert "nothing listens" in answer.json()["error"]
    found = api.post(f"/api/connections/{stored['id']}/test").json()
    assert not found["success"]
    assert "canary" not in json.dumps(found)
