import json

import pytest
from django.test import Client

from migration_app.models import Endpoint
from migration_app.repeats import request_of
from sessions_app import accounts
from sessions_app.models import Job, Role, User

LOCAL = {"protocol": "local", "root_path": "/srv/site"}
SFTP = {
    "protocol": "sftp",
    "host": "example.org",
    "port": 2222,
    "username": "web",
    "password": "hunter2",
    "root_path": "/var/www",
}
SCAN = {"server_config": SFTP}
TRANSFER = {"source_config": SFTP, "dest_config": LOCAL}


def test_scan_is_accepted_with_its_job(post):
    answer = post("/api/scan", SCAN)
    assert answer.status_code == 202
    job = answer.json()
    assert answer["X-Job-ID"] == job["id"]
    assert (job["type"], job["status"], job["attempt"]) == ("scan", "pending", 1)
    assert job["source_config"]["host"] == "example.org"
    assert job["progress"]["percent_complete"] == 0


def test_slash_at_the_end_is_taken(post):
    assert post("/api/scan/", SCAN).status_code == 202
    assert post("/api/transfer/", TRANSFER).status_code == 202


def test_transfer_starts_with_every_field_of_its_progress(post):
    job = Job.objects.get(pk=post("/api/transfer", TRANSFER).json()["id"])
    created = job.events.get(type="job_created").data
    for name in (
        *("status", "files_transferred", "total_files", "bytes_transferred", "total_bytes", "current_file"),
        *(
            "speed",
            "eta",
            "percent_complete",
            "errors_count",
            "start_time",
            "elapsed_seconds",
            "files_skipped",
        ),
        "bytes_resumed",
    ):
        assert name in created


def test_values_that_change_nothing_are_taken(post):
    answer = post(
        "/api/transfer",
        TRANSFER
        | {
            "method": "rsync_ssh",
            "exclusions": [],
            "bandwidth_limit": 0,
            "enable_resume": True,
            "verify_after_transfer": True,
            "skip_large_files": 0,
            "transfers": 0,
            "dry_run": False,
            "files": [],
            "plan_id": None,
            "delete_extraneous": False,
            "conflict": "overwrite",
            "ignore_errors": False,
        },
    )
    assert answer.status_code == 202
    answer = post(
        "/api/scan", SCAN | {"max_depth": 0, "max_files": 0, "follow_symlinks": False, "detect_cms": True}
    )
    assert answer.status_code == 202


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"bandwidth_limit": -0.5}, "bandwidth_limit"),
        ({"bandwidth_limit": "5"}, "bandwidth_limit"),
        ({"bandwidth_timetable": [{"from": "8:00", "to": "18:00", "limit": 2}]}, "bandwidth_timetable"),
        ({"bandwidth_timezone": "Mars"}, "bandwidth_timezone"),
        ({"transfers": -1}, "transfers"),
        ({"transfers": 257}, "transfers"),
        ({"transfers": 1.5}, "transfers"),
        ({"enable_resume": "no"}, "enable_resume"),
        ({"dry_run": 0}, "dry_run"),
        ({"checksum": "yes"}, "checksum"),
        ({"delete_extraneous": "yes"}, "delete_extraneous"),
        ({"delete_extraneous": True, "files": ["a"]}, "delete_extraneous"),
        ({"delete_extraneous": True, "conflict": "rename"}, "delete_extraneous"),
        ({"confirm_deletions": -1}, "confirm_deletions"),
        ({"confirm_deletions": True}, "confirm_deletions"),
        ({"ignore_errors": "no"}, "ignore_errors"),
        ({"conflict": "merge"}, "conflict"),
        ({"conflict": 7}, "conflict"),
        ({"skip_large_files": "5"}, "skip_large_files"),
        ({"skip_large_files": True}, "skip_large_files"),
        ({"skip_large_files": -1}, "skip_large_files"),
        ({"skip_large_files": 10**12}, "skip_large_files"),
        ({"files": "a"}, "files"),
        ({"files": [7]}, "files"),
        ({"files": [""]}, "files"),
        ({"files": ["."]}, "files"),
        ({"files": ["a/.."]}, "files"),
        ({"files": ["../a"]}, "files"),
        ({"files": ["\\xff/\\x2e\\x2e/a"]}, "files"),
        ({"files": ["/a"]}, "files"),
        ({"files": ["\\xff\\x00"]}, "files"),
        ({"files": ["a" * 4097]}, "files"),
        ({"files": ["a"] * 10_001}, "files"),
        ({"method": "pigeon"}, "method"),
        ({"colour": "red"}, "colour"),
        ({"verify_after_transfer": "yes"}, "verify_after_transfer"),
        ({"verify_after_transfer": 1}, "verify_after_transfer"),
        ({"exclusions": "cache"}, "exclusions"),
        ({"exclusions": [{"pattern": "("} | {"type": "regex"}]}, "exclusions"),
        ({"exclusions": [{"patern": "x"}]}, "exclusions"),
        ({"exclusions": [7]}, "exclusions"),
        ({"source_config": None}, "source_config"),
        ({"source_config": []}, "source_config"),
        ({"source_config": SFTP | {"root_path": "/a/../b"}}, "source_config.root_path"),
        ({"source_config": SFTP | {"root_path": "a"}}, "source_config.root_path"),
        ({"source_config": SFTP | {"root_path": ""}}, "source_config.root_path"),
        ({"source_config": SFTP | {"root_path": "/a\n"}}, "source_config.root_path"),
        ({"source_config": SFTP | {"root_path": "/" + "a" * 4096}}, "source_config.root_path"),
        ({"source_config": SFTP | {"port": "22"}}, "source_config.port"),
        ({"source_config": SFTP | {"port": 65536}}, "source_config.port"),
        ({"source_config": SFTP | {"port": -1}}, "source_config.port"),
        ({"source_config": SFTP | {"port": True}}, "source_config.port"),
        ({"source_config": SFTP | {"host": ""}}, "source_config.host"),
        ({"source_config": SFTP | {"host": "a b"}}, "source_config.host"),
        ({"source_config": SFTP | {"host": "-oProxyCommand=x"}}, "source_config.host"),
        ({"source_config": SFTP | {"username": ""}}, "source_config.username"),
        ({"source_config": SFTP | {"username": "a\nb"}}, "source_config.username"),
        ({"source_config": SFTP | {"password": 7}}, "source_config.password"),
        ({"source_config": SFTP | {"host_key": "MD5:aa"}}, "source_config.host_key"),
        ({"source_config": SFTP | {"protocol": "gopher"}}, "source_config.protocol"),
        ({"source_config": SFTP | {"protocol": "ftp"}}, "source_config.protocol"),
        ({"source_config": SFTP | {"bucket": "b"}}, "source_config.bucket"),
        ({"source_config": SFTP | {"connection": "7"}}, "source_config.connection"),
        ({"dest_config": LOCAL | {"host": "elsewhere"}}, "dest_config.host"),
        ({"source_config": LOCAL}, "dest_config.root_path"),
        ({"source_config": LOCAL | {"root_path": "/srv"}}, "dest_config.root_path"),
    ],
)
def test_bad_field_is_refused_by_name(post, change, field):
    answer = post("/api/transfer", TRANSFER | change)
    assert answer.status_code == 400
    assert field in answer.json()["fields"]
    assert field in answer.json()["error"]
    assert not Job.objects.exists()


