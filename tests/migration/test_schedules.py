"""Schedules of scans and transfers: what they keep of a request, and what their jobs make of it."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from migration_app import connections, endpoints, secrets
from migration_app.models import Endpoint
from sessions_app import schedules
from sessions_app.models import Job, Role, Schedule, User

Json = dict[str, Any]
Post = Callable[..., Any]

LOCAL = {"protocol": "local", "root_path": "/srv/site"}
SFTP = {
    "protocol": "sftp",
    "host": "example.org",
    "port": 2222,
    "username": "web",
    "password": "canary-one",
    "root_path": "/var/www",
    "jump": {"host": "bastion.example.org", "username": "me", "password": "canary-two"},
}
NIGHTLY = {
    "cron": "0 3 * * *",
    "job": {"type": "transfer", "source_config": SFTP, "dest_config": LOCAL, "exclusions": ["*.log"]},
}


@pytest.fixture
def stored(post: Post) -> Json:
    answer = post("/api/schedules", NIGHTLY)
    assert answer.status_code == 201, answer.content
    return dict(answer.json())


@pytest.fixture
def patch(api: Client, stored: Json) -> Callable[[Json], Any]:
    return lambda body: api.patch(f"/api/schedules/{stored['id']}", body, content_type="application/json")


def run(stored: Json) -> Schedule:
    """Have its time come."""
    Schedule.objects.filter(pk=stored["id"]).update(next_run_at=timezone.now() - timedelta(seconds=1))
    schedules.submit_due()
    return Schedule.objects.get(pk=stored["id"])


def source_of(job: Job) -> endpoints.Side:
    return endpoints.side(job.params["source"], job.params["source_root"])


def test_secrets_go_in_and_never_come_out(api: Client, stored: Json) -> None:
    source = stored["job"]["source_config"]
    assert source["password"] == source["ssh_key"] == source["jump"]["password"] == ""
    assert stored["job"]["exclusions"] == ["*.log"]
    assert stored["name"] == "example.org:/var/www → /srv/site"
    assert "canary" not in json.dumps(list(Schedule.objects.values()), default=str)
    for path in ("/api/schedules", f"/api/schedules/{stored['id']}"):
        assert "canary" not in api.get(path).content.decode()


def test_job_signs_in_with_what_was_kept(stored: Json) -> None:
    run(stored)
    job = Job.objects.get()
    address = source_of(job).address
    assert (address.password, address.jump and address.jump.password) == ("canary-one", "canary-two")
    assert job.params["exclusions"][0]["pattern"] == "*.log"
    assert "canary" not in json.dumps(list(Job.objects.values()), default=str)
    assert (job.title, job.client_ip) == ("example.org:/var/www → /srv/site", "")


def test_secret_stays_with_its_account(patch: Callable[[Json], Any], stored: Json) -> None:
    job = stored["job"] | {"source_config": stored["job"]["source_config"] | {"root_path": "/var/other"}}
    assert patch({"job": job}).status_code == 200
    run(stored)
    address = source_of(Job.objects.get()).address
    assert (address.password, address.jump and address.jump.password) == ("canary-one", "canary-two")
    Job.objects.all().delete()
    for change in (
        {"host": "evil.example"},
        {"username": "root"},
        {"port": 22},
        {"jump": {"host": "evil.example", "username": "me"}},
        {"jump": ""},
    ):
        changed = job | {"source_config": job["source_config"] | change}
        assert patch({"job": changed}).status_code == 200
        assert Schedule.objects.get().sealed == "", change
        patch({"job": NIGHTLY["job"]})


def test_new_secret_replaces_the_kept_one(patch: Callable[[Json], Any], stored: Json) -> None:
    source = stored["job"]["source_config"] | {"password": "canary-three"}
    assert patch({"job": stored["job"] | {"source_config": source}}).status_code == 200
    held = secrets.unseal(Schedule.objects.get().sealed)
    assert held == {"source_config.password": "canary-three", "source_config.jump_password": "canary-two"}


def test_job_of_another_type_takes_nothing_over(patch: Callable[[Json], Any], stored: Json) -> None:
    config = {name: value for name, value in SFTP.items() if name != "password"}
    config["jump"] = {"host": "bastion.example.org", "username": "me"}
    answer = patch({"job": {"type": "scan", "server_config": config}})
    assert (answer.status_code, answer.json()["job"]["type"]) == (200, "scan")
    assert Schedule.objects.get().sealed == ""
    run(stored)
    assert Job.objects.get().type == "scan"


def test_stored_connection_is_referred_to(owner: User, post: Post) -> None:
    web = {name: value for name, value in SFTP.items() if name != "jump"} | {"name": "web"}
    connection = connections.create(owner, web)
    source = {"connection": str(connection.pk), "root_path": "/var/www/site"}
    job = {"type": "transfer", "source_config": source, "dest_config": LOCAL}
    stored = post("/api/schedules", {"cron": "0 3 * * *", "job": job}).json()
    assert stored["job"]["source_config"] == source
    assert Schedule.objects.get().sealed == ""
    connections.update(owner, connection, {"password": "canary-new"}, is_partial=True)
    run(stored)
    assert source_of(Job.objects.get()).address.password == "canary-new"


def test_deleted_connection_is_told_and_the_schedule_stays(owner: User, api: Client, post: Post) -> None:
    web = {name: value for name, value in SFTP.items() if name != "jump"} | {"name": "web"}
    connection = connections.create(owner, web)
    source = {"connection": str(connection.pk), "root_path": "/var/www/site"}
    job = {"type": "transfer", "source_config": source, "dest_config": LOCAL}
    stored = post("/api/schedules", {"cron": "0 3 * * *", "job": job}).json()
    connections.delete(connection)
    assert run(stored).next_run_at > timezone.now()
    found = api.get(f"/api/schedules/{stored['id']}").json()
    assert "no stored connection of this id" in found["last_error"]
    assert not Job.objects.exists()


def test_secrets_whose_key_is_gone_are_told(api: Client, stored: Json, settings: Any) -> None:
    from cryptography.fernet import Fernet

    settings.SECRETS_KEYS = [Fernet.generate_key().decode()]
    run(stored)
    found = api.get(f"/api/schedules/{stored['id']}").json()
    assert "its encryption key is gone" in found["last_error"]


def test_right_that_was_taken_away_counts(owner: User, api: Client, stored: Json) -> None:
    User.objects.filter(pk=owner.pk).update(role=Role.OPERATOR)
    run(stored)
    assert not Job.objects.exists()
    error = api.get(f"/api/schedules/{stored['id']}").json()["last_error"]
    assert error == "dest_config.protocol: Only owners may use folders of this machine."


def test_nothing_is_left_of_a_deleted_schedule(api: Client, stored: Json) -> None:
    assert api.delete(f"/api/schedules/{stored['id']}").status_code == 200
    assert not Schedule.objects.exists()
    assert not Endpoint.objects.exists()


@pytest.mark.parametrize(
    ("job", "name"),
    [
        ({"type": "scan"}, "job.server_config"),
        ({"type": "scan", "server_config": "x"}, "job.server_config"),
        ({"type": "scan", "server_config": LOCAL, "run_at": "2036-01-01T00:00:00Z"}, "job.run_at"),
        ({"type": "scan", "server_config": LOCAL | {"root_path": "srv"}}, "job.server_config.root_path"),
        ({"type": "scan", "server_config": SFTP | {"jump": "a b"}}, "job.server_config.jump"),
        ({"type": "scan", "server_config": SFTP | {"password": 5}}, "job.server_config.password"),
        (
            {"type": "transfer", "source_config": LOCAL, "dest_config": LOCAL},
            "job.dest_config.root_path",
        ),
        ({"type": "scan", "server_config": {"connection": "1"}}, "job.server_config.connection"),
        ({"type": "plan"}, "job.type"),
        ({"type": "verify", "parent": "x"}, "job.type"),
    ],
)
def test_request_that_means_nothing_is_refused_by_name(post: Post, job: Json, name: str) -> None:
    answer = post("/api/schedules", {"cron": "0 3 * * *", "job": job})
    assert (answer.status_code, list(answer.json()["fields"])) == (400, [name]), answer.json()
    assert not Schedule.objects.exists()


def test_session_of_a_type_is_the_same_as_by_its_own_address(post: Post) -> None:
    scan = post("/api/sessions", {"type": "scan", "server_config": LOCAL}).json()
    assert (scan["type"], scan["source_config"]["root_path"]) == ("scan", "/srv/site")
    later = (timezone.now() + timedelta(days=1)).isoformat()
    body = {"type": "transfer", "source_config": SFTP, "dest_config": LOCAL, "run_at": later}
    transfer = post("/api/sessions", body).json()
    assert transfer["source_config"]["password"] == ""
    assert transfer["progress"]["message"].startswith("Starts at ")
    for path in ("/api/scan", "/api/transfer"):
        assert "run_at" in post(path, body).json()["fields"]
    answer = post("/api/sessions", {"type": "scan", "server_config": LOCAL, "odd": 1})
    assert (answer.status_code, list(answer.json()["fields"])) == (400, ["odd"])


def test_verification_is_asked_for_by_its_transfer(post: Post) -> None:
    transfer = post("/api/transfer", {"source_config": SFTP, "dest_config": LOCAL}).json()["id"]
    body = {"type": "verify", "parent": transfer}
    answer = post("/api/sessions", body)
    assert (answer.status_code, answer.json()["status"]) == (409, "pending")
    Job.objects.filter(pk=transfer).update(status="completed")
    answer = post("/api/sessions", body)
    assert (answer.status_code, answer.json()["type"]) == (201, "verify")
    assert answer.json()["parent"] == transfer
    for parent in ("x", "", None, 5, "1b4f0c11-0000-4000-8000-000000000000"):
        answer = post("/api/sessions", body | {"parent": parent})
        assert (answer.status_code, list(answer.json()["fields"])) == (400, ["parent"])
    assert list(post("/api/sessions", body | {"odd": 1}).json()["fields"]) == ["odd"]


def test_operator_schedules_nothing_on_this_machine(owner: User, post: Post) -> None:
    User.objects.filter(pk=owner.pk).update(role=Role.OPERATOR)
    answer = post("/api/schedules", {"cron": "0 3 * * *", "job": {"type": "scan", "server_config": LOCAL}})
    assert list(answer.json()["fields"]) == ["job.server_config.protocol"]