FILES = ["a//b/", "./c d", "a/b", "\\xff\\\\", "back\\slash", "\\x41\\\\"]
"""As answers name them: a backslash is one, but where a name is no UTF-8."""


def test_options_of_a_transfer_are_kept_with_the_job(post):
    options = {"conflict": "newer", "dry_run": True, "ignore_errors": True, "skip_large_files": 0.5}
    options |= {"bandwidth_limit": 2.5, "transfers": 3, "follow_symlinks": True, "checksum": True}
    answer = post("/api/transfer", TRANSFER | options | {"files": FILES})
    job = Job.objects.get(pk=answer.json()["id"])
    params = job.params
    assert {name: params[name] for name in options} == options
    # As they are stored: each backslash doubled.
    assert params["files"] == ["a/b", "c d", "\\xff\\\\", "back\\\\slash", "\\\\x41\\\\\\\\"]
    assert request_of(job)["files"] == ["a/b", "c d", *FILES[3:]]
    plain = Job.objects.get(pk=post("/api/transfer", TRANSFER).json()["id"]).params
    assert (plain["conflict"], plain["dry_run"], plain["files"]) == ("overwrite", False, [])
    assert plain["checksum"] is False


@pytest.mark.parametrize(
    "change",
    [
        {"max_depth": -1},
        {"max_depth": "2"},
        {"max_files": True},
        {"max_files": 10**12},
        {"follow_symlinks": 1},
    ],
)
def test_bad_option_of_a_scan_is_refused_by_name(post, change):
    answer = post("/api/scan", SCAN | change)
    assert answer.status_code == 400
    assert list(answer.json()["fields"]) == list(change)


@pytest.mark.parametrize(
    "body", [b"{", b"", b"[]", b"7", b"\xff", b'{"server_config": NaN}', b"[" * 100_000, b'"\\ud800"']
)
def test_body_that_is_no_request_is_400(api, body):
    for path in ("/api/scan", "/api/scan/stream", "/api/transfer", "/api/transfer/stream"):
        answer = api.post(path, body, content_type="application/json")
        assert answer.status_code == 400
        assert answer.json()["error"]


def test_body_over_the_limit_is_413(api):
    answer = api.post("/api/scan", b" " * (2**20 + 1), content_type="application/json")
    assert answer.status_code == 413
    assert answer.json()["error"] == "The request body is larger than 1 MiB."


def test_other_media_type_is_415(api):
    assert api.post("/api/scan", b"<scan/>", content_type="application/xml").status_code == 415


def test_scp_is_taken_as_sftp(post):
    answer = post("/api/scan", {"server_config": SFTP | {"protocol": "scp"}})
    assert answer.json()["source_config"]["protocol"] == "sftp"


def test_detours_in_a_path_are_taken_out(post):
    answer = post("/api/scan", {"server_config": SFTP | {"root_path": "//var//www/./"}})
    assert answer.json()["source_config"]["root_path"] == "/var/www"


def test_secrets_are_sealed_and_never_shown(api, post):
    secrets = {"password": "hunter2", "ssh_key": "-----BEGIN hunter3", "passphrase": "hunter4"}
    answer = post("/api/transfer", {"source_config": SFTP | secrets, "dest_config": LOCAL})
    job = Job.objects.get(pk=answer.json()["id"])
    texts = [
        answer.content.decode(),
        api.get("/api/sessions").content.decode(),
        json.dumps([job.params, job.public, job.progress, list(job.events.values_list("data", flat=True))]),
        json.dumps(list(Endpoint.objects.values("host", "options", "sealed"))),
    ]
    for text in texts:
        assert "hunter" not in text
    assert answer.json()["source_config"]["password"] == ""


def test_source_inside_the_destination_is_never_deleted(post, tmp_path):
    """Not by any of its names either."""
    (tmp_path / "all/site").mkdir(parents=True)
    (tmp_path / "other name").symlink_to("all/site")
    inside = [(LOCAL | {"root_path": f"{tmp_path}/{name}"}) for name in ("all/site", "other name")]
    pairs = [(source, LOCAL | {"root_path": f"{tmp_path}/all"}) for source in inside]
    pairs.append((SFTP, SFTP | {"root_path": "/var/", "username": "admin"}))
    for source, destination in pairs:
        ends = {"source_config": source, "dest_config": destination}
        answer = post("/api/transfer", ends | {"delete_extraneous": True})
        assert answer.status_code == 400
        assert "The source lies inside the destination" in json.dumps(answer.json())
        assert post("/api/transfer", ends).status_code == 202


def test_deletions_that_were_confirmed_once_are_asked_about_when_it_is_done_again(post):
    options = {"delete_extraneous": True, "confirm_deletions": 5000}
    job = Job.objects.get(pk=post("/api/transfer", TRANSFER | options).json()["id"])
    again = request_of(job)
    assert again["delete_extraneous"] is True
    assert "confirm_deletions" not in again


def test_same_key_gives_the_same_job_and_another_body_a_conflict(post):
    first = post("/api/scan", SCAN, **{"Idempotency-Key": "k1"})
    again = post("/api/scan", SCAN, **{"Idempotency-Key": "k1"})
    other = post("/api/scan", {"server_config": LOCAL}, **{"Idempotency-Key": "k1"})
    assert (first.status_code, again.status_code, other.status_code) == (202, 200, 409)
    assert first.json()["id"] == again.json()["id"]
    assert other.json()["error"]
    assert Job.objects.count() == 1
    assert post("/api/scan", SCAN).status_code == 202


def test_operator_may_not_use_folders_of_the_machine(owner):
    person = User.objects.create(username="op", role=Role.OPERATOR)
    client = Client(headers={"Authorization": f"Bearer {accounts.create_token(person)}"})
    answer = client.post("/api/scan", {"server_config": LOCAL}, content_type="application/json")
    assert answer.status_code == 400
    assert "server_config.protocol" in answer.json()["fields"]
    assert client.post("/api/scan", SCAN, content_type="application/json").status_code == 202


def test_local_reaches_only_its_roots_and_never_the_data_directory(post, settings, tmp_path):
    settings.LOCAL_ROOTS = ["/srv"]
    assert post("/api/scan", {"server_config": LOCAL}).status_code == 202
    for path in ("/srv2", "/", "/etc"):
        answer = post("/api/scan", {"server_config": LOCAL | {"root_path": path}})
        assert "server_config.root_path" in answer.json()["fields"]
    settings.LOCAL_ROOTS = ["/"]
    answer = post("/api/scan", {"server_config": LOCAL | {"root_path": f"{settings.DATA_DIR}/x"}})
    assert "data directory" in answer.json()["error"]


def test_stranger_starts_nothing(client, transactional_db):
    for path in ("/api/scan", "/api/scan/stream", "/api/transfer", "/api/transfer/stream"):
        assert client.post(path, SCAN, content_type="application/json").status_code == 401
        assert client.get(path).status_code in (401, 405)
    assert not Job.objects.exists()
